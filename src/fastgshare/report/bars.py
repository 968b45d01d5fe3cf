"""Bars: throughput on shares beside time sharing, and quotas received beside quotas requested."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

from fastgshare.report import svg
from fastgshare.report.colours import colours

_RIGHT: Final = 180.0
_ROW: Final = 58.0
_BAR: Final = 18.0
_AXIS: Final = 26.0
_LONGEST: Final = 12.0
"""Ratio at which bars end; the figure beside them goes on."""


def throughput_bars(
    throughput: Mapping[str, tuple[float, float]],
    *,
    palette: Mapping[str, str] | None = None,
    width: float = 860.0,
) -> str:
    """An SVG of {function: (requests/s under time sharing, requests/s on shares)}.

    Bars are relative to the function's time sharing, since functions differ by orders of magnitude; the absolute
    figures stand at the bars.
    """
    hues = palette or colours(throughput)
    ratios = {name: fast / slow if slow > 0 else 0.0 for name, (slow, fast) in throughput.items()}
    left = _left(throughput)
    top = min(_LONGEST, max([1.2, *ratios.values()]))
    scale = (width - left - _RIGHT) / top
    height = _AXIS + _ROW * len(throughput)
    body = _ticks(top, scale, left, height)
    for index, (name, (slow, fast)) in enumerate(throughput.items()):
        y = _AXIS + _ROW * index + 8
        body.append(svg.text(left - 12, y + 24, svg.fitted(name, left - 12), "strong", "end"))
        body += _bar(left, y, scale if slow > 0 else 0.0, f"{rate(slow)} time sharing", None)
        body += _bar(left, y + _BAR + 3, min(ratios[name], top) * scale, f"{rate(fast)} on shares", hues.get(name))
        body.append(svg.text(width, y + 24, f"{ratios[name]:.2f}×", "strong", "end"))
    body.append(svg.line(left + scale, _AXIS - 4, left + scale, height, "mark"))
    return svg.picture(width, height + 8, *body, title="Throughput on shares, relative to time sharing")


def quota_bars(
    quotas: Sequence[tuple[str, float, float]],
    *,
    labels: Mapping[str, str] | None = None,
    palette: Mapping[str, str] | None = None,
    width: float = 860.0,
) -> str:
    """An SVG of (instance, quota requested, quota received), both as fractions of the window."""
    names = labels or {}
    hues = palette or colours(names.get(instance, instance) for instance, _, _ in quotas)
    left = _left([instance for instance, _, _ in quotas])
    scale = width - left - _RIGHT
    body = []
    for index, (instance, request, received) in enumerate(quotas):
        y = 8 + 34.0 * index
        words = f"{received * 100:.1f} % of {request * 100:.1f} % requested"
        colour = hues.get(names.get(instance, instance))
        body.append(svg.text(left - 12, y + 14, svg.fitted(instance, left - 12), "strong", "end"))
        body.append(svg.box(left, y, scale, _BAR, class_="free", radius=2))
        body += _bar(left, y, min(received, 1) * scale, "", colour)
        body.append(svg.text(width, y + 14, words, "small", "end"))
        body.append(svg.line(left + request * scale, y - 4, left + request * scale, y + _BAR + 4, "mark"))
    return svg.picture(width, 16 + 34.0 * len(quotas), *body, title="Quota received beside quota requested")


def rate(rps: float) -> str:
    """Requests per second with three significant digits or whole."""
    return f"{rps:.0f}/s" if rps >= 100 else f"{rps:.3g}/s"


def _left(names: Mapping[str, object] | Sequence[str]) -> float:
    return min(240.0, 20 + max((svg.width_of(name, 14) for name in names), default=0.0))


def _bar(x: float, y: float, length: float, words: str, colour: str | None) -> list[str]:
    class_ = None if colour else "other"
    return [
        svg.box(x, y, length, _BAR, fill=colour, class_=class_, radius=2, hint=words),
        svg.text(x + length + 6, y + 13, words, "small"),
    ]


def _ticks(top: float, scale: float, left: float, height: float) -> list[str]:
    step = max(0.5, math.ceil(top / 6 * 2) / 2)
    marks = []
    for index in range(int(top / step + 1e-9) + 1):
        x = left + index * step * scale
        marks += [svg.line(x, _AXIS - 4, x, height), svg.text(x, 14, f"{index * step:g}×", "soft small", "middle")]
    return marks
