"""Profiles as people and programs read them: the list, and a profile with what it lets us predict."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any, Final

import click
from rich.markup import escape

from fastgshare.cli.output import stdout, table
from fastgshare.domain.profiles import Estimate, Subject, Trial
from fastgshare.report.agreements import summary
from fastgshare.report.points import Point, points_of
from fastgshare.report.profiles import Profile, best_of
from fastgshare.spec.profiles import dump

DIGEST: Final = 12
"""Digits of a digest that people are shown."""
_UNITS: Final = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def tell_all(entries: Sequence[dict[str, Any]]) -> None:
    """The list of profiles."""
    rows = table(("FUNCTION", "DEVICE TYPE", "MODEL", "TRIALS", "BEST RPR", "AT", "AGE"))
    for found in entries:
        rows.add_row(*map(escape, _cells(found)))
    stdout().print(rows)


def entry(subject: Subject, trials: Sequence[Trial]) -> dict[str, Any]:
    """A profile in the list."""
    best = best_of(points_of(trials, {}))
    last_s = max((trial.started_unix_s for trial in trials), default=0.0)
    return {
        "function": subject.function,
        "device_type": subject.device_type,
        "model_digest": subject.model_digest,
        "trials": len(trials),
        "best": None if best is None else _best(best),
        "last_unix_s": last_s or None,
    }


def _best(best: Point) -> dict[str, Any]:
    c = best.configuration
    return {"sm": c.sm, "quota": c.quota, "batch": c.batch, "rps": best.value, "rpr": best.rpr}


def _cells(entry: dict[str, Any]) -> tuple[str, ...]:
    best = entry["best"]
    at = "-" if best is None else _at(best["sm"], best["quota"], best["batch"])
    rpr = "-" if best is None else f"{best['rpr']:.4g}"
    digest = entry["model_digest"][:DIGEST] or "-"
    age = "-" if entry["last_unix_s"] is None else _age(time.time() - entry["last_unix_s"])
    return entry["function"], entry["device_type"], digest, str(entry["trials"]), rpr, at, age


def _at(sm: float, quota: float, batch: int) -> str:
    return f"{sm:.4g}% SMs x {100 * quota:.4g}% time" + (f", batch {batch}" if batch > 1 else "")


def _age(seconds: float) -> str:
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return "0 s"


def count(number: int, noun: str) -> str:
    """So many of them."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def tell(profile: Profile) -> None:
    """One profile as people read it."""
    subject, rates = profile.subject, {p.configuration: p for p in profile.rates}
    digest = f"model {subject.model_digest[:DIGEST]}" if subject.model_digest else "model not known"
    click.echo(f"{subject.function} on {subject.device_type}, {digest}, {count(len(profile.trials), 'trial')}")
    bound = f"WITHIN {1000 * profile.slo_s:g} ms"
    columns = ("SM %", "QUOTA", "BATCH", "MEASURED/S", "PREDICTED/S", *([bound] if profile.slo_s else []), "RPR", "")
    rows = table(columns)
    for point in profile.points:
        rate = rates.get(point.configuration)
        within = [_shown(rate)] if profile.slo_s else []
        c = point.configuration
        rpr = "-" if rate is None or rate.rpr is None else f"{rate.rpr:.4g}"
        cells = (
            f"{c.sm:.4g}",
            f"{c.quota:g}",
            str(c.batch),
            _measured(point),
            _predicted(point.estimate),
            *within,
            rpr,
        )
        rows.add_row(*map(escape, (*cells, point.failed)))
    stdout().print(rows)
    best = profile.best
    if best is not None:
        c = best.configuration
        click.echo(f"highest RPR: {best.rpr:.4g} at {_at(c.sm, c.quota, c.batch)}, {_shown(best)} requests/s")
    for note in profile.notes:
        click.echo(note)
    click.echo("")


def _measured(point: Point) -> str:
    if point.rps is None:
        return "-"
    return f"{point.rps:.4g}" + (f" +-{point.rps_error:.2g}" if point.rps_error else "")


def _predicted(estimate: Estimate | None) -> str:
    if estimate is None:
        return "-"
    beyond = " ?" if estimate.extrapolated else ""
    return f"~{estimate.value:.4g} ({estimate.low:.4g} to {estimate.high:.4g}){beyond}"


def _shown(point: Point | None) -> str:
    if point is None or point.value is None:
        return "-"
    return f"{point.value:.4g}" if point.rps is not None else f"~{point.value:.4g}"


def document(profile: Profile) -> dict[str, Any]:
    """One profile for programs."""
    rates = {p.configuration: p for p in profile.rates}
    return {
        "function": profile.subject.function,
        "device_type": profile.subject.device_type,
        "model_digest": profile.subject.model_digest,
        "slo_s": profile.slo_s or None,
        "best": None if profile.best is None else _best(profile.best),
        "points": [_point(point, rates.get(point.configuration)) for point in profile.points],
        "agreement": summary(profile.agreements),
        "notes": list(profile.notes),
        "trials": [dump(trial) for trial in profile.trials],
    }


def _point(point: Point, rate: Point | None) -> dict[str, Any]:
    c = point.configuration
    return {
        "sm": c.sm,
        "quota": c.quota,
        "batch": c.batch,
        "rps": point.rps,
        "predicted": None if point.estimate is None else _estimate(point.estimate),
        "within_slo_rps": None if rate is None else rate.value,
        "rpr": None if rate is None else rate.rpr,
        "failed": point.failed,
    }


def _estimate(estimate: Estimate) -> dict[str, Any]:
    """What is infinite is null: JSON has no word for it."""
    ends = {"value": estimate.value, "low": estimate.low, "high": estimate.high}
    known = {name: value if math.isfinite(value) else None for name, value in ends.items()}
    return {**known, "confidence": estimate.confidence, "extrapolated": estimate.extrapolated}
