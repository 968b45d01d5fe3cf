"""Predicted beside measured: how far predictions are off, and how often their intervals hold the truth."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Final

from fastgshare.domain.profiles import Configuration, Estimate
from fastgshare.report import marks, svg
from fastgshare.report.axes import LEFT, Frame, Scale, frame_size, spanning
from fastgshare.report.colours import PALETTE
from fastgshare.report.points import describe, name

_COLOURS: Final = {True: PALETTE[0], False: PALETTE[5]}
_ENDS: Final = (attrgetter("low"), attrgetter("value"), attrgetter("high"))
_MOST_PERCENT: Final = 100.0
"""What is further off lies at the frame's edge."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Requests a second of a configuration, and what was predicted by whoever had not seen them."""

    configuration: Configuration
    measured: float
    estimate: Estimate

    @property
    def error(self) -> float:
        """How far the prediction is off, as a fraction of what was measured."""
        return abs(self.estimate.value - self.measured) / self.measured if self.measured else 0.0

    @property
    def covered(self) -> bool:
        """Whether the interval holds what was measured."""
        return self.estimate.low <= self.measured <= self.estimate.high


def summary(agreements: Sequence[Agreement]) -> str:
    """The errors of all in a sentence, but of those that were extrapolated; "" for none."""
    among = [agreement for agreement in agreements if not agreement.estimate.extrapolated]
    beyond = len(agreements) - len(among)
    rest = f"{beyond} more extrapolated" if beyond else ""
    if not among:
        return rest
    errors = sorted(100 * agreement.error for agreement in among)
    ninetieth = errors[math.ceil(0.9 * len(errors)) - 1]
    covered = sum(agreement.covered for agreement in among)
    said = f"median error {statistics.median(errors):.2g} %, 90th percentile {ninetieth:.2g} %"
    return "; ".join([f"{said}; {covered} of {len(among)} within their interval", *([rest] if rest else [])])


def agreement_picture(
    agreements: Sequence[Agreement], *, title: str, size: tuple[float, float] = (860.0, 360.0)
) -> str:
    """An element: predicted over measured requests a second, and beside it how far off that is, with intervals."""
    half = (size[0] / 2, size[1] - 44)
    keys = [
        (marks.dot((8, 0), _COLOURS[True]), "measured lies within the interval"),
        (marks.dot((8, 0), _COLOURS[False], shape="square"), "outside of it"),
        (marks.dot((8, 0), marks.FAILED, hollow=True, faint=True), "extrapolated"),
        (svg.line(0, 0, 16, 0, "mark"), "both agree"),
    ]
    return "".join(
        [
            svg.text(8, 18, f"{title}: {summary(agreements)}", "strong"),
            svg.group(0, 24, _values(agreements, half)),
            svg.group(half[0], 24, _errors(agreements, half)),
            marks.legend(LEFT, size[1] - 10, keys),
        ]
    )


def _values(agreements: Sequence[Agreement], size: tuple[float, float]) -> str:
    width, height = frame_size(*size)
    values = [v for a in agreements for v in (a.measured, a.estimate.value)]
    frame = Frame(spanning(values, width), spanning(values, height))
    low, high = frame.x.low, frame.x.high
    body = [svg.line(*frame.place(low, low), *frame.place(high, high), "mark")]
    for agreement in agreements:
        body += _mark(frame, agreement, *(v(agreement.estimate) for v in _ENDS))
    return frame.drawn("", "measured requests/s", "predicted requests/s", *body)


def _errors(agreements: Sequence[Agreement], size: tuple[float, float]) -> str:
    width, height = frame_size(*size)
    seen = [a for a in agreements if a.measured]
    deviations = [[100 * (v(a.estimate) / a.measured - 1) for v in _ENDS] for a in seen]
    most = 1.1 * max([10.0, *(min(abs(v), _MOST_PERCENT) for row in deviations for v in row)])
    frame = Frame(spanning([a.measured for a in seen], width), Scale(-most, most, height))
    body = [svg.line(*frame.place(frame.x.low, 0), *frame.place(frame.x.high, 0), "mark")]
    for agreement, row in zip(seen, deviations, strict=True):
        body += _mark(frame, agreement, *row)
    return frame.drawn("", "measured requests/s", "predicted beyond measured, %", *body)


def _mark(frame: Frame, agreement: Agreement, low: float, value: float, high: float) -> list[str]:
    x, colour = agreement.measured, _COLOURS[agreement.covered]
    hint = f"{name(agreement.configuration)}: measured {x:.4g}, {describe(agreement.estimate)}"
    shape: marks.Shape = "circle" if agreement.covered else "square"
    beyond = bool(agreement.estimate.extrapolated)
    return [
        marks.whisker(frame.place(x, low), frame.place(x, high), colour),
        marks.dot(frame.place(x, value), colour, shape=shape, hollow=beyond, faint=beyond, hint=hint, size=3.5),
    ]
