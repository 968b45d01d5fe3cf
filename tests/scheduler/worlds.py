"""A world in thought: instances that do what plans say, one step after another, and break when told to."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace

from fastgshare.domain.deployments import Deployment
from fastgshare.domain.devices import Device
from fastgshare.domain.functions import Function
from fastgshare.domain.instances import InstanceState, InstanceStatus
from fastgshare.domain.rects import Placement
from fastgshare.scheduler.books import Backoff, Book
from fastgshare.scheduler.plans import Plan, Resize, Start, Stop, after
from fastgshare.scheduler.reconcile import reconcile

BACKOFF = Backoff()


class World:
    """Starts and stops take one step. Every step checks that no two rects overlap."""

    def __init__(self, devices: Sequence[Device]) -> None:
        self.devices = devices
        self.now_s = 0.0
        self.book = Book()
        self.instances: dict[str, InstanceStatus] = {}
        self.functions: dict[str, Function] = {}
        self.log: list[str] = []

    def decide(self, wanted: Sequence[Deployment]) -> Plan:
        self.book = self.book.observe(self.instances.values(), self.now_s, BACKOFF)
        observed = list(self.instances.values())
        plan = reconcile(wanted, observed, self.book, self.devices, self.now_s, backoff=BACKOFF)
        again = reconcile(wanted[::-1], observed[::-1], self.book, self.devices, self.now_s, backoff=BACKOFF)
        assert again == plan, "a plan depends on the order of what it is told"
        return plan

    def step(self, wanted: Sequence[Deployment]) -> Plan:
        """Decide, finish what was under way, and begin what was decided."""
        plan = self.decide(wanted)
        self.book = after(self.book, plan)
        self._finish()
        for action in plan.actions:
            self.log.append(action.reason)
            match action:
                case Resize(changes=changes):
                    for id, (share, placement) in changes.items():
                        assert self.instances[id].state is InstanceState.READY
                        assert placement.rect.sm_offset == self.instances[id].placement.rect.sm_offset
                        self.instances[id] = replace(self.instances[id], placement=placement)
                        self.functions[id] = replace(self.functions[id], share=share)
                case Stop(instance_id=id):
                    self._stop(id)
                case Start(instance=new):
                    assert new.id not in self.functions, "an id was given twice"
                    self.functions[new.id] = new.function
                    self.instances[new.id] = InstanceStatus(
                        new.id, new.function.name, InstanceState.STARTING, new.placement
                    )
        self.check_rects()
        return plan

    def run(self, wanted: Sequence[Deployment], steps: int = 60) -> Plan:
        """Step until nothing is left to do and nothing is under way; passes time where a plan waits for it."""
        for _ in range(steps):
            busy = self.busy()
            plan = self.step(wanted)
            if not plan.actions and not busy:
                if plan.wake_s is None:
                    return plan
                self.now_s = max(self.now_s, plan.wake_s)
        raise AssertionError(f"no end after {steps} steps: {self.log[-10:]}")

    def fail(self, id: str, reason: str = "killed") -> None:
        self.instances[id] = replace(self.instances[id], state=InstanceState.FAILED, reason=reason)

    def drain(self, device_id: str) -> None:
        """A device takes nothing more."""
        self.devices = [device for device in self.devices if device.id != device_id]

    def lose(self, device_id: str) -> None:
        """A device has gone, with all that was on it."""
        self.drain(device_id)
        for id, status in self.instances.items():
            if status.placement.device_id == device_id:
                lost = replace(status, state=InstanceState.FAILED, reason="its device was lost", blameless=True)
                self.instances[id] = lost

    def ready(self, name: str) -> list[str]:
        return [s.id for s in self.instances.values() if s.function_name == name and s.state is InstanceState.READY]

    def _stop(self, id: str) -> None:
        status = self.instances.pop(id, None)
        if status is not None and status.state is not InstanceState.FAILED:
            self.instances[id] = replace(status, state=InstanceState.DRAINING)

    def check_rects(self) -> None:
        alive = [s.placement for s in self.instances.values() if s.state is not InstanceState.FAILED]
        apart = {device.id for device in self.devices if device.takes_turns}
        for a, b in itertools.combinations(alive, 2):
            assert a.device_id != b.device_id or not a.rect.overlaps(b.rect)
            if a.device_id == b.device_id and a.device_id in apart and self._group(a) != self._group(b):
                assert not a.rect.coincides(b.rect)
        for placement in alive:
            assert placement.rect.sm_end <= 100 + 1e-9
            assert placement.rect.quota_end <= 1 + 1e-9

    def _group(self, placement: Placement) -> str:
        return self.functions[placement.instance_id].trust_group

    def busy(self) -> bool:
        """Whether anything is under way."""
        return any(s.state in (InstanceState.STARTING, InstanceState.DRAINING) for s in self.instances.values())

    def _finish(self) -> None:
        gone = [id for id, s in self.instances.items() if s.state is InstanceState.DRAINING]
        for id in gone:
            del self.instances[id]
        for id, status in self.instances.items():
            if status.state is InstanceState.STARTING:
                self.instances[id] = replace(status, state=InstanceState.READY)


def deployment(function: Function, replicas: int = 1) -> Deployment:
    return Deployment(function, replicas, 0.0)


def counts(world: World, wanted: Sequence[Deployment]) -> Mapping[str, int]:
    return {d.function.name: len(world.ready(d.function.name)) for d in wanted}
