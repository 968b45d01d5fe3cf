"""The RPR frontier: what a device's SMs and time are worth on each configuration, against what one instance answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fastgshare.report import marks, svg
from fastgshare.report.axes import BOTTOM, LEFT, RIGHT, TOP, Frame, from_zero, shown
from fastgshare.report.colours import PALETTE
from fastgshare.report.points import Point, name
from fastgshare.report.surfaces import point_keys, point_mark


def frontier_of(points: Iterable[Point]) -> list[Point]:
    """Points than which no other answers as much at a higher RPR, by requests a second."""
    best: list[Point] = []
    for point in sorted(points, key=lambda p: (p.value or 0.0, p.rpr or 0.0), reverse=True):
        if point.value and (not best or (point.rpr or 0.0) > (best[-1].rpr or 0.0)):
            best.append(point)
    return best[::-1]


def frontier_picture(
    points: Sequence[Point],
    frontier: Sequence[Point],
    *,
    title: str,
    chosen: Point | None = None,
    size: tuple[float, float] = (860.0, 360.0),
) -> str:
    """An element: RPR over requests a second, every point a configuration; `frontier` is joined and named.

    chosen: the configuration with the highest RPR among those that will do.
    """
    width, height = size[0] - LEFT - RIGHT, size[1] - TOP - BOTTOM - 24
    known = [p for p in points if p.value is not None and p.rpr is not None]
    frame = Frame(
        from_zero([p.value or 0.0 for p in known], width), from_zero([1.08 * (p.rpr or 0.0) for p in known], height)
    )
    sms = sorted({p.configuration.sm for p in points})
    body = [marks.curve([_place(frame, p) for p in frontier], marks.FAILED, dashes="5 4")]
    for point in known:
        index = sms.index(point.configuration.sm)
        colour, shape = PALETTE[index % len(PALETTE)], marks.SHAPES[index % len(marks.SHAPES)]
        hint = f"{point.words}; RPR {shown(point.rpr or 0.0)}"
        body += [_whisker(frame, point, colour), point_mark(_place(frame, point), point, colour, shape, hint)]
    body += _names(frame, frontier, chosen)
    body.append(marks.legend(0, height + 56, [*_keys(sms), *point_keys(known)[1:]]))
    return frame.drawn(title, "requests/s of one instance", "RPR: requests/s per device", *body)


def _place(frame: Frame, point: Point) -> tuple[float, float]:
    return frame.place(point.value or 0.0, point.rpr or 0.0)


def _whisker(frame: Frame, point: Point, colour: str) -> str:
    """Along the ray from nothing: who answers more on the same share has as much more RPR. Cut where the frame ends."""
    if point.interval is None:
        return ""
    area = point.configuration.area
    edge = min(frame.x.high, frame.y.high * area)
    low, high = (frame.place(v, v / area) for v in (min(max(v, 0.0), edge) for v in point.interval))
    return marks.whisker(low, high, colour)


def _names(frame: Frame, frontier: Sequence[Point], chosen: Point | None) -> list[str]:
    """The frontier's configurations beside their dots, those that have room; the chosen one always, in bold."""
    drawn: list[str] = []
    taken: list[tuple[float, float]] = []
    ordered = sorted(frontier, key=lambda p: p != chosen)
    for point in ordered:
        x, y = _place(frame, point)
        words = name(point.configuration).replace(" SMs", "").replace(" time", "")
        wide = svg.width_of(words, 11)
        left = x + 10 + wide > frame.x.length
        at = x - 10 - wide if left else x + 10
        if point != chosen and any(abs(y - v) < 14 and abs(at - u) < wide + 6 for u, v in taken):
            continue
        taken.append((at, y))
        class_ = "strong small" if point == chosen else "small"
        drawn.append(svg.text(x - 10 if left else x + 10, y - 5, words, class_, "end" if left else "start"))
        if point == chosen:
            drawn.append(svg.tag("circle", cx=x, cy=y, r=9.0, fill="none", stroke=PALETTE[5], stroke_width=2.5))
    return drawn


def _keys(sms: Sequence[float]) -> list[tuple[str, str]]:
    return [
        (marks.dot((8, 0), PALETTE[i % len(PALETTE)], shape=marks.SHAPES[i % len(marks.SHAPES)]), f"{shown(sm)} % SMs")
        for i, sm in enumerate(sms[:8])
    ]
