"""``fastgshare bench tokens``: the real daemon under saturated synthetic instances."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from fastgshare.cli import options
from fastgshare.cli.output import print_json, stderr, stdout, table
from fastgshare.domain.errors import FastGShareError, InvalidValue, NoPlacement
from fastgshare.domain.rects import Rect
from fastgshare.domain.shares import Share
from fastgshare.manager.trial import ABSTRACT, Contender, Result, run_trial
from fastgshare.scheduler.packing import Demand, pack, pack_what_fits
from fastgshare.spec.shares import parse_share

REFERENCE: Final = (
    "For comparison, the reference implementation's token scheduler (its own code, saturated instances, 40 ms window):",
    "  4 x 30% + 95% SM: peak sum 215, above 100 for 70% of the time; a quota of .3 held 44%, one of .5 held 65%;",
    "  a dead instance froze its neighbour for 10 s; one malformed frame ended the scheduler.",
)


@dataclass(frozen=True, slots=True)
class Kill:
    """Instance number (from 1) to be killed, and when, in seconds from the start of counting."""

    number: int
    when_s: float


def _read_shares(context: click.Context, parameter: click.Parameter, texts: Sequence[str]) -> tuple[Share, ...]:
    return tuple(_read_share(text) for text in texts)


def _read_share(text: str) -> Share:
    share = parse_share(text)
    if share.mem_bytes:
        raise InvalidValue(f"mem of share {text}", share.mem_bytes, "none: the abstract device has no memory")
    return share


def _read_kill(context: click.Context, parameter: click.Parameter, text: str | None) -> Kill | None:
    """``2@1.5``: the second instance, after 1.5 s."""
    if text is None:
        return None
    number, _, when = text.partition("@")
    try:
        return Kill(int(number), float(when))
    except ValueError:
        raise click.BadParameter(f"{text!r} is not NUMBER@SECONDS, as in 2@1.5") from None


@click.command()
@click.option(
    "--instance",
    "shares",
    callback=_read_shares,
    multiple=True,
    required=True,
    metavar="SHARE",
    help="A saturated instance, as sm=PERCENT,request=FRACTION[,limit=FRACTION]; give one per instance.",
)
@click.option(
    "--seconds", type=options.FiniteRange(0.2, 600), default=5.0, show_default=True, help="How long to count."
)
@click.option(
    "--policy",
    type=click.Choice(["fast", "time-sharing"]),
    default="fast",
    show_default=True,
    help="fast: in space and time. time-sharing: each instance on the whole device in turn.",
)
@click.option(
    "--burst-ms",
    type=options.FiniteRange(0, 1000),
    default=0.0,
    show_default=True,
    help="Length of uninterruptible work; 0: work that can stop at any moment.",
)
@click.option(
    "--window-ms",
    type=options.FiniteRange(5, 2000),
    default=40.0,
    show_default=True,
    help="The window over which quotas hold.",
)
@click.option(
    "--kill",
    callback=_read_kill,
    metavar="NUMBER@SECONDS",
    help="Kill the instance of that number (from 1) after so many seconds, and report the longest gap of the others.",
)
@click.option("--force", is_flag=True, help="Run a set that has no place: who has no slot lives on what others leave.")
@options.as_json
def tokens(
    shares: tuple[Share, ...],
    seconds: float,
    policy: str,
    burst_ms: float,
    window_ms: float,
    kill: Kill | None,
    force: bool,
    as_json: bool,
) -> None:
    """Run the real node daemon with saturated synthetic instances on an abstract device of 100 units.

    Each instance holds its token whenever it may, without burning a core. Prints what each held of the time, the
    largest shortfall of a window, the largest sum of SMs held at once, and what the daemon cost.
    """
    if kill is not None and not (1 <= kill.number <= len(shares) and 0 <= kill.when_s < seconds):
        raise InvalidValue("--kill", f"{kill.number}@{kill.when_s:g}", f"1 to {len(shares)} @ 0 up to {seconds:g} s")
    effective = _on_the_whole_device(shares) if policy == "time-sharing" else list(shares)
    contenders = _contenders(effective, burst_ms / 1000, window_ms / 1000, force)
    killed = (contenders[kill.number - 1].id, kill.when_s) if kill else None
    result = asyncio.run(_run(contenders, seconds, window_ms / 1000, killed, quiet=as_json))
    if as_json:
        print_json(_document(result, policy, contenders))
    else:
        _print(result, contenders)


def _on_the_whole_device(shares: Sequence[Share]) -> list[Share]:
    """Sharing in time alone: everybody has all SMs in turn, and requests are scaled down to what a window has."""
    scale = min(1.0, 1 / sum(share.quota_request for share in shares))
    return [
        Share(100, share.quota_request * scale, max(share.quota_limit, share.quota_request * scale)) for share in shares
    ]


def _contenders(shares: Sequence[Share], burst_s: float, window_s: float, force: bool) -> list[Contender]:
    """Place the instances. Raises `click.UsageError` with the reason if they have no place and nobody insists."""
    demands = [Demand.new(f"instance-{i}", share, burst_s) for i, share in enumerate(shares, 1)]
    rects: dict[str, Rect] = {}
    try:
        rects = {p.instance_id: p.rect for p in pack(ABSTRACT, demands, window_s=window_s).placements}
    except NoPlacement as error:
        if not force:
            raise click.UsageError(
                f"these shares have no place on the device: {error}; --force runs them all the same"
            ) from error
        rects = {p.instance_id: p.rect for p in pack_what_fits(ABSTRACT, demands)[0]}
    return [
        Contender(d.instance_id, s, rects.get(d.instance_id), burst_s) for d, s in zip(demands, shares, strict=True)
    ]


async def _run(
    contenders: Sequence[Contender], seconds: float, window_s: float, kill: tuple[str, float] | None, *, quiet: bool
) -> Result:
    columns = (TextColumn("counting"), BarColumn(), TimeRemainingColumn())
    with tempfile.TemporaryDirectory(prefix="fastgshare-bench-") as directory:
        trial = asyncio.ensure_future(run_trial(contenders, seconds, Path(directory), kill=kill, window_s=window_s))
        with Progress(*columns, console=stderr(), transient=True, disable=quiet) as progress:
            task = progress.add_task("", total=seconds + 1)
            while not trial.done():
                await asyncio.wait([trial], timeout=0.2)
                progress.advance(task, 0.2)
        try:
            return trial.result()
        except OSError as error:
            raise FastGShareError(f"the trial could not run: {error}") from error


def _document(result: Result, policy: str, contenders: Sequence[Contender]) -> dict[str, object]:
    placed = {c.id: c.rect is not None for c in contenders}
    return {
        "instances": [
            {
                "id": o.id,
                "sm": o.share.sm_partition,
                "request": round(o.share.quota_request, 6),
                "limit": round(o.share.quota_limit, 6),
                "held": round(o.held, 6),
                "worst_window": round(o.worst_window, 3),
                "placed": placed[o.id],
                "killed": o.killed,
                "longest_gap_ms": round(o.longest_gap_ms, 3),
            }
            for o in result.outcomes
        ],
        "peak_sm_sum": result.peak_sm_sum,
        "share_over_100": result.share_over_100,
        "grants_per_s": round(result.grants_per_s, 1),
        "daemon_cpu_share": round(result.daemon_cpu_share, 5),
        "grant_p50_us": round(result.grant_p50_us, 1),
        "grant_p99_us": round(result.grant_p99_us, 1),
        "longest_gap_ms": round(result.longest_gap_ms, 3),
        "policy": policy,
        "seconds": result.seconds,
        "window_ms": result.window_s * 1000,
    }


def _print(result: Result, contenders: Sequence[Contender]) -> None:
    placed = {c.id: c.rect is not None for c in contenders}
    rows = table(["instance", "sm %", "request", "limit", "held", "error pp", "worst window pp", "longest gap ms", ""])
    for o in result.outcomes:
        error = 100 * (min(0.0, o.held - o.share.quota_request) + max(0.0, o.held - o.share.quota_limit))
        note = "killed" if o.killed else "" if placed[o.id] else "no slot (forced)"
        rows.add_row(
            *(o.id, f"{o.share.sm_partition:g}", f"{o.share.quota_request:.3f}", f"{o.share.quota_limit:.3f}"),
            *(f"{o.held:.4f}", f"{error:+.2f}", f"{o.worst_window:.1f}", f"{o.longest_gap_ms:.1f}", note),
        )
    stdout().print(rows)
    click.echo(
        f"SM sum: at most {result.peak_sm_sum:g}, above 100 for {100 * result.share_over_100:g}% of the time\n"
        f"grants: {result.grants_per_s:.0f} a second, due to held p50 {result.grant_p50_us:.0f} us, "
        f"p99 {result.grant_p99_us:.0f} us; longest gap of an instance {result.longest_gap_ms:.1f} ms\n"
        f"node daemon: {100 * result.daemon_cpu_share:.2f}% of a core"
    )
    click.echo("error: what is missing from a request, or held beyond a limit")
    click.echo("\n" + "\n".join(REFERENCE))
