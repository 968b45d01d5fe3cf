"""The CPU's spatial mechanism: an instance runs on the cores of its rect. Guarantee: cap."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


def pin(pid: int, cores: Iterable[int]) -> None:
    """Move all threads of a process to `cores`; threads it starts later inherit them. A gone process is no error."""
    wanted = set(cores)
    for task in _tasks(pid):
        with suppress(ProcessLookupError):
            os.sched_setaffinity(task, wanted)


def _tasks(pid: int) -> list[int]:
    try:
        return [int(entry.name) for entry in Path(f"/proc/{pid}/task").iterdir()]
    except (FileNotFoundError, ProcessLookupError):
        return []
