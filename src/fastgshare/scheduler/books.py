"""Books: what a scheduler remembers of its instances, which no cluster tells it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from fastgshare.domain.functions import Function
from fastgshare.domain.instances import Instance, InstanceState, InstanceStatus
from fastgshare.domain.shares import Share


@dataclass(frozen=True, slots=True)
class Record:
    """One instance: the function as it was given to it, with the share it has now.

    attempt: 1, or one more than that of the failed instance whose place it took.
    ready_s: since when it answers. stopping: whether it was told to end.
    """

    function: Function
    attempt: int = 1
    ready_s: float | None = None
    stopping: bool = False


@dataclass(frozen=True, slots=True)
class Failure:
    """An instance that ended by itself, and has no successor yet. attempt: how many in a row that makes.

    blameless: it ended for what others did, or befell its device; it does not count as one in the row. patience_s: how
    long its successor then waits all the same, because it would fare alike.
    """

    instance_id: str
    attempt: int
    failed_s: float
    was_ready: bool
    reason: str
    blameless: bool = False
    patience_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Backoff:
    """When a failed instance is followed by another: after its patience, mostly none, if it is blameless; at once if it
    had answered and is the first in a row to fail; else after `first_s`, doubled each time up to `longest_s`; never
    after `attempts` in a row.

    stable_s: how long an instance must have answered for its failure to be the first in a row.
    """

    attempts: int = 6
    first_s: float = 1.0
    longest_s: float = 60.0
    stable_s: float = 60.0

    def retry_s(self, failure: Failure) -> float:
        """When to start its successor; infinity for never."""
        if failure.attempt >= self.attempts:
            return math.inf
        if failure.blameless or (failure.was_ready and failure.attempt == 1):
            return failure.failed_s + failure.patience_s
        return float(failure.failed_s + min(self.longest_s, self.first_s * 2 ** (failure.attempt - 1)))


@dataclass(frozen=True, slots=True)
class Book:
    """Records by instance, failures without a successor and the highest number given out by function."""

    records: Mapping[str, Record] = field(default_factory=dict)
    failures: Mapping[str, tuple[Failure, ...]] = field(default_factory=dict)
    numbers: Mapping[str, int] = field(default_factory=dict)

    def observe(self, observed: Iterable[InstanceStatus], now_s: float, backoff: Backoff) -> Book:
        """Take in what a cluster shows: who became ready, who failed, who went away unasked."""
        seen = {status.id: status for status in observed}
        book = self
        for id, record in self.records.items():
            status = seen.get(id)
            if status is None or status.state in (InstanceState.FAILED, InstanceState.GONE):
                reason, blameless = (status.reason, status.blameless) if status is not None else ("", False)
                book = book.failed(id, reason or "it went away", now_s, backoff, blameless=blameless)
            elif status.state is InstanceState.READY and record.ready_s is None:
                book = replace(book, records={**book.records, id: replace(record, ready_s=now_s)})
        return book

    def failed(
        self,
        instance_id: str,
        reason: str,
        now_s: float,
        backoff: Backoff,
        *,
        blameless: bool = False,
        patience_s: float = 0.0,
    ) -> Book:
        """An instance has ended. Counts once, and not if it was told to."""
        record = self.records.get(instance_id)
        if record is None:
            return self
        records = {id: r for id, r in self.records.items() if id != instance_id}
        if record.stopping:
            return replace(self, records=records)
        was_ready = record.ready_s is not None
        stable = record.ready_s is not None and now_s - record.ready_s >= backoff.stable_s
        attempt = (1 if stable else record.attempt) - blameless
        failure = Failure(instance_id, attempt, now_s, was_ready, reason, blameless, patience_s)
        name = record.function.name
        failures = {**self.failures, name: (*self.failures.get(name, ()), failure)}
        return replace(self, records=records, failures=failures)

    def forgive(self, function_name: str) -> Book:
        """Forget the failures of a function."""
        return replace(self, failures={name: f for name, f in self.failures.items() if name != function_name})

    def started(self, instance: Instance, failure: Failure | None) -> Book:
        """An instance is being started, perhaps to make good a failure."""
        name = instance.function.name
        attempt = 1 if failure is None else failure.attempt + 1
        rest = tuple(f for f in self.failures.get(name, ()) if f != failure)
        return Book(
            {**self.records, instance.id: Record(instance.function, attempt)},
            {**self.failures, name: rest},
            {**self.numbers, name: max(self.numbers.get(name, 0), number_of(instance.id))},
        )

    def stopping(self, instance_id: str) -> Book:
        """An instance is told to end."""
        record = self.records.get(instance_id)
        if record is None:
            return self
        return replace(self, records={**self.records, instance_id: replace(record, stopping=True)})

    def resized(self, instance_id: str, share: Share) -> Book:
        """An instance has another share."""
        record = self.records.get(instance_id)
        if record is None:
            return self
        changed = replace(record, function=replace(record.function, share=share))
        return replace(self, records={**self.records, instance_id: changed})


def number_of(instance_id: str) -> int:
    """The number at the end of an instance's id; 0 if there is none."""
    digits = instance_id.rpartition("-")[2]
    return int(digits) if digits.isascii() and digits.isdigit() else 0
