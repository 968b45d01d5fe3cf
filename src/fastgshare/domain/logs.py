"""Log lines: what instances wrote."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line that an instance wrote to its stdout or stderr, without its newline, and when (unix seconds)."""

    function_name: str
    instance_id: str
    unix_s: float
    text: str
