"""SVG as text: a few primitives that escape what they are given, and one style for light, dark and paper.

All lengths are in the picture's own units (pixels at natural size); y grows downwards.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, Literal
from xml.sax.saxutils import escape, quoteattr

Anchor = Literal["start", "middle", "end"]
FONT: Final = 13.0
"""Size of ordinary text."""

_NOT_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_CHARACTER_WIDTH: Final = 0.56  # of the font size, for a proportional sans-serif font

STYLE: Final = """
svg.fg { --ink: #1d2330; --soft: #5c6675; --rule: #d4d9e1; --paper: #ffffff; --free: #eef1f5; --other: #8a94a3;
  background: var(--paper); font: 13px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
@media screen and (prefers-color-scheme: dark) {
  svg.fg { --ink: #e8ebf0; --soft: #a3adbb; --rule: #3a4250; --paper: #171b22; --free: #222833; --other: #7d8796; } }
svg.fg text { fill: var(--ink); } svg.fg text.soft { fill: var(--soft); }
svg.fg text.strong { font-weight: 650; } svg.fg text.small { font-size: 11px; }
svg.fg text.on-dark { fill: #ffffff; } svg.fg text.on-light { fill: #10131a; }
svg.fg line { stroke: var(--rule); stroke-width: 1; } svg.fg line.axis { stroke: var(--soft); }
svg.fg line.mark { stroke: var(--ink); stroke-width: 1.5; stroke-dasharray: 5 4; }
svg.fg .free { fill: var(--free); } svg.fg .other { fill: var(--other); } svg.fg .edge { stroke: var(--paper); }
svg.fg .outline { fill: none; stroke: var(--soft); stroke-dasharray: 3 2; } svg.fg .paper { fill: var(--paper); }
"""


def clean(value: object) -> str:
    """Text of a value without the characters that XML cannot carry."""
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", str(value))


def number(value: float) -> str:
    """A coordinate with at most two decimals: short, and equal on every machine."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def tag(name: str, *children: str, **attributes: str | float | None) -> str:
    """An element around finished children.

    In attribute names a trailing underscore is dropped and inner ones become hyphens; None leaves one out.
    """
    texts = {
        key.rstrip("_").replace("_", "-"): clean(number(value) if isinstance(value, float) else value)
        for key, value in attributes.items()
        if value is not None
    }
    opening = "".join([name, *(f" {key}={quoteattr(value)}" for key, value in texts.items())])
    return f"<{opening}>{''.join(children)}</{name}>" if children else f"<{opening}/>"


def text(x: float, y: float, content: object, class_: str | None = None, anchor: Anchor = "start") -> str:
    """One line of text; y is its base line."""
    shown = None if anchor == "start" else anchor
    return tag("text", escape(clean(content)), x=float(x), y=float(y), class_=class_, text_anchor=shown)


def box(
    x: float,
    y: float,
    width: float,
    height: float,
    *,
    fill: str | None = None,
    class_: str | None = None,
    hint: str = "",
    radius: float = 0.0,
) -> str:
    """A rectangle; `hint` is shown when the pointer rests on it."""
    hints = [tag("title", escape(clean(hint)))] if hint else []
    return tag(
        "rect",
        *hints,
        x=float(x),
        y=float(y),
        width=float(max(width, 0)),
        height=float(max(height, 0)),
        rx=float(radius) if radius else None,
        fill=fill,
        class_=class_,
    )


def line(x1: float, y1: float, x2: float, y2: float, class_: str | None = None) -> str:
    """A straight line."""
    return tag("line", x1=float(x1), y1=float(y1), x2=float(x2), y2=float(y2), class_=class_)


def group(x: float, y: float, *children: str) -> str:
    """Children moved by (x, y)."""
    return tag("g", *children, transform=f"translate({number(x)} {number(y)})")


def stripes(name: str, colour: str) -> str:
    """A definition: diagonal stripes of a colour, to be used as ``fill="url(#name)"``."""
    ground = tag("rect", width=6.0, height=6.0, fill=colour, opacity="0.25")
    bars = tag("path", d="M-1 1 L1 -1 M0 6 L6 0 M5 7 L7 5", stroke=colour, stroke_width=2.0)
    return tag("pattern", ground, bars, id=name, width=6.0, height=6.0, patternUnits="userSpaceOnUse")


def width_of(content: object, size: float = FONT) -> float:
    """About how wide a text will be; errs a little to the wide side."""
    return len(str(content)) * size * _CHARACTER_WIDTH


def fitted(content: object, width: float, size: float = FONT) -> str:
    """The text if it fits into a width, else its beginning and an ellipsis, else nothing."""
    whole = str(content)
    if width_of(whole, size) <= width:
        return whole
    room = int(width / (size * _CHARACTER_WIDTH)) - 1
    return whole[:room] + "…" if room >= 3 else ""


def first_that_fits(choices: Iterable[str], width: float, size: float = FONT) -> str:
    """The first of several wordings that fits into a width whole, else nothing."""
    return next((words for words in choices if width_of(words, size) <= width), "")


def picture(width: float, height: float, *children: str, title: str) -> str:
    """A whole SVG text, usable as a file and inside a page; `title` is what a screen reader says."""
    return tag(
        "svg",
        tag("title", escape(clean(title))),
        tag("style", escape(STYLE)),
        *children,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {number(width)} {number(height)}",
        width=float(width),
        height=float(height),
        class_="fg",
        role="img",
    )
