"""Where in a JSON text a value stands, so that an error can say the line."""

from __future__ import annotations

import json
import re
from typing import Final

from fastgshare.spec.problems import Path

_SPACE: Final = re.compile(r"[ \t\n\r]*")
_DECODER: Final = json.JSONDecoder()


def line_of(text: str, path: Path) -> int:
    """The line, from 1, of the value at a path in valid JSON; of the deepest part of the path that is there."""
    position = _skip(text, 0)
    for part in path:
        child = _child(text, position, part)
        if child is None:
            break
        position = child
    return text.count("\n", 0, position) + 1


def _child(text: str, position: int, part: str | int) -> int | None:
    """Where a child of the container at `position` begins."""
    if text[position] not in "{[" or (text[position] == "{") is isinstance(part, int):
        return None
    keyed, index = text[position] == "{", 0
    position = _skip(text, position + 1)
    while text[position] not in "}]":
        key: object = index
        if keyed:
            key, position = _DECODER.raw_decode(text, position)
            position = _skip(text, _skip(text, position) + 1)
        if key == part:
            return position
        _, position = _DECODER.raw_decode(text, position)
        position, index = _after(text, position), index + 1
    return None


def _after(text: str, position: int) -> int:
    """Where the next member begins, or the container ends."""
    position = _skip(text, position)
    return _skip(text, position + 1) if text[position] == "," else position


def _skip(text: str, position: int) -> int:
    found = _SPACE.match(text, position)
    return found.end() if found else position
