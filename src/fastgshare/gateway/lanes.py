"""Lanes: one function's requests between whoever waits for their answers and its instances."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

from fastgshare.dispatch.dispatchers import Dispatcher
from fastgshare.dispatch.outcomes import Assignment, Outcome, Refused
from fastgshare.domain.errors import InstanceLost
from fastgshare.domain.functions import Function
from fastgshare.domain.instances import InstanceState, InstanceStatus
from fastgshare.domain.ports import Clock, Cluster
from fastgshare.domain.requests import Reply, Request
from fastgshare.gateway.figures import FunctionFigures

_LOGGER: Final = logging.getLogger(__name__)
_HOPE_S: Final = 0.5
"""How often to ask whether instances are still coming while requests wait for the first one."""


@dataclass(frozen=True, slots=True)
class Served:
    """An instance's reply."""

    reply: Reply
    instance_id: str


Ending = Served | Outcome
"""How an accepted request ends."""


class Lane:
    """A function's dispatcher, put to work: requests in, batches to the cluster, answers to who waits.

    hope: whether instances are coming although none is ready.
    wake_at: asks the owner to call `pump` at a time. removed: nothing new comes any more, what is here runs out.
    """

    def __init__(
        self,
        function: Function,
        figures: FunctionFigures,
        cluster: Cluster,
        clock: Clock,
        *,
        hope: Callable[[], bool],
        wake_at: Callable[[float], None],
    ) -> None:
        self.function = function
        self.figures = figures
        self._cluster = cluster
        self._clock = clock
        self._hope = hope
        self._wake_at = wake_at
        self.dispatcher = Dispatcher(queue_size=function.queue_size, batching=function.batch)
        self._loop = asyncio.get_running_loop()
        self._waiters: dict[int, asyncio.Future[Ending]] = {}
        self._ready: set[str] = set()
        self._carrying: dict[int, asyncio.Task[None]] = {}
        self.removed = False
        for status in cluster.observe():
            if status.function_name == function.name:
                self.note(status)

    def configure(self, function: Function) -> None:
        """Go on with a new version of the function."""
        self.function = function
        self.dispatcher.configure(queue_size=function.queue_size, batching=function.batch)

    async def call(self, request: Request) -> Ending | Refused:
        """Have an instance answer a request. If the caller is cancelled, the request is dropped."""
        dispatcher = self.dispatcher
        if not dispatcher.serving:
            dispatcher.expect(self._hope())
        response = dispatcher.offer(request, self._clock.now())
        if isinstance(response, Refused):
            return response
        waiter: asyncio.Future[Ending] = self._loop.create_future()
        self._waiters[request.id] = waiter
        self.pump()
        try:
            return await waiter
        except asyncio.CancelledError:
            self._withdraw(request.id)
            raise

    def note(self, status: InstanceStatus) -> None:
        """Take note of a change of one of the function's instances; `pump` acts on it."""
        id = status.id
        if status.state is InstanceState.READY:
            if not self.dispatcher.knows(id):
                self._ready.add(id)
                self.dispatcher.instance_ready(id)
        elif status.state is not InstanceState.STARTING and id in self._ready:
            # What it still works on ends by itself: the cluster answers or fails every batch it was sent.
            self._ready.discard(id)
            self.dispatcher.instance_draining(id)

    def pump(self) -> None:
        """Do what the dispatcher asks for."""
        dispatcher, now_s = self.dispatcher, self._clock.now()
        if self._waiters and not dispatcher.serving:
            dispatcher.expect(self._hope())
            self._wake_at(now_s + _HOPE_S)
        for action in dispatcher.poll(now_s):
            if isinstance(action, Assignment):
                # Not in a TaskGroup: one starts with an `async with`, and applications start and end in other tasks.
                self._carrying[action.batch_id] = self._loop.create_task(self._carry(action, now_s))
                self._count(action, now_s)
            else:
                self._settle(action.request.id, action.outcome)
        wakeup_s = dispatcher.next_wakeup_s()
        if wakeup_s is not None:
            self._wake_at(wakeup_s)

    def abandon(self) -> None:
        """End all requests here at once, as if there were no instance."""
        for id in list(self._waiters):
            self.dispatcher.withdraw(id)
            self._settle(id, Outcome.NO_INSTANCE)

    async def close(self) -> None:
        """End all that is under way."""
        self.abandon()
        tasks = list(self._carrying.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def waiters(self) -> Collection[asyncio.Future[Ending]]:
        """The answers that are still waited for, from the queue or from an instance."""
        return self._waiters.values()

    async def _carry(self, assignment: Assignment, assigned_s: float) -> None:
        dispatcher, batch_id, instance_id = self.dispatcher, assignment.batch_id, assignment.instance_id
        try:
            if instance_id in self._ready:
                replies = await self._cluster.send(instance_id, assignment.requests)
                self._finish(assignment, replies, assigned_s)
            else:
                dispatcher.returned(batch_id, self._clock.now(), begun=False)
        except InstanceLost as error:
            self._ready.discard(instance_id)
            dispatcher.returned(batch_id, self._clock.now(), begun=error.begun)
        except Exception:  # whatever broke, its requests are answered
            _LOGGER.exception("a batch for %s", instance_id)
            self._finish(assignment, (), assigned_s)
        finally:
            del self._carrying[batch_id]
        if dispatcher.pending:
            self.pump()

    def _finish(self, assignment: Assignment, replies: Sequence[Reply], assigned_s: float) -> None:
        now_s = self._clock.now()
        by_id = {reply.id: reply for reply in replies}
        for request in self.dispatcher.done(assignment.batch_id, now_s):
            reply = by_id.get(request.id)
            if reply is None:
                self._settle(request.id, Outcome.LOST)
            else:
                self.figures.service.observe(now_s - assigned_s)
                self._settle(request.id, Served(reply, assignment.instance_id))

    def _count(self, assignment: Assignment, now_s: float) -> None:
        self.figures.batches.observe(len(assignment.requests))
        for request in assignment.requests:
            self.figures.waits.observe(now_s - request.arrived_s)

    def _settle(self, request_id: int, ending: Ending) -> None:
        waiter = self._waiters.pop(request_id)
        if not waiter.done():
            waiter.set_result(ending)

    def _withdraw(self, request_id: int) -> None:
        if self._waiters.pop(request_id, None) is not None:
            self.figures.withdrawn += 1
            self.dispatcher.withdraw(request_id)
