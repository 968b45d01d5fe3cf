"""Latency against offered rate: what was measured, and what is predicted between."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Final

from fastgshare.domain.profiles import Configuration, Estimate, Outcome, Trial
from fastgshare.report import marks, svg
from fastgshare.report.axes import BOTTOM, LEFT, RIGHT, TOP, Frame, from_zero, spanning
from fastgshare.report.colours import PALETTE
from fastgshare.report.points import name

QUANTILES: Final = (0.5, 0.95, 0.99)
_HUES: Final = dict(zip(QUANTILES, (PALETTE[0], PALETTE[1], PALETTE[5]), strict=True))
_SHAPES: Final = dict(zip(QUANTILES, marks.SHAPES, strict=False))
_WIDE_RANGE: Final = 12.0
"""Of latencies; beyond it the axis is logarithmic, or the short ones could not be told apart."""

Curve = Sequence[tuple[float, Estimate]]
"""Predicted latency in seconds by offered requests a second, in order."""


@dataclass(frozen=True, slots=True)
class Latencies:
    """One configuration. measured: quantile -> (offered requests/s, seconds); predicted: quantile -> curve."""

    configuration: Configuration
    measured: Mapping[float, Sequence[tuple[float, float]]]
    predicted: Mapping[float, Curve]


def latencies_of(trials: Sequence[Trial], predicted: Mapping[Configuration, Mapping[float, Curve]]) -> list[Latencies]:
    """Of every configuration with a trial of an offered load, or a prediction: those with the most trials first."""
    tried: dict[Configuration, list[Trial]] = {}
    for trial in trials:
        if trial.offered_rps and trial.outcome is Outcome.MEASURED and trial.figures is not None:
            tried.setdefault(trial.given, []).append(trial)
    ordered = sorted({*tried, *predicted}, key=lambda c: (-len(tried.get(c, ())), c))
    return [Latencies(c, _measured(tried.get(c, ())), predicted.get(c, {})) for c in ordered]


def latency_picture(latencies: Latencies, *, slo_s: float = 0.0, size: tuple[float, float] = (425.0, 290.0)) -> str:
    """An element: latency in milliseconds over the rate at which requests came; dots measured, curves predicted."""
    width, height = size[0] - LEFT - RIGHT, size[1] - TOP - BOTTOM
    rates = [r for points in latencies.measured.values() for r, _ in points]
    rates += [r for line in latencies.predicted.values() for r, _ in line]
    spoken = [s for points in latencies.measured.values() for _, s in points]
    spoken += [e.value for line in latencies.predicted.values() for _, e in line if math.isfinite(e.value)]
    milliseconds = [1000 * s for s in [*spoken, *([slo_s] if slo_s else [])]]
    wide = bool(spoken) and max(milliseconds) > _WIDE_RANGE * max(min(milliseconds), 1e-9)
    frame = Frame(from_zero(rates, width), (spanning if wide else from_zero)(milliseconds, height))
    body = []
    for quantile in QUANTILES:
        body += _predicted(frame, latencies.predicted.get(quantile, ()), _HUES[quantile])
    for quantile in QUANTILES:
        body += _dots(frame, latencies.measured.get(quantile, ()), quantile)
    if slo_s:
        y = frame.place(0, 1000 * slo_s)[1]
        body += [svg.line(0, y, width, y, "mark"), svg.text(6, y - 5, f"SLO {1000 * slo_s:g} ms", "small")]
    return frame.drawn(name(latencies.configuration), "offered requests/s", "latency, ms", *body)


def latency_legend(x: float, y: float) -> str:
    """What dots, curves and bands of `latency_picture` are."""
    keys = [
        (marks.curve([(0, 0), (16, 0)], _HUES[q]) + marks.dot((8, 0), _HUES[q], shape=_SHAPES[q]), f"p{100 * q:g}")
        for q in QUANTILES
    ]
    keys.append((marks.dot((8, 0), marks.FAILED), "measured"))
    keys.append((marks.curve([(0, 0), (16, 0)], marks.FAILED), "predicted"))
    keys.append((marks.band([(0, 6), (16, 6)], [(0, -6), (16, -6)], marks.FAILED), "its interval"))
    return marks.legend(x, y, keys)


def _measured(trials: Sequence[Trial]) -> dict[float, list[tuple[float, float]]]:
    found: dict[float, list[tuple[float, float]]] = {quantile: [] for quantile in QUANTILES}
    for trial in sorted(trials, key=lambda t: t.offered_rps):
        figures = trial.figures
        given = (None,) * 3 if figures is None else (figures.p50_s, figures.p95_s, figures.p99_s)
        for quantile, seconds in zip(QUANTILES, given, strict=True):
            if seconds is not None:
                found[quantile].append((trial.offered_rps, seconds))
    return found


def _predicted(frame: Frame, line: Curve, colour: str) -> list[str]:
    """As far as latencies are finite; what is beyond the frame lies at its edge."""
    known = [(rate, estimate) for rate, estimate in line if math.isfinite(estimate.value)]
    lower, middle, upper = (
        [frame.place(rate, 1000 * value(estimate)) for rate, estimate in known]
        for value in (attrgetter("low"), attrgetter("value"), attrgetter("high"))
    )
    return [marks.band(lower, upper, colour), marks.curve(middle, colour)]


def _dots(frame: Frame, points: Sequence[tuple[float, float]], quantile: float) -> list[str]:
    return [
        marks.dot(
            frame.place(rate, 1000 * seconds),
            _HUES[quantile],
            shape=_SHAPES[quantile],
            hint=f"p{100 * quantile:g} at {rate:.4g} requests/s: {1000 * seconds:.4g} ms",
        )
        for rate, seconds in points
    ]
