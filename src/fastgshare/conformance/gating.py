"""Is work held to its quota? Judged by how long the device really was busy, never by what the interposer says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from fastgshare.conformance.busy import Span, fraction
from fastgshare.conformance.ground import Line, Probe
from fastgshare.conformance.rows import Row, judged, not_applicable

QUOTA: Final = 0.2
"""Request and limit of those who are tried."""

_LEAST: Final = 0.5 * QUOTA
_MOST: Final = 1.4 * QUOTA
"""A few windows hold a slot more or less than on average, and a machine that is busy loses some time."""

MOST_STALLED: Final = 0.02
"""For more than this nobody is excused by the machine."""

NOT_SUPPORTED: Final = 801


def spans(line: Line) -> list[Span]:
    """What a probe says of when it was at work."""
    return [(start, end, work) for start, end, work in line.get("busy", ())]


def stalls(line: Line) -> list[Span]:
    """When the machine kept a thread of the program waiting that was to wake."""
    return [(start, end, work) for start, end, work in line.get("stalls", ())]


def busy(line: Line) -> float:
    """Share of its time in which a probe kept the device busy."""
    return fraction(spans(line), line["from_ns"], line["until_ns"])


def gated(name: str, line: Line) -> Row:
    """Judge a probe that wanted the device all the time on a quota of `QUOTA`."""
    if line["status"] == "absent":
        return not_applicable(name, "not there")
    if line.get("error") == NOT_SUPPORTED:
        return not_applicable(name, "the driver does not support it")
    if line.get("error"):
        return judged(name, False, f"{line['error_call']} returned error {line['error']}")
    held = busy(line)
    word = "" if held <= _MOST else ", not gated" if held > 3 * QUOTA else ", too much"
    word = ", too little" if held < _LEAST else word
    figure = f"busy {100 * held:.1f}% of the time on a quota of {QUOTA:.0%}{word}"
    return judged(name, _LEAST <= held <= _MOST, figure, too_little=held < _LEAST)


def ran(probe: Probe, status: str = "ran") -> Line | None:
    """What a probe said when it was done; None if it did not come so far."""
    return next((line for line in probe.lines if line.get("status") in (status, "absent")), None)


def judge_load(name: str, probe: Probe) -> Row:
    """Judge a probe's `load`."""
    line = ran(probe)
    return gated(name, line) if line is not None else judged(name, False, probe.what_went_wrong())


def percent(values: Sequence[float]) -> str:
    """Shares in percent, for a figure."""
    return ", ".join(f"{100 * value:.1f}" for value in values) + "%"


def exact(name: str, quota: float, pieces: Sequence[tuple[float, float]], allowed: float) -> Row:
    """Judge (held, stalled) of every piece of time, as fractions of it, against a quota.

    allowed: the largest error. What the machine kept threads waiting for may be missing too, up to `MOST_STALLED`.
    """
    errors = [(held - quota, min(stalled, MOST_STALLED)) for held, stalled in pieces] or [(-quota, 0.0)]
    worst, stalled = max(errors, key=lambda error: abs(error[0]))
    holds = all(-allowed - lost <= round(error, 3) <= allowed for error, lost in errors)
    figure = f"{100 * worst:+.2f} pp of {quota:.0%}" + (f", worst of {len(errors)}" if len(errors) > 1 else "")
    figure += f" (the machine stalled {100 * stalled:.2f}% of it)" if stalled else ""
    return judged(name, holds, figure, too_little=all(error <= allowed for error, _ in errors))
