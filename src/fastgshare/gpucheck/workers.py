"""Workers: programs that load models once and then obey lines on standard input, each answered by one."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fastgshare.gpucheck.loops import Task, parse_task


def say(line: Mapping[str, object]) -> None:
    """A line for who started us."""
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def admitted() -> bool:
    """Wait until told to touch the device. False: nobody wants it any more."""
    return bool(sys.stdin.readline())


def obey(perform: Callable[[Task], Mapping[str, object]], lines: Iterable[str] | None = None) -> None:
    """Do every task that comes in, until standard input ends. What a task fails by, is its answer."""
    for line in sys.stdin if lines is None else lines:
        say(_answer(perform, json.loads(line)))


def _answer(perform: Callable[[Task], Mapping[str, object]], document: Mapping[str, Any]) -> Mapping[str, object]:
    try:
        return {"status": "ran", **perform(parse_task(document))}
    except Exception as error:  # whatever a framework raises
        return {"status": "failed", "why": f"{type(error).__name__}: {error}"[:300]}
