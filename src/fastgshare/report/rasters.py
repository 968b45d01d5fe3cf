"""Pictures as PNG."""

from __future__ import annotations

import re
from typing import Final

from fastgshare.domain.errors import FastGShareError
from fastgshare.report import svg

_DARK: Final = re.compile(r"@media[^{]*\{(?:[^{}]*\{[^}]*\})*\s*\}")
_VALUES: Final = re.compile(r"--([a-z]+):\s*([^;]+);")
_USES: Final = re.compile(r"var\(--([a-z]+)\)")
_PAPER: Final = "#ffffff"
_FAMILY: Final = "DejaVu Sans"


class PictureFailed(FastGShareError):
    """A picture cannot be drawn here; the text says why and what to do instead."""


def png(picture: str, *, zoom: float = 2.0) -> bytes:
    """A PNG of an SVG of ours, in its light colours on white; `zoom` pixels for every unit of length.

    Raises `PictureFailed` where resvg-py is not installed, or no font: words would be missing in silence.
    """
    if _drawn(svg.picture(20, 20, svg.text(2, 16, "M"), title=""), 1) == _drawn(svg.picture(20, 20, title=""), 1):
        raise PictureFailed(
            "a PNG needs a font, and none is installed; install one (such as DejaVu Sans), or write .svg or .html"
        )
    return _drawn(picture, zoom)


def _drawn(picture: str, zoom: float) -> bytes:
    try:
        from resvg_py import svg_to_bytes
    except ImportError:
        raise PictureFailed(
            "a PNG needs resvg-py, which is not installed: pip install 'fastgshare[profile]'; or write .svg or .html"
        ) from None
    return svg_to_bytes(
        svg_string=_plain(picture),
        background=_PAPER,
        zoom=zoom,
        font_size=svg.FONT,
        font_family=_FAMILY,
        sans_serif_family=_FAMILY,
    )


def _plain(picture: str) -> str:
    """The picture without what a browser alone understands: variables in styles, and the dark screen's."""
    light = _DARK.sub("", picture).replace("font-weight: 650", "font-weight: bold")
    values = dict(_VALUES.findall(light))
    return _USES.sub(lambda use: values.get(use[1], use[0]), light)
