"""The loop: observe a cluster, decide, apply, and again whenever something changes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from fastgshare.domain.deployments import Deployment
from fastgshare.domain.errors import FastGShareError, InstanceFailed
from fastgshare.domain.instances import Instance, InstanceState, InstanceStatus
from fastgshare.domain.ports import Clock, Cluster
from fastgshare.scheduler.books import Backoff, Book
from fastgshare.scheduler.layouts import Check, check_share
from fastgshare.scheduler.plans import Plan, Resize, Start, Stop, after
from fastgshare.scheduler.reconcile import reconcile

_RETRY_S: Final = 1.0
"""When to try again what the cluster refused."""
_LOGGER: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Starting:
    instance: Instance
    task: asyncio.Task[None]


class Bell:
    """Wakes everyone who waits at the time it rings."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def ring(self) -> None:
        """Wake them."""
        self._event.set()
        self._event = asyncio.Event()

    async def wait(self) -> None:
        """Return at the next ring."""
        await self._event.wait()


class Loop:
    """Makes a cluster's instances those that are wanted.

    wanted: deployments by name, read at every decision; whoever changes them calls `forgive`.
    check: what can be on which device at all.
    book, problems: what the loop remembers, and by function why wanted instances are not there.
    changed: rings whenever any of it, or an instance, may have changed.
    """

    def __init__(
        self,
        cluster: Cluster,
        clock: Clock,
        backoff: Backoff,
        wanted: Mapping[str, Deployment],
        check: Check = check_share,
    ) -> None:
        self._cluster = cluster
        self._clock = clock
        self._backoff = backoff
        self._wanted = wanted
        self._check = check
        self.book = Book()
        self.problems: dict[str, str] = {}
        self.changed = Bell()
        self._starting: dict[str, _Starting] = {}
        self._stopping: set[str] = set()
        self._timer: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        cluster.watch(self._on_change)

    async def run(self) -> None:
        """Keep instances as wanted until cancelled; they are left to the cluster then."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._wake.clear()
                await self._step(tasks)
                await self._wake.wait()

    def forgive(self, function_name: str) -> None:
        """A function is wanted otherwise than before: forget its failures and decide anew."""
        self.book = self.book.forgive(function_name)
        self.problems.pop(function_name, None)
        self._ring()

    def view(self) -> list[InstanceStatus]:
        """What the cluster shows, with what was asked of it and does not show yet."""
        seen = {s.id: s for s in self._cluster.observe()}
        for id, starting in self._starting.items():
            if id not in seen and id in self.book.records:
                instance = starting.instance
                seen[id] = InstanceStatus(id, instance.function.name, InstanceState.STARTING, instance.placement)
        return [self._as_leaving(s) if s.id in self._stopping else s for s in seen.values()]

    def _as_leaving(self, status: InstanceStatus) -> InstanceStatus:
        return status if status.state is InstanceState.FAILED else replace(status, state=InstanceState.DRAINING)

    def _on_change(self, status: InstanceStatus) -> None:
        if status.state is InstanceState.FAILED:
            self._fail(status.id, status.reason, blameless=status.blameless)
        self._ring()

    def _fail(self, instance_id: str, reason: str, *, blameless: bool = False, patience_s: float = 0.0) -> None:
        now_s = self._clock.now()
        self.book = self.book.failed(
            instance_id, reason, now_s, self._backoff, blameless=blameless, patience_s=patience_s
        )

    def _ring(self) -> None:
        self._wake.set()
        self.changed.ring()

    async def _step(self, tasks: asyncio.TaskGroup) -> None:
        view, now_s = self.view(), self._clock.now()
        self.book = self.book.observe(view, now_s, self._backoff)
        wanted, devices = list(self._wanted.values()), self._cluster.devices()
        plan = reconcile(wanted, view, self.book, devices, now_s, backoff=self._backoff, check=self._check)
        self.problems = dict(plan.problems)
        wake_s = plan.wake_s
        if await self._resize(plan):
            self._begin(plan, tasks)
        else:
            wake_s = self._clock.now() + _RETRY_S
        self._set_timer(wake_s, tasks)
        self.changed.ring()

    async def _resize(self, plan: Plan) -> bool:
        """Carry out the resizes of a plan; False if the cluster refused: what builds on them must wait."""
        for action in plan.actions:
            if not isinstance(action, Resize):
                continue
            _LOGGER.info("resize: %s", action.reason)
            try:
                await self._cluster.resize(action.changes)
            except FastGShareError as error:
                _LOGGER.warning("resize failed, will try again: %s", error)
                return False
            self._wake.set()  # what waited for these slots can be decided now
        return True

    def _begin(self, plan: Plan, tasks: asyncio.TaskGroup) -> None:
        self.book = after(self.book, plan)
        for action in plan.actions:
            match action:
                case Start(instance=instance, reason=reason):
                    _LOGGER.info("start %s: %s", instance.id, reason)
                    task = tasks.create_task(self._start(instance), name=f"start {instance.id}")
                    self._starting[instance.id] = _Starting(instance, task)
                case Stop(instance_id=id, reason=reason) if id not in self._stopping:
                    _LOGGER.info("stop %s: %s", id, reason)
                    self._stopping.add(id)
                    tasks.create_task(self._stop(action), name=f"stop {id}")

    async def _start(self, instance: Instance) -> None:
        try:
            await self._cluster.start(instance)
        except InstanceFailed as error:
            self._fail(instance.id, error.reason, blameless=error.blameless, patience_s=error.patience_s)
        except Exception as error:  # one instance's start must not end those of others
            _LOGGER.exception("start of %s", instance.id)
            self._fail(instance.id, f"{type(error).__name__}: {error}")
        finally:
            self._starting.pop(instance.id, None)
            self._ring()

    async def _stop(self, action: Stop) -> None:
        id = action.instance_id
        try:
            if id in self._starting:
                await self._call_off(id)
            await self._cluster.stop(id, drain_s=action.drain_s)
        except Exception:  # as above; it is still there, so it will be stopped again
            _LOGGER.exception("stop of %s", id)
            await self._clock.sleep_until(self._clock.now() + _RETRY_S)
        finally:
            self._stopping.discard(id)
            self._ring()

    async def _call_off(self, instance_id: str) -> None:
        task = self._starting[instance_id].task
        task.cancel()
        await asyncio.wait([task])
        self._starting.pop(instance_id, None)  # a task that had not begun could not do it

    def _set_timer(self, wake_s: float | None, tasks: asyncio.TaskGroup) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if wake_s is None else tasks.create_task(self._ring_at(wake_s), name="retry timer")

    async def _ring_at(self, when_s: float) -> None:
        await self._clock.sleep_until(when_s)
        self._wake.set()
