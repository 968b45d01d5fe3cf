"""Lines of the counters process: a reading as JSON, absent what the device does not have."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Final

from fastgshare.domain.errors import WireError
from fastgshare.domain.readings import Reading

_MOST: Final[Mapping[str, float]] = {
    **dict.fromkeys(("utilisation", "sm_utilisation", "sm_occupancy"), 1.0),
    **dict.fromkeys(("graphics_utilisation", "memory_utilisation"), 1.0),
    **dict.fromkeys(("mem_used_bytes", "mem_total_bytes"), 2.0**62),
    **dict.fromkeys(("power_w", "temperature_c", "sm_clock_mhz"), math.inf),
}
"""The figures, each with the most that it can be."""


def document(reading: Reading) -> dict[str, Any]:
    """A reading as JSON has it: `at_s`, `xids` and `lost` always, the others where they are not absent."""
    there: dict[str, Any] = {"at_s": reading.at_s}
    for name in _MOST:
        if (value := getattr(reading, name)) is not None:
            there[name] = value
    there |= {"xids": [list(xid) for xid in reading.xids], "lost": reading.lost}
    return there | ({"problem": reading.problem} if reading.problem else {})


def encode(reading: Reading) -> str:
    """A reading as a line, without its end."""
    return json.dumps(document(reading))


def decode(line: str | bytes) -> Reading:
    """A reading from its line. Raises `WireError` for anything else."""
    try:
        found = json.loads(line)
        if not isinstance(found, dict):
            raise ValueError("it is no object")
        figures: dict[str, Any] = {name: _number(found, name, most) for name, most in _MOST.items() if name in found}
        return Reading(
            _number(found, "at_s", math.inf),
            **figures,
            xids=tuple(_xid(each) for each in found["xids"]),
            lost=found["lost"] is True,
            problem=str(found.get("problem", "")),
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise WireError(f"not a reading: {error}") from error


def _number(found: Mapping[str, Any], name: str, most: float) -> float:
    value = found[name]
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= most or value == math.inf:
        raise ValueError(f"{name} is {value!r}")
    return value


def _xid(found: object) -> tuple[float, int]:
    match found:
        case [int() | float() as when_s, int() as number]:
            return float(when_s), number
    raise ValueError(f"an XID is {found!r}")
