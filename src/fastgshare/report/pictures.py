"""The pictures of the documentation: ``python -m fastgshare.report.pictures DIRECTORY`` draws them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.rects import Placement, Rect
from fastgshare.report import svg
from fastgshare.report.colours import colours
from fastgshare.report.device import panel

_DEVICE: Final = Device("cpu", DeviceKind.CPU, 4, sm_ids=(0, 1, 2, 3))
_WINDOW_S: Final = 0.1
_WHOLE: Final = {
    "ocr": (0.0, 0.3),
    "similarity": (0.3, 0.27),
    "speech": (0.57, 0.25),
    "files": (0.82, 0.18),
}
_SHARES: Final = {
    "ocr": Rect(0, 0, 50, 0.62),
    "similarity": Rect(50, 0, 50, 0.45),
    "speech": Rect(75, 0.45, 25, 0.5),
    "files": Rect(50, 0.45, 25, 0.3),
    "ocr ": Rect(0, 0.62, 50, 0.33),
}


def pictures() -> dict[str, str]:
    """All pictures: file name -> SVG."""
    return {"sharing.svg": sharing()}


def sharing() -> str:
    """The same functions on one device: in time alone, and on shares. An illustration, not a measurement."""
    time_alone = {name: Rect(0, start, 100, quota) for name, (start, quota) in _WHOLE.items()}
    halves = [
        _half(0, "Sharing in time alone", "each gets the whole device in turn", time_alone),
        _half(450, "FaST-GShare", "each gets the part it can use, several at once", _SHARES),
    ]
    title = "Four functions on one device of four cores: sharing in time alone, and on shares in space and time"
    return svg.picture(890, 350, *halves, title=title)


def _half(x: float, name: str, words: str, rects: dict[str, Rect]) -> str:
    placements = [Placement(function, _DEVICE.id, rect) for function, rect in rects.items()]
    labels = {function: function.strip() for function in rects}
    return svg.group(
        x,
        0,
        svg.text(74, 26, name, "strong"),
        svg.text(74, 44, words, "soft"),
        svg.group(0, 44, panel(_DEVICE, placements, labels, _WINDOW_S, colours(_WHOLE), (440, 300))),
    )


def main(directory: Path) -> None:
    """Write all pictures into a directory."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in pictures().items():
        (directory / name).write_text(content + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
