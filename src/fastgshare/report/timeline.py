"""The picture of time: every instance's own slots and what it held in fact, window after window."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from fastgshare.domain.rects import Rect
from fastgshare.report import svg
from fastgshare.report.colours import colours

Hold = tuple[float, float, str]
"""Start and end in seconds since the first window shown began, and "own" or "loan"."""

_RIGHT, _TOP, _ROW, _BAR = 28.0, 34.0, 40.0, 20.0


def timeline_picture(
    rows: Sequence[tuple[str, Sequence[Hold]]],
    window_s: float,
    *,
    slots: Mapping[str, Rect] | None = None,
    labels: Mapping[str, str] | None = None,
    palette: Mapping[str, str] | None = None,
    width: float = 860.0,
) -> str:
    """An SVG with one row an instance, time to the right.

    rows: instance id and its holds. window_s: the window's length. slots: instance id -> rect, whose time range is
    outlined in every window. labels: instance id -> function name, which gives the colour.
    """
    names = labels or {}
    hues = palette or colours(names.get(instance, instance) for instance, _ in rows)
    windows = _windows(rows, window_s)
    left = min(240.0, 24 + max((svg.width_of(instance) for instance, _ in rows), default=0.0))
    scale = (width - left - _RIGHT) / (windows * window_s)
    height = _TOP + _ROW * len(rows)
    body = _axis(windows, window_s, scale, left, height)
    for index, (instance, holds) in enumerate(rows):
        y = _TOP + _ROW * index + (_ROW - _BAR) / 2
        colour = hues.get(names.get(instance, instance), "#8a94a3")
        body.append(svg.text(0, y + 15, svg.fitted(instance, left - 8)))
        body += _row(instance, holds, y, left, scale, colour, f"lent-{index}")
        if slots and instance in slots:
            body += _slots(slots[instance], windows, window_s, y, left, scale)
    body.append(_legend(left, height + 44))
    return svg.picture(width, height + 60, *body, title=f"What {len(rows)} instances held in {windows} windows")


def _windows(rows: Sequence[tuple[str, Sequence[Hold]]], window_s: float) -> int:
    last = max((end for _, holds in rows for _, end, _ in holds), default=window_s)
    return max(1, math.ceil(last / window_s - 1e-6))


def _axis(windows: int, window_s: float, scale: float, left: float, height: float) -> list[str]:
    marks = []
    for index in range(windows + 1):
        x = left + index * window_s * scale
        label = f"{index * window_s * 1000:.4g} ms"
        marks += [svg.line(x, _TOP - 6, x, height + 4, "axis"), svg.text(x, height + 20, label, "soft small", "middle")]
        if index < windows:
            marks.append(svg.text(x + window_s * scale / 2, 18, f"window {index + 1}", "soft small", "middle"))
    return marks


def _row(
    instance: str, holds: Sequence[Hold], y: float, left: float, scale: float, colour: str, lent: str
) -> list[str]:
    bars = [svg.tag("defs", svg.stripes(lent, colour))]
    for start, end, kind in holds:
        fill = colour if kind == "own" else f"url(#{lent})"
        words = "in its own slot" if kind == "own" else "lent by others"
        hint = f"{instance}: {start * 1000:.2f} to {end * 1000:.2f} ms, {words}"
        bars.append(svg.box(left + start * scale, y, max((end - start) * scale, 0.6), _BAR, fill=fill, hint=hint))
    return bars


def _slots(rect: Rect, windows: int, window_s: float, y: float, left: float, scale: float) -> list[str]:
    width = rect.quota * window_s * scale
    starts = [left + (index + rect.quota_offset) * window_s * scale for index in range(windows)]
    return [svg.box(x, y - 4, width, _BAR + 8, class_="outline", radius=3) for x in starts]


def _legend(left: float, y: float) -> str:
    keys = [
        svg.box(0, -10, 22, 12, class_="other"),
        svg.text(28, 0, "held in its own slot", "soft small"),
        svg.tag("defs", svg.stripes("lent-key", "#8a94a3")),
        svg.box(160, -10, 22, 12, fill="url(#lent-key)"),
        svg.text(188, 0, "held, lent by others", "soft small"),
        svg.box(320, -10, 22, 12, class_="outline", radius=3),
        svg.text(348, 0, "its slot: where it is entitled", "soft small"),
    ]
    return svg.group(left, y, *keys)
