"""Keeping a device busy from Python, and saying when it was; like native/probes/load.cpp, for any Python API."""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

_AHEAD: Final = 8
_TRIES: Final = 10


class Events(Protocol):
    """Events of some API."""

    def record(self) -> Any:
        """Mark what has been started so far."""

    def wait(self, event: Any) -> None:
        """Until it has happened."""

    def elapsed_ns(self, first: Any, then: Any) -> int:
        """Between two that have happened."""


def say(line: Mapping[str, object]) -> None:
    """A line for the suite."""
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def wait_until_admitted() -> None:
    """Until the suite says that the driver may be touched."""
    sys.stdin.readline()


def time_of(start: Callable[[], object], events: Events) -> int:
    """How long one piece of work takes: the least of a few tries, for the start may be held back."""
    return min(_time_one(start, events) for _ in range(_TRIES))


def saturate(name: str, start: Callable[[], object], events: Events, work_ns: int, seconds: float) -> None:
    """Start work of `work_ns` again and again, some ahead; say when the device was busy with it."""
    base, base_ns = _mark_now(events)
    pending: deque[Any] = deque()
    busy: list[list[int]] = []
    from_ns = time.monotonic_ns()
    until_ns = from_ns + round(seconds * 1e9)
    while pending or time.monotonic_ns() < until_ns:
        if time.monotonic_ns() < until_ns:
            start()
            pending.append(events.record())
        if len(pending) > _AHEAD or time.monotonic_ns() >= until_ns:
            oldest = pending.popleft()
            events.wait(oldest)
            end_ns = base_ns + events.elapsed_ns(base, oldest)
            begin_ns = max(end_ns - work_ns, busy[-1][1] if busy else 0)
            if end_ns > begin_ns:
                busy.append([begin_ns, end_ns, end_ns - begin_ns])
    say({"name": name, "status": "ran", "error": 0, "from_ns": from_ns, "until_ns": until_ns, "busy": busy})


def _time_one(start: Callable[[], object], events: Events) -> int:
    first = events.record()
    start()
    then = events.record()
    events.wait(then)
    return events.elapsed_ns(first, then)


def _mark_now(events: Events) -> tuple[Any, int]:
    """An event and when it happened, by our clock: of a few, the one that was quickest."""
    found = []
    for number in range(_TRIES):
        before_ns = time.monotonic_ns()
        event = events.record()
        events.wait(event)
        took_ns = time.monotonic_ns() - before_ns
        found.append((took_ns, number, event, before_ns + took_ns // 2))
    _, _, event, at_ns = min(found)
    return event, at_ns
