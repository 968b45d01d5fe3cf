"""The picture of kernel traces: what one request asks of the host and of the device, each over its own time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from fastgshare.report import svg

Part = tuple[float, float, float]
"""Start and end in seconds since the request began, and how much of the row's height is in use, 0 to 1."""

_LEFT, _RIGHT, _BLOCK, _HOST, _DEVICE = 70.0, 16.0, 128.0, 12.0, 56.0
_COLOURS: Final = ("#8a94a3", "#0072B2")


@dataclass(frozen=True, slots=True)
class Shape:
    """One request: its heading, how long it takes, and what host and device do in it."""

    heading: str
    seconds: float
    host: Sequence[Part]
    device: Sequence[Part]


def shapes_picture(shapes: Sequence[Shape], *, title: str, width: float = 860.0) -> str:
    """An SVG with a block a shape: the host's row, and the device's, as high as the part of its SMs that is in use."""
    blocks = [svg.group(0, 8 + i * _BLOCK, *_block(shape, width)) for i, shape in enumerate(shapes)]
    return svg.picture(width, 8 + _BLOCK * len(shapes), *blocks, title=title)


def _block(shape: Shape, width: float) -> list[str]:
    room = width - _LEFT - _RIGHT
    top, foot = 24 + _HOST + 4, 24 + _HOST + 4 + _DEVICE
    return [
        svg.text(0, 14, shape.heading, "strong"),
        svg.text(0, 24 + _HOST - 1, "host", "soft small"),
        svg.text(0, foot - 2, "device", "soft small"),
        svg.box(_LEFT, top, room, _DEVICE, class_="free"),
        _area(_columns(shape.host, shape.seconds, int(room)), 24 + _HOST, _HOST, _COLOURS[0]),
        _area(_columns(shape.device, shape.seconds, int(room)), foot, _DEVICE, _COLOURS[1]),
        svg.text(_LEFT, foot + 14, "0 ms", "soft small"),
        svg.text(_LEFT + room, foot + 14, f"{1000 * shape.seconds:.3g} ms", "soft small", "end"),
    ]


def _columns(parts: Iterable[Part], seconds: float, count: int) -> list[float]:
    """Mean height in each of so many equal parts of the time."""
    columns = [0.0] * count
    step = seconds / count
    for start, end, height in parts:
        for column in range(int(start / step), min(count, int(end / step) + 1)):
            inside = min(end, (column + 1) * step) - max(start, column * step)
            columns[column] += height * max(0.0, inside) / step
    return columns


def _area(columns: Sequence[float], foot: float, height: float, fill: str) -> str:
    """The columns as one filled path that stands on `foot`; equal neighbours are one stroke."""
    path, last = [f"M{svg.number(_LEFT)} {svg.number(foot)}"], -1.0
    for index, value in enumerate(columns):
        level = round(foot - height * min(1.0, value), 1)
        if level != last:
            path.append(f"H{svg.number(_LEFT + index)}V{svg.number(level)}")
            last = level
    path.append(f"H{svg.number(_LEFT + len(columns))}V{svg.number(foot)}Z")
    return svg.tag("path", d="".join(path), fill=fill)
