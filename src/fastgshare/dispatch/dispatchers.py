"""Dispatchers: the policy for the requests of one function, as a state machine without clock and I/O.

Tell a dispatcher what happens (`offer`, `withdraw`, `instance_ready`, `instance_draining`, `instance_gone`, `done`,
`returned`, `expect`), then `poll` it for what is to be done, and again at `next_wakeup_s`. All times are seconds on one
monotonic scale and must not decrease from call to call. What cannot be raises `IllegalTransition` and changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from typing import Final

from fastgshare.dispatch.agendas import Agenda
from fastgshare.dispatch.outcomes import (
    Accepted,
    Assignment,
    IllegalTransition,
    Load,
    Outcome,
    Refusal,
    Refused,
    Snapshot,
    Unserved,
)
from fastgshare.dispatch.rates import CompletionRate
from fastgshare.domain.functions import Batching
from fastgshare.domain.requests import Request

DEPTH: Final = 2
"""Batches an instance may have at once: one that it works on, one that keeps it backlogged."""
PATIENCE_S: Final = 1.0
"""A request can be overtaken only by those that come less than this many seconds after it."""
MAX_BATCH_BYTES: Final = 64 * 2**20
"""Bodies of one batch together; a single larger request travels alone."""
ONE_BY_ONE: Final = Batching()
_UNKNOWN_RETRY_S: Final = 1.0
_ACCEPTED: Final = Accepted()


class _Call:
    """An accepted request whose answer is still wanted."""

    __slots__ = ("lost", "request")

    def __init__(self, request: Request) -> None:
        self.request = request
        self.lost = False


class _Worker:
    """What a dispatcher knows of one instance; `batches` in the order in which they were given."""

    __slots__ = ("batches", "draining", "id", "last_batch_id", "load", "lost")

    def __init__(self, id: str) -> None:
        self.id = id
        self.batches: dict[int, tuple[int, ...]] = {}
        self.load = 0
        self.last_batch_id = 0
        self.draining = False
        self.lost = False


class Dispatcher:
    """Queue, deadlines, batching, routing, retry and shedding of one function.

    Order: earliest deadline first, where a deadline counts for at most `patience_s` after a request came, so that
    nothing starves; requests with equal timeouts keep their order. A batch goes out once it is full or its first
    request has waited `batching.max_wait_s`, to the ready instance with the fewest requests that has fewer than
    `depth` batches. The batch that an instance is lost with goes back to the head of the queue once, its requests one
    by one (one of them may be what killed the instance); batches behind it have not begun and are not counted as lost.
    With `refuse_hopeless` a request whose deadline passes before the queue in front of it is worked off is refused.
    """

    def __init__(
        self,
        *,
        queue_size: int,
        batching: Batching = ONE_BY_ONE,
        depth: int = DEPTH,
        patience_s: float = PATIENCE_S,
        refuse_hopeless: bool = False,
    ) -> None:
        self._queue_size = queue_size
        self._batching = batching
        self._depth = depth
        self._patience_s = patience_s
        self._refuse_hopeless = refuse_hopeless
        self._calls: dict[int, _Call] = {}
        self._waiting = Agenda()
        self._due = Agenda()
        self._deadlines = Agenda()
        self._workers: dict[str, _Worker] = {}
        self._ready = 0
        self._owners: dict[int, _Worker] = {}
        self._outbox: list[Unserved] = []
        self._expecting = False
        self._last_batch_id = 0
        self._retried = 0
        self._rate = CompletionRate()

    def configure(self, *, queue_size: int, batching: Batching) -> None:
        """Change the bounds; what waits stays, even beyond a smaller queue."""
        self._queue_size = queue_size
        self._batching = batching

    def offer(self, request: Request, now_s: float) -> Accepted | Refused:
        """Take a request or refuse it. Raises `IllegalTransition` if its id is still waiting for an answer."""
        if request.id in self._calls:
            raise IllegalTransition(f"request {request.id} is already here")
        refusal = self._refusal(request, now_s)
        if refusal is not None:
            return Refused(refusal, self._drain_s(now_s) or _UNKNOWN_RETRY_S)
        self._calls[request.id] = _Call(request)
        self._deadlines.add(request.id, request.deadline_s)
        self._waiting.add(request.id, min(request.deadline_s, now_s + self._patience_s))
        due_s = now_s + self._batching.max_wait_s
        self._due.add(request.id, due_s if due_s < request.deadline_s else now_s)
        return _ACCEPTED

    def withdraw(self, request_id: int) -> None:
        """Drop a request whose answer nobody wants any more. Raises `IllegalTransition` if it has been answered."""
        if request_id not in self._calls:
            raise IllegalTransition(f"request {request_id} is not waiting for an answer")
        self._forget(request_id)

    def expect(self, instances_coming: bool) -> None:
        """Say whether instances will become ready: then requests wait for them, else they end with NO_INSTANCE."""
        self._expecting = instances_coming

    def knows(self, instance_id: str) -> bool:
        """Whether the instance is ready, or draining with work left."""
        return instance_id in self._workers

    @property
    def pending(self) -> bool:
        """Whether `poll` could have something to do, now or later, but for deadlines of what instances have."""
        return len(self._waiting) > 0 or len(self._outbox) > 0

    @property
    def serving(self) -> bool:
        """Whether an instance is ready."""
        return self._ready > 0

    def instance_ready(self, instance_id: str) -> None:
        """Give work to this instance from now on. Raises `IllegalTransition` if it is known."""
        if instance_id in self._workers:
            raise IllegalTransition(f"instance {instance_id} is already here")
        self._workers[instance_id] = _Worker(instance_id)
        self._ready += 1

    def instance_draining(self, instance_id: str) -> None:
        """Give it nothing more; it is forgotten once it has answered everything. Raises `IllegalTransition`."""
        worker = self._worker(instance_id)
        if worker.draining:
            raise IllegalTransition(f"instance {instance_id} is already draining")
        worker.draining = True
        self._ready -= 1
        self._release(worker)

    def instance_gone(self, instance_id: str, now_s: float) -> None:
        """The instance is lost with all it was given. Raises `IllegalTransition` if it is not known."""
        worker = self._worker(instance_id)
        if not worker.draining:
            self.instance_draining(instance_id)
        for batch_id in list(worker.batches):
            self.returned(batch_id, now_s, begun=True)

    def done(self, batch_id: int, now_s: float) -> tuple[Request, ...]:
        """The instance has answered a batch: its requests whose answers are still wanted, in order.

        Raises `IllegalTransition` if the batch is not with an instance.
        """
        worker = self._owners.pop(batch_id, None)
        if worker is None:
            raise IllegalTransition(f"batch {batch_id} is not with an instance")
        request_ids = worker.batches.pop(batch_id)
        worker.load -= len(request_ids)
        self._release(worker)
        self._rate.record(len(request_ids), now_s)
        self._note_activity(now_s)
        wanted = tuple([self._calls[id].request for id in request_ids if id in self._calls])
        for request in wanted:
            self._forget(request.id)
        return wanted

    def returned(self, batch_id: int, now_s: float, *, begun: bool) -> None:
        """The instance will not answer this batch and gets nothing more: its requests go back to the head.

        begun: whether the instance may have begun it. The first such batch of an instance is the one that it was lost
        with; those behind it had not begun. Raises `IllegalTransition` if the batch is not with an instance.
        """
        worker = self._owners.pop(batch_id, None)
        if worker is None:
            raise IllegalTransition(f"batch {batch_id} is not with an instance")
        request_ids = worker.batches.pop(batch_id)
        worker.load -= len(request_ids)
        self._take_back(request_ids, lost=begun and not worker.lost)
        worker.lost |= begun
        self._ready -= not worker.draining
        worker.draining = True
        self._release(worker)
        self._note_activity(now_s)

    def poll(self, now_s: float) -> list[Assignment | Unserved]:
        """What is to be done now, once each: requests that ended unserved, and batches for instances."""
        self._expire(now_s)
        if len(self._waiting) and not self._expecting and not self._ready:
            self._end(tuple(self._waiting), Outcome.NO_INSTANCE)
        actions: list[Assignment | Unserved] = list(self._outbox)
        self._outbox.clear()
        while self._batch_ready(now_s) and (worker := self._least_loaded()) is not None:
            actions.append(self._assign(worker))
            self._rate.begin(now_s)
        return actions

    def next_wakeup_s(self) -> float | None:
        """When to poll although nothing happens: -inf for now, None if only an event can change anything."""
        if self._outbox or (len(self._waiting) and not self._expecting and not self._ready):
            return -inf
        deadline = self._deadlines.first()
        wakeup_s = inf if deadline is None else deadline[0]
        if len(self._waiting) and self._least_loaded() is not None:
            due = self._due.first()
            wakeup_s = -inf if due is None or self._full() else min(wakeup_s, due[0])
        return None if wakeup_s == inf else wakeup_s

    def snapshot(self, now_s: float) -> Snapshot:
        """The state at this moment, for metrics and for people."""
        return Snapshot(
            waiting=len(self._waiting),
            in_flight=len(self._calls) - len(self._waiting),
            instances={w.id: Load(len(w.batches), w.load, w.draining) for w in self._workers.values()},
            instances_coming=self._expecting,
            completed_per_s=self._rate.per_s(now_s),
            retried=self._retried,
        )

    def _refusal(self, request: Request, now_s: float) -> Refusal | None:
        if not self._expecting and not self._ready:
            return Refusal.NO_INSTANCE
        if len(self._waiting) >= self._queue_size:
            return Refusal.QUEUE_FULL
        if self._refuse_hopeless and now_s + (self._drain_s(now_s) or 0.0) > request.deadline_s:
            return Refusal.HOPELESS
        return None

    def _drain_s(self, now_s: float) -> float | None:
        """Seconds until what waits now is worked off at the recent rate, None if that is unknown."""
        rate = self._rate.per_s(now_s)
        return None if rate is None else len(self._waiting) / rate

    def _full(self) -> bool:
        return len(self._waiting) >= self._batching.max_size

    def _batch_ready(self, now_s: float) -> bool:
        due = self._due.first()
        return due is not None and (due[0] <= now_s or self._full())

    def _least_loaded(self) -> _Worker | None:
        """The instance for the next batch; of equals the one whose last batch is the oldest."""
        best: _Worker | None = None
        for worker in self._workers.values():
            if worker.draining or len(worker.batches) >= self._depth:
                continue
            if best is None or (worker.load, worker.last_batch_id) < (best.load, best.last_batch_id):
                best = worker
        return best

    def _assign(self, worker: _Worker) -> Assignment:
        requests = self._next_batch()
        self._last_batch_id += 1
        batch_id = worker.last_batch_id = self._last_batch_id
        worker.batches[batch_id] = tuple([request.id for request in requests])
        worker.load += len(requests)
        self._owners[batch_id] = worker
        return Assignment(batch_id, worker.id, tuple(requests))

    def _next_batch(self) -> list[Request]:
        requests: list[Request] = []
        size_bytes = 0
        while len(requests) < self._batching.max_size and (first := self._waiting.first()) is not None:
            call = self._calls[first[1]]
            size_bytes += len(call.request.body)
            if requests and (call.lost or size_bytes > MAX_BATCH_BYTES):
                break
            self._leave_queue(call.request.id)
            requests.append(call.request)
            if call.lost:
                break
        return requests

    def _take_back(self, request_ids: Iterable[int], *, lost: bool) -> None:
        for call in [self._calls[id] for id in request_ids if id in self._calls]:
            if call.lost and lost:
                self._end((call.request.id,), Outcome.LOST)
                continue
            call.lost |= lost
            self._retried += lost
            self._waiting.add(call.request.id, -inf)
            self._due.add(call.request.id, -inf)

    def _expire(self, now_s: float) -> None:
        while (first := self._deadlines.first()) is not None and first[0] <= now_s:
            self._end((first[1],), Outcome.EXPIRED)

    def _end(self, request_ids: Iterable[int], outcome: Outcome) -> None:
        for id in request_ids:
            self._outbox.append(Unserved(self._calls[id].request, outcome))
            self._forget(id)

    def _forget(self, request_id: int) -> None:
        del self._calls[request_id]
        self._deadlines.discard(request_id)
        self._leave_queue(request_id)

    def _leave_queue(self, request_id: int) -> None:
        self._waiting.discard(request_id)
        self._due.discard(request_id)

    def _worker(self, instance_id: str) -> _Worker:
        worker = self._workers.get(instance_id)
        if worker is None:
            raise IllegalTransition(f"instance {instance_id} is not here")
        return worker

    def _release(self, worker: _Worker) -> None:
        if worker.draining and not worker.batches:
            del self._workers[worker.id]

    def _note_activity(self, now_s: float) -> None:
        if not self._owners:
            self._rate.end(now_s)
