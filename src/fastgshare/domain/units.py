"""Conversions between what people write, what Python computes with and what goes on the wire.

Python computes in float seconds and float percent; the wire and shared memory carry integer nanoseconds and
integer milli-percent of a device's SMs. This is the one place that converts.
"""

from __future__ import annotations

import re
from typing import Final

from fastgshare.domain.errors import InvalidValue

NS_PER_S: Final = 1_000_000_000
MILLIPERCENT: Final = 1000
"""Milli-percent in one percent: a whole device is 100_000."""

_BYTE_UNITS: Final = {
    "": 1,
    "k": 10**3,
    "m": 10**6,
    "g": 10**9,
    "t": 10**12,
    "ki": 2**10,
    "mi": 2**20,
    "gi": 2**30,
    "ti": 2**40,
}
_BYTES: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]i?)?b?\s*", re.IGNORECASE)


def ns(seconds: float) -> int:
    """Seconds to whole nanoseconds, rounded to nearest."""
    return round(seconds * NS_PER_S)


def seconds(nanoseconds: int) -> float:
    """Nanoseconds to seconds."""
    return nanoseconds / NS_PER_S


def milli(percent: float) -> int:
    """Percent of a device's SMs to whole milli-percent, rounded to nearest."""
    return round(percent * MILLIPERCENT)


def percent(millipercent: int) -> float:
    """Milli-percent to percent."""
    return millipercent / MILLIPERCENT


def parse_bytes(field: str, text: str | int | float) -> int:
    """Bytes of a size such as ``512Mi``, ``2GiB``, ``1.5G`` or a plain number.

    Raises `InvalidValue` naming `field` when the text is not a size.
    """
    match = _BYTES.fullmatch(str(text))
    if match is None:
        raise InvalidValue(field, text, "a size in bytes such as 512Mi, 2GiB, 1.5G or 1048576")
    return int(float(match[1]) * _BYTE_UNITS[(match[2] or "").lower()])


def write_bytes(size_bytes: int) -> str:
    """A size as people write it: in the largest of Ki, Mi, Gi and Ti that it is a multiple of, else in bytes."""
    for unit in ("Ti", "Gi", "Mi", "Ki"):
        size, rest = divmod(size_bytes, _BYTE_UNITS[unit.lower()])
        if size and not rest:
            return f"{size}{unit}"
    return f"{size_bytes} bytes"
