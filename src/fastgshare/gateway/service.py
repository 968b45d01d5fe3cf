"""The function service: requests by function name, whatever brings them in."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping
from typing import Final

from fastgshare.dispatch.outcomes import Refusal, Refused, Snapshot
from fastgshare.domain.errors import NotFound
from fastgshare.domain.instances import InstanceState, InstanceStatus
from fastgshare.domain.ports import Clock, Cluster
from fastgshare.domain.requests import Request
from fastgshare.gateway.figures import Figures
from fastgshare.gateway.lanes import Ending, Lane
from fastgshare.gateway.ports import Platform

MAX_HELD_BYTES: Final = 2**30
_RETRY_S: Final = 1.0


class FunctionService:
    """Lanes by function, one timer for all of them, and the tasks that carry batches.

    Make it on the event loop on which it is used. max_held_bytes: bodies of all requests together that wait for their
    answers; beyond it requests are refused as if the queue were full.
    """

    def __init__(
        self,
        platform: Platform,
        cluster: Cluster,
        clock: Clock,
        figures: Figures | None = None,
        *,
        max_held_bytes: int = MAX_HELD_BYTES,
    ) -> None:
        self.figures = figures or Figures()
        self._platform = platform
        self._cluster = cluster
        self._clock = clock
        self._max_held_bytes = max_held_bytes
        self._held_bytes = 0
        self._lanes: dict[str, Lane] = {}
        self._ids = itertools.count(1)
        self._timer: asyncio.Task[None] | None = None
        self._timer_s = float("inf")
        self._ending = False
        self._closed = False
        cluster.watch(self._on_change)

    def lane(self, function_name: str) -> Lane:
        """The lane of a function. Raises `NotFound`."""
        lane = self._lanes.get(function_name)
        return self._open(function_name) if lane is None or lane.removed else lane

    def next_id(self) -> int:
        """An id for a request; never the same one twice."""
        return next(self._ids)

    async def call(self, lane: Lane, request: Request) -> Ending | Refused:
        """Have an instance answer a request. If the caller is cancelled, the request is dropped."""
        size_bytes = len(request.body)
        if self._ending:
            response: Ending | Refused = Refused(Refusal.NO_INSTANCE, _RETRY_S)
        elif self._held_bytes + size_bytes > self._max_held_bytes:
            response = Refused(Refusal.QUEUE_FULL, _RETRY_S)
        else:
            self._held_bytes += size_bytes
            try:
                response = await lane.call(request)
            finally:
                self._held_bytes -= size_bytes
        if isinstance(response, Refused):
            lane.figures.refuse(response.reason.value)
        return response

    def refresh(self, function_name: str) -> None:
        """Look at a function again after it was deployed, scaled or removed."""
        lane = self._lanes.get(function_name)
        if lane is None:
            return
        try:
            function = self._platform.deployment(function_name).deployment.function
        except NotFound:
            lane.removed = True
            self.figures.functions.pop(function_name, None)
        else:
            lane.configure(function)
            lane.figures = self.figures.of(function_name)
            lane.removed = False
        lane.pump()
        self._forget_run_out()

    def snapshots(self) -> Mapping[str, Snapshot]:
        """The dispatchers at this moment, by function; only functions that have been called."""
        now_s = self._clock.now()
        return {name: lane.dispatcher.snapshot(now_s) for name, lane in self._lanes.items()}

    async def drain(self, drain_s: float) -> None:
        """Accept nothing more and wait for what is here, at most `drain_s` seconds; what is left then ends."""
        self._ending = True
        waiters = [waiter for lane in self._lanes.values() for waiter in lane.waiters]
        if waiters and drain_s > 0:
            await asyncio.wait(waiters, timeout=drain_s)
        for lane in self._lanes.values():
            lane.abandon()

    async def close(self) -> None:
        """End the timer and all that is under way."""
        self._ending = self._closed = True
        for lane in self._lanes.values():
            await lane.close()
        if self._timer is not None:
            self._timer.cancel()
            await asyncio.gather(self._timer, return_exceptions=True)

    def _open(self, function_name: str) -> Lane:
        function = self._platform.deployment(function_name).deployment.function
        lane = self._lanes.get(function_name)
        if lane is None:
            lane = self._lanes[function_name] = Lane(
                function,
                self.figures.of(function_name),
                self._cluster,
                self._clock,
                hope=lambda: self._instances_are_coming(function_name),
                wake_at=self._wake_at,
            )
        else:
            self.refresh(function_name)
        return lane

    def _forget_run_out(self) -> None:
        for name, lane in list(self._lanes.items()):
            if lane.removed and not lane.waiters:
                del self._lanes[name]

    def _instances_are_coming(self, function_name: str) -> bool:
        if self._ending:
            return False
        try:
            status = self._platform.deployment(function_name)
        except NotFound:
            return False
        if any(i.state is InstanceState.STARTING for i in status.instances):
            return True
        return status.deployment.replicas > 0 and not status.problem

    def _on_change(self, status: InstanceStatus) -> None:
        lane = self._lanes.get(status.function_name)
        if lane is not None and not self._closed:
            lane.note(status)
            self.refresh(status.function_name)

    def _wake_at(self, when_s: float) -> None:
        if when_s >= self._timer_s:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_s = when_s
        self._timer = asyncio.get_running_loop().create_task(self._ring_at(when_s), name="gateway timer")

    async def _ring_at(self, when_s: float) -> None:
        await self._clock.sleep_until(when_s)
        self._timer, self._timer_s = None, float("inf")
        for lane in list(self._lanes.values()):
            lane.pump()
        self._forget_run_out()
