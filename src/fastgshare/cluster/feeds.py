"""Feeds: the same request again and again for one instance, queued and batched as in production."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from fastgshare.dispatch.dispatchers import Dispatcher
from fastgshare.dispatch.outcomes import Assignment
from fastgshare.domain.errors import FastGShareError
from fastgshare.domain.functions import Function
from fastgshare.domain.ports import Cluster
from fastgshare.domain.requests import Reply, Request

_WRONG: Final = 400
_ENDLESS: Final = 1_000_000
_DEADLINE_S: Final = 3600.0
"""Nothing expires: who measures wants to know how late answers are."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one request; on the loop's clock. sent_s: when its batch went to the instance.

    problem: why there is no good answer, "" if there is one.
    """

    id: int
    offered_s: float
    sent_s: float
    done_s: float
    problem: str = ""


Heard = Callable[[Sequence[Answer]], None]
"""Is called with all answers of a batch."""


def _ignore(answers: Sequence[Answer]) -> None:
    """Until somebody wants to hear of them."""


class Feed:
    """Requests with one body for one instance that is ready, through a dispatcher of its own.

    heard: who is told of answers; may be changed while none waits. problem: why there are none any more, or "": once
    the instance is lost, or after `close`, all that is offered is answered at once, with that.
    """

    def __init__(self, cluster: Cluster, instance_id: str, function: Function, body: bytes) -> None:
        self.problem = ""
        self._cluster = cluster
        self._instance_id = instance_id
        self._function = function
        self._body = body
        self.heard: Heard = _ignore
        self._loop = asyncio.get_running_loop()
        self._dispatcher = Dispatcher(queue_size=_ENDLESS, batching=function.batch)
        self._dispatcher.instance_ready(instance_id)
        self._pending: dict[int, float] = {}
        self._carrying: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """Requests that have no answer yet."""
        return len(self._pending)

    def offer(self, ids: Sequence[int]) -> None:
        """Ask once for every id; ids that are waiting must not be among them."""
        now_s = self._loop.time()
        self._pending |= dict.fromkeys(ids, now_s)
        if self.problem:
            self._give_up()
            return
        for id in ids:
            self._dispatcher.offer(self._request(id, now_s), now_s)
        self._pump()

    def close(self, problem: str) -> None:
        """Answer all that waits, and whatever is offered from now on, with a problem."""
        self.problem = self.problem or problem
        if self._timer is not None:
            self._timer.cancel()
        self._give_up()

    async def ended(self) -> None:
        """Return once no batch is under way any more."""
        for task in list(self._carrying):
            task.cancel()
        await asyncio.gather(*self._carrying, return_exceptions=True)

    def _request(self, id: int, now_s: float) -> Request:
        return Request(id, self._function.name, self._body, now_s, now_s + _DEADLINE_S)

    def _pump(self) -> None:
        for action in self._dispatcher.poll(self._loop.time()):
            if isinstance(action, Assignment):
                task = self._loop.create_task(self._carry(action))
                self._carrying.add(task)
                task.add_done_callback(self._carrying.discard)
        wakeup_s = self._dispatcher.next_wakeup_s()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if wakeup_s is None else self._loop.call_at(wakeup_s, self._pump)

    async def _carry(self, assignment: Assignment) -> None:
        sent_s = self._loop.time()
        try:
            replies = await self._cluster.send(self._instance_id, assignment.requests)
        except FastGShareError as error:
            self.close(str(error))
            return
        if self.problem:
            return
        now_s = self._loop.time()
        self._dispatcher.done(assignment.batch_id, now_s)
        self._pump()  # first, so that the instance has work while others are told
        self.heard([self._answer(reply, sent_s, now_s) for reply in replies if reply.id in self._pending])

    def _answer(self, reply: Reply, sent_s: float, now_s: float) -> Answer:
        problem = "" if reply.status < _WRONG else reply.body.decode(errors="replace").strip() or f"{reply.status}"
        return Answer(reply.id, self._pending.pop(reply.id), sent_s, now_s, problem)

    def _give_up(self) -> None:
        now_s = self._loop.time()
        lost = [Answer(id, offered_s, now_s, now_s, self.problem) for id, offered_s in self._pending.items()]
        self._pending.clear()
        if lost:
            self.heard(lost)


def worked_s(answers: Sequence[Answer]) -> list[float]:
    """How long each was worked on: since it was sent, or since the batch before it was answered, if that was later.

    answers: in the order in which they came. It includes waiting for tokens, and no queue.
    """
    found, before_s, now_s = [], 0.0, 0.0
    for answer in answers:
        if answer.done_s > now_s:
            before_s, now_s = now_s, answer.done_s
        found.append(answer.done_s - max(answer.sent_s, before_s))
    return found
