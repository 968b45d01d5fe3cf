"""The throughput surface of a profile: as a heatmap, and as curves over the quota, one for every part of the SMs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from fastgshare.domain.profiles import Configuration
from fastgshare.report import marks, svg
from fastgshare.report.axes import LEAST, LEFT, TOP, Frame, Scale, frame_size, from_zero, shown
from fastgshare.report.colours import PALETTE, text_class
from fastgshare.report.points import Point

RAMP: Final = ("#e8f1f7", "#9ccbe6", "#3f93c6", "#0a5a93", "#062f52")
"""Lightness falls evenly, so that it is an order to the colour-blind and on grey paper too."""

_SIDE: Final = 92.0
_FOOT: Final = 74.0


def heatmap(points: Sequence[Point], *, title: str, width: float = 860.0, mark: Configuration | None = None) -> str:
    """An element: quotas to the right, SMs upwards; each cell its requests a second.

    Cells that are predicted have a dashed edge and `~`; `mark` gets a thick one.
    """
    quotas, sms = sorted({p.configuration.quota for p in points}), sorted({p.configuration.sm for p in points})
    cell = (width - LEFT - _SIDE) / max(1, len(quotas)), 44.0
    top = max([p.value or 0.0 for p in points if (p.value or 0.0) > LEAST], default=1.0)
    high = cell[1] * len(sms)
    body = [svg.text(-LEFT + 8, -22, title, "strong"), svg.text(-LEFT + 8, -6, "SMs, %", "soft small")]
    body += [svg.text(-8, high - cell[1] * (i + 0.5) + 4, shown(sm), "soft small", "end") for i, sm in enumerate(sms)]
    for i, quota in enumerate(quotas):
        body.append(svg.text(cell[0] * (i + 0.5), high + 17, shown(100 * quota), "soft small", "middle"))
    body.append(svg.text(cell[0] * len(quotas) / 2, high + 35, "quota, % of every window", "soft small", "middle"))
    places = {
        (sm, quota): (cell[0] * j, high - cell[1] * (i + 1))
        for i, sm in enumerate(sms)
        for j, quota in enumerate(quotas)
    }
    body += [svg.box(x, y, cell[0] - 2, cell[1] - 2, class_="free", radius=3) for x, y in places.values()]
    for point in points:
        place = places[point.configuration.sm, point.configuration.quota]
        body += _cell(point, place, cell, top, point.configuration == mark)
    body += _ramp(cell[0] * len(quotas) + 18, high, top)
    gaps = any(p.value is None for p in points) or len(points) < len(places)
    body.append(_legend(high + 54, mark is not None, any(p.extrapolated for p in points), gaps))
    return svg.group(LEFT, TOP, *body)


def heatmap_height(points: Sequence[Point]) -> float:
    """How high the element of `heatmap` is."""
    return TOP + 44.0 * len({p.configuration.sm for p in points}) + _FOOT


def colour_of(part: float) -> str:
    """The colour of a part, 0 to 1, of the largest value."""
    at = min(max(part, 0.0), 1.0) * (len(RAMP) - 1)
    index = min(int(at), len(RAMP) - 2)
    low, high = (_channels(RAMP[index + i]) for i in (0, 1))
    mixed = (round(a + (b - a) * (at - index)) for a, b in zip(low, high, strict=True))
    return "#" + "".join(f"{channel:02x}" for channel in mixed)


def capacity_curves(points: Sequence[Point], *, title: str, size: tuple[float, float] = (860.0, 360.0)) -> str:
    """An element: requests a second over the quota, a curve for every part of the SMs, as predicted where it is.

    Full dots are measured, hollow ones predicted, whiskers are their intervals.
    """
    width, height = frame_size(size[0] - _SIDE + 4, size[1] - 24)
    reach = [v for p in points for v in ((p.value or 0.0), *_whisker_reach(p))]
    frame = Frame(Scale(0.0, 1.04, width), from_zero(reach, height))
    sms = sorted({p.configuration.sm for p in points})
    body: list[str] = []
    ends = []
    for index, sm in enumerate(sms):
        colour, shape = PALETTE[index % len(PALETTE)], marks.SHAPES[index % len(marks.SHAPES)]
        line = [p for p in points if p.configuration.sm == sm and p.value is not None]
        body.append(marks.curve([_place(frame, p) for p in line], colour))
        body += [drawn for p in line for drawn in _point(frame, p, colour, shape)]
        if line:
            ends.append((_place(frame, line[-1]), f"{shown(sm)} % SMs", colour))
    body += marks.end_labels(width + 14, ends, height)
    ticks = sorted({p.configuration.quota for p in points})
    keys = [*point_keys(points), (marks.whisker((8, -6), (8, 6), marks.FAILED), "interval")]
    body.append(marks.legend(0, height + 56, keys))
    return frame.drawn(title, "quota, fraction of every window", "requests/s", *body, x_ticks=ticks)


def point_mark(place: tuple[float, float], point: Point, colour: str, shape: marks.Shape, hint: str) -> str:
    """The dot of a configuration."""
    return marks.dot(place, colour, shape=shape, hollow=point.rps is None, faint=point.extrapolated, hint=hint)


def point_keys(points: Sequence[Point]) -> list[tuple[str, str]]:
    """What the dots of these configurations are, for a legend."""
    keys = [(marks.dot((8, 0), marks.FAILED), "measured")] if any(p.rps is not None for p in points) else []
    if any(p.rps is None and p.value is not None for p in points):
        keys.append((marks.dot((8, 0), marks.FAILED, hollow=True), "predicted"))
    if any(p.extrapolated for p in points):
        keys.append((marks.dot((8, 0), marks.FAILED, hollow=True, faint=True), "extrapolated"))
    return keys


def _place(frame: Frame, point: Point) -> tuple[float, float]:
    return frame.place(point.configuration.quota, point.value or 0.0)


def _whisker_reach(point: Point) -> tuple[float, ...]:
    """What of an interval the axis makes room for: not all of one that is much wider than its value."""
    interval, value = point.interval, point.value
    return () if interval is None or value is None else (min(interval[1], 1.5 * value),)


def _point(frame: Frame, point: Point, colour: str, shape: marks.Shape) -> list[str]:
    quota, interval = point.configuration.quota, point.interval
    drawn = (
        []
        if interval is None
        else [marks.whisker(frame.place(quota, interval[0]), frame.place(quota, interval[1]), colour)]
    )
    return [*drawn, point_mark(_place(frame, point), point, colour, shape, point.words)]


def _cell(point: Point, place: tuple[float, float], cell: tuple[float, float], top: float, marked: bool) -> list[str]:
    x, y, width, height = *place, cell[0] - 2, cell[1] - 2
    if point.value is None:
        words = svg.fitted(point.failed, width - 6, 11)
        hint = svg.box(x, y, width, height, class_="free", radius=3, hint=point.words)
        return [hint, svg.text(x + width / 2, y + height / 2 + 4, words, "soft small", "middle")]
    fill = colour_of(point.value / top)
    class_ = text_class(fill)
    measured = point.rps is not None
    words = shown(point.value) if measured else f"~{shown(point.value)}{' ?' if point.extrapolated else ''}"
    drawn = [svg.box(x, y, width, height, fill=fill, radius=3, hint=point.words)]
    if not measured:
        edge = "#ffffff" if class_ == "on-dark" else "#5c6675"
        drawn.append(_edge(x + 2, y + 2, width - 4, height - 4, edge, 1.0, "3 3"))
    if marked:
        drawn.append(_edge(x, y, width, height, PALETTE[5], 3.0, None))
    small = _small(point, width)
    drawn.append(svg.text(x + width / 2, y + (19 if small else 26), words, class_, "middle"))
    drawn.append(svg.text(x + width / 2, y + 34, small, f"{class_} small", "middle") if small else "")
    return drawn


def _small(point: Point, width: float) -> str:
    """How sure a cell is, if there is room."""
    interval = point.interval
    if interval is None or interval[0] == interval[1]:
        return ""
    half = f"± {shown((interval[1] - interval[0]) / 2)}"
    return svg.first_that_fits((f"{shown(interval[0])} to {shown(interval[1])}", half), width - 8, 11)


def _edge(x: float, y: float, width: float, height: float, colour: str, stroke: float, dashes: str | None) -> str:
    return svg.tag(
        "rect",
        x=float(x),
        y=float(y),
        width=float(width),
        height=float(height),
        rx=3.0,
        fill="none",
        stroke=colour,
        stroke_width=stroke,
        stroke_dasharray=dashes,
    )


def _ramp(x: float, height: float, top: float) -> list[str]:
    """What the colours mean."""
    scale = Scale(0.0, top, height - 2)
    steps = 48
    tall = (height - 2) / steps
    drawn = [
        svg.box(x, height - 2 - tall * (i + 1), 14, tall + 0.4, fill=colour_of((i + 0.5) / steps)) for i in range(steps)
    ]
    drawn += [svg.text(x + 20, height - scale.at(v) + 2, shown(v), "soft small") for v in scale.ticks(5)]
    return [*drawn, svg.text(x, -6, "requests/s", "soft small")]


def _legend(y: float, marked: bool, beyond: bool, gaps: bool) -> str:
    grey = RAMP[1]
    keys = [
        (svg.box(0, -7, 16, 14, fill=grey, radius=3), "measured"),
        (svg.box(0, -7, 16, 14, fill=grey, radius=3) + _edge(2, -5, 12, 10, "#5c6675", 1.0, "3 3"), "~ predicted"),
    ]
    if marked:
        keys.append((_edge(1, -6, 14, 12, PALETTE[5], 3.0, None), "highest RPR"))
    if beyond:
        keys.append((svg.text(5, 5, "?", "strong"), "extrapolated beyond all trials"))
    if gaps:
        keys.append((svg.box(0, -7, 16, 14, class_="free", radius=3), "not tried, or no figures"))
    return marks.legend(0, y, keys)


def _channels(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))
