"""Loops of a worker: requests back to back, or as they arrive; with an explicit clock, in nanoseconds."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from fastgshare.domain.errors import InvalidValue


class Clock(Protocol):
    """Monotonic time that can be slept until."""

    def now_ns(self) -> int:
        """Nanoseconds."""

    def sleep_until(self, at_ns: int) -> None:
        """Return at that time, or at once if it has passed."""


class MonotonicClock:
    """The machine's."""

    def now_ns(self) -> int:
        """Nanoseconds, the same in all processes."""
        return time.monotonic_ns()

    def sleep_until(self, at_ns: int) -> None:
        """Sleep, if that is not over."""
        left_ns = at_ns - time.monotonic_ns()
        if left_ns > 0:
            time.sleep(left_ns / 1e9)


@dataclass(frozen=True, slots=True)
class Task:
    """What a worker is told: requests of a model, up to a time.

    Those that begin (arrive, with a rate) from from_ns on count, others warm it up. rate: arrivals a second, 0: one
    request after the other.
    """

    model: str
    batch: int
    from_ns: int
    until_ns: int
    rate: float = 0.0
    seed: int = 1

    def document(self) -> dict[str, object]:
        """As a line."""
        return {name: getattr(self, name) for name in self.__slots__}


def parse_task(document: Mapping[str, Any]) -> Task:
    """Read what `Task.document` wrote. Raises `InvalidValue`."""
    try:
        batch, from_ns, until_ns = (int(document[name]) for name in ("batch", "from_ns", "until_ns"))
        return Task(str(document["model"]), batch, from_ns, until_ns, float(document["rate"]), int(document["seed"]))
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidValue("task", document, "model, batch, from_ns, until_ns, rate and seed") from error


@dataclass(frozen=True, slots=True)
class Tally:
    """What requests took. passed_ns: the time in which they were answered. unanswered: arrivals that were left over.

    listed: whether each one's latency is told, so that those of several turns can be put together.
    """

    latencies_ns: Sequence[int]
    passed_ns: int
    unanswered: int = 0
    listed: bool = False

    def document(self) -> dict[str, object]:
        """As a line: requests a second, and latencies in milliseconds."""
        ordered = sorted(self.latencies_ns)
        found: dict[str, object] = {
            name: round(percentile(ordered, q) / 1e6, 4) for name, q in (("p50_ms", 0.5), ("p99_ms", 0.99))
        }
        rps = len(ordered) / (self.passed_ns / 1e9) if self.passed_ns > 0 else 0.0
        if self.listed:
            found["latencies_ms"] = [round(ns / 1e6, 4) for ns in ordered]
        return found | {"requests": len(ordered), "rps": round(rps, 4), "unanswered": self.unanswered}


def percentile(ordered: Sequence[float], q: float) -> float:
    """Of ascending values; 0 of none."""
    return float(ordered[min(len(ordered) - 1, int(q * len(ordered)))]) if ordered else 0.0


def play(task: Task, request: Callable[[], object], clock: Clock) -> Tally:
    """Answer requests as the task says."""
    return _as_they_arrive(task, request, clock) if task.rate > 0 else _back_to_back(task, request, clock)


def _back_to_back(task: Task, request: Callable[[], object], clock: Clock) -> Tally:
    latencies: list[int] = []
    first_ns = now_ns = clock.now_ns()
    while now_ns < task.until_ns:
        began_ns = now_ns
        request()
        now_ns = clock.now_ns()
        if began_ns < task.from_ns:
            first_ns = now_ns
        else:
            latencies.append(now_ns - began_ns)
    return Tally(latencies, now_ns - first_ns)


def _as_they_arrive(task: Task, request: Callable[[], object], clock: Clock) -> Tally:
    """Arrivals do not wait for answers: what a request waits in line for, is part of its latency."""
    chance = random.Random(task.seed)
    latencies: list[int] = []
    arrives_ns: float = clock.now_ns()
    while arrives_ns < task.until_ns and clock.now_ns() < task.until_ns:
        clock.sleep_until(int(arrives_ns))
        request()
        if arrives_ns >= task.from_ns:
            latencies.append(clock.now_ns() - int(arrives_ns))
        arrives_ns += 1e9 * chance.expovariate(task.rate)
    unanswered = 0
    while arrives_ns < task.until_ns:
        unanswered += 1
        arrives_ns += 1e9 * chance.expovariate(task.rate)
    return Tally(latencies, task.until_ns - task.from_ns, unanswered, listed=True)
