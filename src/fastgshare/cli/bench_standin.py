"""``fastgshare bench standin``: how near the stand-in GPU is to what was published of a real one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import Final, TypeVar

import click
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from fastgshare.cli import options
from fastgshare.cli.output import print_json, stderr, stdout, table
from fastgshare.sim import calibration, predictions
from fastgshare.sim.calibration import Fit
from fastgshare.sim.experiments import Policy
from fastgshare.sim.predictions import Comparison, Gain, Study
from fastgshare.sim.published import RATIO, SMS, Point
from fastgshare.sim.traces import load

ABOUT: Final = (
    "This is a stand-in, not a GPU: every figure below is modelled, in virtual time, beside what was published."
)
_FITS_RUNS: Final = 900  # about as many as both searches take
_Result = TypeVar("_Result")


@click.command()
@click.option(
    "--fit", "fits", is_flag=True, help="Fit the traces anew to the sets that are for it, and print the scales."
)
@options.as_json
def standin(fits: bool, as_json: bool) -> None:
    """Compare the stand-in GPU's model with published throughputs of a V100.

    Replays kernel traces shaped like ResNet-50 and RNN-T in virtual time, on the stand-in's own timeline: as fitted to
    three published sets, then the sets that it was not fitted to, under the token policy of the reference's lineage,
    under ours, and with SM partitions alone. The same figures every time.
    """
    if fits:
        found = _with_progress(
            "fitting", _FITS_RUNS, lambda go: [calibration.fit(n, go) for n in calibration.FITTED], as_json
        )
        print_json({"standin": True, "fits": [_fit(f) for f in found]}) if as_json else _print_fits(found)
        return
    study = _with_progress("replaying", predictions.runs(), predictions.study, as_json)
    print_json(_document(study)) if as_json else _print(study)


def _with_progress(what: str, total: int, work: Callable[[Callable[[], None]], _Result], quiet: bool) -> _Result:
    columns = (TextColumn(what), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=stderr(), transient=True, disable=quiet) as progress:
        task = progress.add_task("", total=total)
        return work(lambda: progress.advance(task))


# --- as a document ---------------------------------------------------------------------------------------------------


def _document(study: Study) -> dict[str, object]:
    return {
        "standin": True,
        "about": ABOUT,
        "sms": SMS,
        "traces": [
            {"name": t.name, "kernels": t.launches, "host_ms": t.host_ns / 1e6, "device_ms": t.device_ns / 1e6}
            | {"scales": asdict(t.scales)}
            for t in study.traces
        ],
        "goal": predictions.GOAL,
        "calibration": [_comparison(c) for c in study.calibration],
        "predictions": [_comparison(c) for c in study.predictions],
        "beyond_goal": {policy.value: _beyond(study, policy) for policy in _predicting(study)},
        "reference_policy": [
            {
                "quota": h.quota,
                "burst_ms": predictions.BURST_NS / 1e6,
                "measured": h.measured,
                "modelled": round(h.modelled, 4),
            }
            for h in study.held
        ],
        "gain": {"replicas": predictions.MANY, "paper": RATIO, "modelled": [_gain(g) for g in study.gains]},
    }


def _comparison(comparison: Comparison) -> dict[str, object]:
    point = comparison.point
    return {
        "network": point.network,
        "sm": point.sm_partition,
        "quota": point.quota,
        "replicas": point.replicas,
        "policy": comparison.policy.value,
        "published_rps": point.rps,
        "modelled_rps": round(comparison.outcome.rps, 3),
        "residual": round(comparison.residual, 4),
        "peak_sm_sum": comparison.outcome.peak_sm,
    }


def _beyond(study: Study, policy: Policy) -> dict[str, int]:
    return {"points": sum(c.policy is policy for c in study.predictions), "beyond": len(study.beyond_goal(policy))}


def _predicting(study: Study) -> list[Policy]:
    return [policy for policy in Policy if any(c.policy is policy for c in study.predictions)]


def _gain(gain: Gain) -> dict[str, object]:
    return {
        "sm": gain.sm_partition,
        "policy": gain.policy.value,
        "rps": round(gain.outcome.rps, 3),
        "unpartitioned_rps": round(gain.unpartitioned_rps, 3),
        "ratio": round(gain.ratio, 3),
        "peak_sm_sum": gain.outcome.peak_sm,
    }


def _fit(fit: Fit) -> dict[str, object]:
    shipped = load(fit.network).scales
    return {"network": fit.network, "scales": asdict(fit.scales), "shipped": asdict(shipped)} | {
        "error": round(fit.error, 4),
        "runs": fit.runs,
    }


# --- as tables -------------------------------------------------------------------------------------------------------


def _print(study: Study) -> None:
    click.echo(f"{ABOUT}\n\nfitted to ({len(study.calibration)} points):")
    _print_calibration(study.calibration)
    click.echo("\npredicted, requests/s and how far that is from what was published:")
    _print_predictions(study.predictions)
    click.echo("\n" + "\n".join(_sentences(study)))


def _names(point: Point) -> tuple[str, ...]:
    return point.network, f"{point.sm_partition:g}", f"{point.quota:g}", str(point.replicas), f"{point.rps:g}"


def _print_calibration(comparisons: Iterable[Comparison]) -> None:
    rows = table(["network", "sm %", "quota", "replicas", "published", "modelled", "residual", ""])
    for c in comparisons:
        note = "" if c.point.partitioned else "without partitions, in turns"
        rows.add_row(*_names(c.point), f"{c.outcome.rps:.1f}", f"{100 * c.residual:+.1f}%", note)
    stdout().print(rows)


def _print_predictions(comparisons: Sequence[Comparison]) -> None:
    policies = (Policy.REFERENCE, Policy.OURS, Policy.PARTITIONS)
    titles = {Policy.REFERENCE: "reference's tokens", Policy.OURS: "our tokens", Policy.PARTITIONS: "no tokens"}
    rows = table(["network", "sm %", "quota", "replicas", "published", *(titles[p] for p in policies)])
    by_point: dict[Point, dict[Policy, Comparison]] = {}
    for c in comparisons:
        by_point.setdefault(c.point, {})[c.policy] = c
    for point, found in by_point.items():
        rows.add_row(*_names(point), *(_cell(found.get(policy)) for policy in policies))
    stdout().print(rows)


def _cell(comparison: Comparison | None) -> str:
    if comparison is None:
        return ""
    return f"{comparison.outcome.rps:5.1f} {100 * comparison.residual:+6.1f}%{'' if comparison.within_goal else ' !'}"


def _sentences(study: Study) -> Iterable[str]:
    counts = {policy: _beyond(study, policy) for policy in _predicting(study)}
    beyond = "; ".join(f"{policy.value} {c['beyond']} of {c['points']}" for policy, c in counts.items())
    yield f"further than {100 * predictions.GOAL:g}% from what was published (!): {beyond}"
    held = ", ".join(
        f"{h.quota:g} holds {100 * h.modelled:.0f}% (measured {100 * h.measured:.0f}%)" for h in study.held
    )
    burst_ms = predictions.BURST_NS / 1e6
    yield f"the reference's policy on a saturated instance with bursts of {burst_ms:g} ms: a quota of {held}"
    yield (
        "a quota bounds what is held, not what is answered: ours does not charge the host's work before and after the "
        "launches,\nso its column may differ from what was published even where the model is right"
    )
    turns = study.gains[0].unpartitioned_rps
    yield (
        f"\n{predictions.MANY} replicas of RNN-T, over the {turns:.1f} requests/s that they do in turns, without "
        f"partitions (the paper: {RATIO:g}x at 24%):"
    )
    for gain in study.gains:
        cap = (
            f"SMs handed out at once: at most {gain.outcome.peak_sm:g}%"
            if gain.outcome.peak_sm
            else "nobody waits for SMs"
        )
        yield f"  {gain.sm_partition:g}% each, {gain.policy.value}: {gain.outcome.rps:.1f}, {gain.ratio:.2f}x; {cap}"


def _print_fits(fits: Iterable[Fit]) -> None:
    click.echo(ABOUT)
    for fit in fits:
        names = calibration.FITTED[fit.network]
        scales, shipped = fit.scales, load(fit.network).scales
        found = " ".join(f"{name}={getattr(scales, name):g}" for name in names)
        kept = " ".join(f"{name}={getattr(shipped, name):g}" for name in names)
        click.echo(f"{fit.network}: scale {found}  (shipped: {kept}; error {100 * fit.error:.1f}%, {fit.runs} runs)")
