"""A cluster without processes: instances that start, answer, fail and end as a test says, in a clock's time."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from fastgshare.domain.devices import Device
from fastgshare.domain.errors import FastGShareError, InstanceFailed, InstanceLost
from fastgshare.domain.instances import Instance, InstanceState, InstanceStatus
from fastgshare.domain.ports import Clock
from fastgshare.domain.rects import Placement
from fastgshare.domain.requests import Reply, Request
from fastgshare.domain.shares import Share


def echo(instance: Instance, request: Request) -> Reply:
    """Answer with the request's own body, and the instance's id in a header."""
    return Reply(request.id, 200, request.body, (("X-Instance", instance.id),))


@dataclass(slots=True, eq=False)
class _Member:
    instance: Instance
    status: InstanceStatus
    batches: int = 0
    idle: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class FakeCluster:
    """`domain.ports.Cluster` in memory. Like the real one it forgets an instance as soon as it has failed or gone.

    start_s, answer_s: how long starting and answering a batch take on `clock`.
    burst_s: what every instance measures as its longest burst.
    answer: what an instance replies; it may raise `InstanceLost`.

    starts, stops, resizes: what was asked, in order. violations: rects that overlapped or left their device (S1),
    to be asserted empty.
    """

    def __init__(
        self,
        devices: Sequence[Device],
        clock: Clock,
        *,
        start_s: float = 0.0,
        answer_s: float = 0.0,
        burst_s: float = 0.002,
        answer: Callable[[Instance, Request], Reply] = echo,
    ) -> None:
        self._devices = tuple(devices)
        self._closed: dict[str, str] = {}
        self._clock = clock
        self._answer = answer
        self._members: dict[str, _Member] = {}
        self._listeners: list[Callable[[InstanceStatus], None]] = []
        self._broken: dict[str, list[str]] = {}
        self._resize_errors: list[FastGShareError] = []
        self.start_s = start_s
        self.answer_s = answer_s
        self.burst_s = burst_s
        self.starts: list[Instance] = []
        self.stops: list[str] = []
        self.resizes: list[Mapping[str, tuple[Share, Placement]]] = []
        self.violations: list[str] = []

    def break_starts(self, function_name: str, reason: str, times: int = 1) -> None:
        """Let the next starts of a function's instances fail."""
        self._broken.setdefault(function_name, []).extend([reason] * times)

    def break_resizes(self, error: FastGShareError, times: int = 1) -> None:
        """Let the next resizes raise."""
        self._resize_errors.extend([error] * times)

    def kill(self, instance_id: str, reason: str = "killed") -> None:
        """End an instance as if its process had died."""
        self._end(self._members[instance_id], InstanceState.FAILED, reason)

    def lose(self, device_id: str, reason: str) -> None:
        """A device has gone, and all that was on it with it."""
        self._closed[device_id] = f"device {device_id} was lost: {reason}"
        for member in self._on(device_id):
            self._end(member, InstanceState.FAILED, self._closed[device_id], blameless=True)

    def drain(self, device_id: str, reason: str) -> None:
        """A device takes nothing more; what is on it goes on."""
        self._closed.setdefault(device_id, f"device {device_id} is being drained: {reason}")
        for member in self._on(device_id):
            self._tell(member)

    def instance(self, instance_id: str) -> Instance:
        """An instance as it was started, or resized since. Raises KeyError."""
        return self._members[instance_id].instance

    def devices(self) -> Sequence[Device]:
        """The devices given, but for those that were lost or are being drained."""
        return [device for device in self._devices if device.id not in self._closed]

    def observe(self) -> Sequence[InstanceStatus]:
        """All instances that have neither gone nor failed."""
        return [m.status for m in self._members.values()]

    def watch(self, listener: Callable[[InstanceStatus], None]) -> None:
        """Call `listener` at every change of an instance's state."""
        self._listeners.append(listener)

    async def start(self, instance: Instance) -> None:
        """Be ready after `start_s`. Raises `InstanceFailed` as told by `break_starts` or if killed meanwhile."""
        self.starts.append(instance)
        if reason := self._closed.get(instance.placement.device_id):
            raise InstanceFailed(instance.id, reason)
        status = InstanceStatus(instance.id, instance.function.name, InstanceState.STARTING, instance.placement)
        member = self._members[instance.id] = _Member(instance, status)
        member.idle.set()
        self._check_rects()
        self._tell(member)
        try:
            await self._pass_time(member, self.start_s)
        except asyncio.CancelledError:
            self._end(member, InstanceState.FAILED, "its start was called off")
            raise
        reasons = self._broken.get(instance.function.name)
        if reasons and not member.ended.is_set():
            self._end(member, InstanceState.FAILED, reasons.pop(0))
        if member.ended.is_set() or member.status.state is not InstanceState.STARTING:
            raise InstanceFailed(instance.id, member.status.reason or "it was stopped while it started")
        member.status = replace(member.status, state=InstanceState.READY, burst_s=self.burst_s)
        self._tell(member)

    async def stop(self, instance_id: str, *, drain_s: float) -> None:
        """Wait until its batches are answered, for at most `drain_s`, then end it. Unknown ids are ignored."""
        self.stops.append(instance_id)
        member = self._members.get(instance_id)
        if member is None:
            return
        member.status = replace(member.status, state=InstanceState.DRAINING)
        self._tell(member)
        await self._first_of(self._clock.sleep_until(self._clock.now() + drain_s), member.idle.wait())
        self._end(member, InstanceState.GONE, "")

    async def resize(self, changes: Mapping[str, tuple[Share, Placement]]) -> None:
        """Take other shares and slots at once. Raises as told by `break_resizes`. Unknown ids are ignored."""
        if self._resize_errors:
            raise self._resize_errors.pop(0)
        self.resizes.append(dict(changes))
        for id, (share, placement) in changes.items():
            if (member := self._members.get(id)) is not None:
                self._move(member, share, placement)
        self._check_rects()

    async def send(self, instance_id: str, batch: Sequence[Request]) -> Sequence[Reply]:
        """Answer after `answer_s`. Raises `InstanceLost` if the instance is not ready or ends meanwhile."""
        member = self._members.get(instance_id)
        if member is None or member.status.state is not InstanceState.READY:
            raise InstanceLost(instance_id, "it is not ready", begun=False)
        member.batches += 1
        member.idle.clear()
        try:
            await self._pass_time(member, self.answer_s)
            if member.ended.is_set():
                raise InstanceLost(instance_id, member.status.reason or "it was stopped")
            return [self._answer(member.instance, request) for request in batch]
        finally:
            member.batches -= 1
            if not member.batches:
                member.idle.set()

    async def _pass_time(self, member: _Member, duration_s: float) -> None:
        if duration_s:
            await self._first_of(self._clock.sleep_until(self._clock.now() + duration_s), member.ended.wait())

    async def _first_of(self, *waits: Awaitable[object]) -> None:
        tasks = [asyncio.ensure_future(wait) for wait in waits]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()

    def _move(self, member: _Member, share: Share, placement: Placement) -> None:
        old = member.instance
        if (old.placement.rect.sm_offset, old.placement.rect.sm) != (placement.rect.sm_offset, placement.rect.sm):
            self.violations.append(f"the SMs of {old.id} were moved while it ran")
        if member.status.state is not InstanceState.READY:
            self.violations.append(f"{old.id} was resized while {member.status.state}")
        member.instance = Instance(old.id, replace(old.function, share=share), placement)
        member.status = replace(member.status, placement=placement)

    def _on(self, device_id: str) -> list[_Member]:
        return [m for m in self._members.values() if m.status.placement.device_id == device_id]

    def _end(self, member: _Member, state: InstanceState, reason: str, *, blameless: bool = False) -> None:
        if member.ended.is_set():
            return
        del self._members[member.instance.id]
        member.status = replace(member.status, state=state, reason=reason, blameless=blameless)
        member.ended.set()
        self._tell(member)

    def _tell(self, member: _Member) -> None:
        for listener in self._listeners:
            listener(member.status)

    def _check_rects(self) -> None:
        placements = [m.status.placement for m in self._members.values()]
        for one, other in itertools.combinations(placements, 2):
            if one.device_id == other.device_id and one.rect.overlaps(other.rect):
                self.violations.append(f"{one} overlaps {other}")
        for p in placements:
            inside = min(p.rect.sm_offset, p.rect.quota_offset) >= 0
            if not inside or p.rect.sm_end > 100 + 1e-9 or p.rect.quota_end > 1 + 1e-9:
                self.violations.append(f"{p} leaves its device")
