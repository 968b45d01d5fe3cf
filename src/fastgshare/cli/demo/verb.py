"""The verb itself: options, progress, and what is printed."""

from __future__ import annotations

import asyncio
import json
import signal
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from fastgshare.cli import options
from fastgshare.cli.demo.answers import read_samples
from fastgshare.cli.demo.stages import Plan, Stages
from fastgshare.cli.output import print_json, stdout, table
from fastgshare.domain.errors import FastGShareError, InvalidValue
from fastgshare.report.demo import demo_page
from fastgshare.spec import references
from fastgshare.spec.functions import load_file

_EXAMPLES = Path("examples") / "functions.yaml"


@click.command()
@click.option(
    "-f",
    "--file",
    type=click.Path(path_type=Path),
    default=_EXAMPLES,
    show_default=True,
    help="Functions to show; each names an input in its annotation demo/input.",
)
@click.option(
    "--rounds",
    type=click.IntRange(1, 50),
    default=6,
    show_default=True,
    help="How often both ways of sharing are measured, in turn.",
)
@click.option(
    "--round-seconds",
    type=options.FiniteRange(0.5, 60),
    default=4.0,
    show_default=True,
    help="How long each is measured in a round.",
)
@click.option(
    "--quota-seconds",
    type=options.FiniteRange(1, 600),
    default=10.0,
    show_default=True,
    help="How long quotas are checked against the ledger.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("runs") / "demo",
    show_default=True,
    help="Where report.json and report.html are written.",
)
@options.as_json
def demo(file: Path, rounds: int, round_seconds: float, quota_seconds: float, out: Path, as_json: bool) -> None:
    """Serve the examples here, and measure what shares in space and time bring over sharing in time alone.

    Starts a platform of its own, answers one real input per function, then floods the same functions in turn on the
    whole device one after the other, and on their shares. Ends by itself and leaves only its report.
    """
    if not file.is_file():
        raise InvalidValue("--file", str(file), "a functions.yaml; run the demo from a checkout, or name yours")
    functions = load_file(file)
    for function in functions:
        references.check(function)
    samples = read_samples(functions, file.parent)
    plan = Plan(functions, samples, rounds, round_seconds, quota_seconds)
    with tempfile.TemporaryDirectory(prefix="fastgshare-demo-") as directory:
        document = asyncio.run(_until_interrupted(Stages(plan, Path(directory), quiet=as_json)))
    _write(document, out)
    if as_json:
        print_json(document)
    else:
        _print(document, out)


async def _until_interrupted(stages: Stages) -> dict[str, Any]:
    """Run all stages; SIGTERM ends them in order, as Ctrl-C does."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        return await stages.run()
    except* FastGShareError as group:
        first: BaseException = group
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from None


def _write(document: Mapping[str, Any], out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "report.json").write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
        (out / "report.html").write_text(demo_page(document))
    except OSError as error:
        raise FastGShareError(f"the report cannot be written to {out}: {error.strerror}") from error


def _print(document: Mapping[str, Any], out: Path) -> None:
    throughput, quota = document["throughput"], document["quota"]
    rows = table(["function", "sharing in time, req/s", "on shares, req/s", "ratio"])
    for name, ratio in throughput["ratios"].items():
        alone, shared = throughput["time_sharing_rps"][name], throughput["fast_rps"][name]
        rows.add_row(name, f"{alone:.1f}", f"{shared:.1f}", f"{ratio:.2f}x")
    click.echo()
    stdout().print(rows)
    click.echo(f"\non shares {throughput['ratio']:.2f} times the throughput of sharing in time (geometric mean)")
    error = quota["max_error_pp"]
    said = "not known: no instance was backlogged all the time" if error is None else f"{error:.2f} percentage points"
    click.echo(f"largest quota error {said} over {quota['seconds']:.1f} s")
    click.echo(f"report: {out / 'report.html'} and {out / 'report.json'}")
