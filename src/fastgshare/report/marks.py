"""What is drawn at points of a frame: dots of several shapes, lines through points, whiskers, bands, legends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal
from xml.sax.saxutils import escape

from fastgshare.report import svg

Place = tuple[float, float]
Shape = Literal["circle", "square", "triangle", "diamond"]
SHAPES: Final[tuple[Shape, ...]] = ("circle", "square", "triangle", "diamond")
"""Beside the colour: who sees no colours tells lines apart by these."""

FAILED: Final = "#8a94a3"

_LABEL: Final = 14.0


def dot(
    place: Place,
    colour: str,
    *,
    shape: Shape = "circle",
    hollow: bool = False,
    faint: bool = False,
    hint: str = "",
    size: float = 4.0,
) -> str:
    """A dot; what is not measured but predicted is hollow, what is extrapolated has a faint edge too."""
    x, y = place
    outlines = {
        "square": f"M{_xy(x - size, y - size)}h{svg.number(2 * size)}v{svg.number(2 * size)}h{svg.number(-2 * size)}Z",
        "triangle": f"M{_xy(x, y - 1.25 * size)}L{_xy(x + 1.2 * size, y + size)}L{_xy(x - 1.2 * size, y + size)}Z",
        "diamond": f"M{_xy(x, y - 1.4 * size)}L{_xy(x + 1.4 * size, y)}"
        f"L{_xy(x, y + 1.4 * size)}L{_xy(x - 1.4 * size, y)}Z",
    }
    style: dict[str, str | float | None] = {
        "class_": "paper" if hollow else None,
        "fill": None if hollow else colour,
        "stroke": colour,
        "stroke_width": 1.6,
        "stroke_dasharray": "1.5 1.8" if faint else None,
    }
    hints = [svg.tag("title", escape(svg.clean(hint)))] if hint else []
    if shape == "circle":
        return svg.tag("circle", *hints, cx=float(x), cy=float(y), r=float(size), **style)
    return svg.tag("path", *hints, d=outlines[shape], **style)


def curve(places: Sequence[Place], colour: str, *, width: float = 1.8, dashes: str | None = None) -> str:
    """Straight lines from point to point."""
    if len(places) < 2:
        return ""
    path = "M" + "L".join(_xy(x, y) for x, y in places)
    return svg.tag("path", d=path, fill="none", stroke=colour, stroke_width=width, stroke_dasharray=dashes)


def band(lower: Sequence[Place], upper: Sequence[Place], colour: str) -> str:
    """The room between two curves."""
    path = "M" + "L".join(_xy(x, y) for x, y in [*lower, *reversed(upper)]) + "Z"
    return svg.tag("path", d=path, fill=colour, opacity="0.18") if len(lower) > 1 else ""


def whisker(low: Place, high: Place, colour: str) -> str:
    """An interval: a thin line, upright or level."""
    return svg.tag("path", d=f"M{_xy(*low)}L{_xy(*high)}", fill="none", stroke=colour, stroke_width=1.2)


def cross(place: Place, *, hint: str = "", size: float = 4.5) -> str:
    """A trial that gave no figures."""
    x, y = place
    path = f"M{_xy(x - size, y - size)}L{_xy(x + size, y + size)}M{_xy(x - size, y + size)}L{_xy(x + size, y - size)}"
    hints = [svg.tag("title", escape(svg.clean(hint)))] if hint else []
    return svg.tag("path", *hints, d=path, fill="none", stroke=FAILED, stroke_width=1.8)


def end_labels(x: float, wanted: Sequence[tuple[Place, str, str]], height: float) -> list[str]:
    """Words beside the ends of curves, from x on, moved apart where they would overlap: (end, words, colour)."""
    ordered = sorted(wanted, key=lambda label: label[0][1])
    places: list[float] = []
    for (_, y), _, _ in ordered:
        places.append(max(y, places[-1] + _LABEL) if places else y)
    lift = max(0.0, places[-1] - height) if places else 0.0
    for index in range(len(places) - 1, -1, -1):
        ceiling = height if index == len(places) - 1 else places[index + 1] - _LABEL
        places[index] = min(places[index], ceiling) if lift else places[index]
    drawn = []
    for place, ((end, y), words, colour) in zip(places, ordered, strict=True):
        drawn.append(curve([(end + 6, y), (max(end + 6, x - 16), y), (x - 3, place)], colour, width=1.0, dashes="2 2"))
        drawn.append(svg.text(x, place + 4, words, "small"))
    return drawn


def legend(x: float, y: float, keys: Sequence[tuple[str, str]]) -> str:
    """Drawn keys, each a picture about the origin of 16 by 12 and its words, in a line."""
    parts, at = [], 0.0
    for drawn, words in keys:
        parts += [svg.group(at, 0, drawn), svg.text(at + 22, 4, words, "soft small")]
        at += 36 + svg.width_of(words, 11)
    return svg.group(x, y, *parts)


def _xy(x: float, y: float) -> str:
    return f"{svg.number(x)} {svg.number(y)}"
