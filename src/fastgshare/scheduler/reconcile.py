"""Reconciling what is wanted with what is there. Pure: equal arguments, equal plan."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from fastgshare.domain.deployments import Deployment
from fastgshare.domain.devices import Device
from fastgshare.domain.functions import Function
from fastgshare.domain.instances import Instance, InstanceState, InstanceStatus
from fastgshare.domain.shares import Share
from fastgshare.scheduler.books import Backoff, Book, Failure, number_of
from fastgshare.scheduler.layouts import Check, Layout, Occupant, check_share
from fastgshare.scheduler.plans import Action, Plan, Resize, Start, Stop

_DRAIN_S = 60.0  # for an instance of which nothing is remembered
_LIVE = (InstanceState.STARTING, InstanceState.READY)
_MAX_NODES = 5_000


def reconcile(
    wanted: Sequence[Deployment],
    observed: Sequence[InstanceStatus],
    book: Book,
    devices: Sequence[Device],
    now_s: float,
    *,
    backoff: Backoff | None = None,
    check: Check = check_share,
) -> Plan:
    """Decide what to do about the instances that are there, given those that are wanted.

    book: must have taken in `observed` before (`Book.observe`). Every function's instances are kept as they are where
    only the gateway is concerned, resized live where only quotas changed, and else replaced: the new one beside the
    old where both fit, otherwise the old one goes first. A constant wish ends in an empty plan.
    """
    return _Draft(observed, book, devices, now_s, backoff or Backoff(), check).plan(wanted)


def can_serve(running: Function, wanted: Function) -> bool:
    """Whether an instance of one version of a function can serve as one of another, if need be with other quotas.

    Larger batches than it was warmed up with would make bursts longer than the longest that it measured.
    """
    return _build(running) == _build(wanted) and running.batch.max_size >= wanted.batch.max_size


def _build(function: Function) -> tuple[object, ...]:
    share = function.share
    return (
        function.model,
        function.handler,
        dict(function.env),
        function.secrets,
        function.burst_s,
        function.trust_group,
        share.sm_partition,
        share.mem_bytes,
    )


@dataclass(slots=True)
class _Crew:
    """A function's instances: fresh ones, old ones to be replaced, how many it lacks, and failures to make good."""

    deployment: Deployment
    fresh: list[InstanceStatus]
    old: list[InstanceStatus]
    missing: int = 0
    due: Sequence[Failure] = ()
    later: Sequence[Failure] = ()

    @property
    def function(self) -> Function:
        return self.deployment.function


class _Newcomer(NamedTuple):
    """An instance that is missing. waits: its room is kept, but it takes the place of one that failed just before."""

    id: str
    crew: _Crew
    failure: Failure | None
    waits: bool


class _Draft:
    """A plan in the making."""

    def __init__(
        self,
        observed: Sequence[InstanceStatus],
        book: Book,
        devices: Sequence[Device],
        now_s: float,
        backoff: Backoff,
        check: Check,
    ) -> None:
        self._check = check
        self._observed = sorted(observed, key=lambda s: (s.function_name, number_of(s.id), s.id))
        self._book = book
        self._devices = devices
        self._device_ids = {device.id for device in devices}
        self._now_s = now_s
        self._backoff = backoff
        self._stops: dict[str, Stop] = {}
        self._starts: list[Start] = []
        self._problems: dict[str, str] = {}
        self._wake_s = math.inf

    def plan(self, wanted: Sequence[Deployment]) -> Plan:
        crews = [self._crew(d) for d in sorted(wanted, key=lambda d: d.function.name)]
        self._stop_strangers({crew.function.name for crew in crews})
        for crew in crews:
            self._stop_surplus(crew)
            self._count_missing(crew)
        layout = Layout(self._devices, self._occupants(), _MAX_NODES, self._check)
        self._resize(crews, layout)
        self._start_missing(crews, layout)
        wake_s = None if self._wake_s == math.inf else self._wake_s
        return Plan((*_resizes(layout), *self._stops.values(), *self._starts), self._problems, wake_s)

    def _crew(self, deployment: Deployment) -> _Crew:
        function = deployment.function
        live = [s for s in self._observed if s.function_name == function.name and s.state in _LIVE]
        fresh = [s for s in live if self._is_fresh(s, function)]
        return _Crew(deployment, fresh, [s for s in live if s not in fresh])

    def _is_fresh(self, status: InstanceStatus, function: Function) -> bool:
        record = self._book.records.get(status.id)
        return self._is_at_home(status) and record is not None and can_serve(record.function, function)

    def _is_at_home(self, status: InstanceStatus) -> bool:
        """Whether its device is one that instances are placed on, still."""
        return status.placement.device_id in self._device_ids

    def _stop_strangers(self, names: set[str]) -> None:
        for status in self._observed:
            if status.state is InstanceState.FAILED:
                self._stop(status, f"it failed: {status.reason}")
            elif status.state in _LIVE and status.function_name not in names:
                self._stop(status, f"function {status.function_name} was removed")

    def _stop_surplus(self, crew: _Crew) -> None:
        """Stop instances beyond what is wanted, the latest first, and old ones that new ones have replaced."""
        name, replicas = crew.function.name, crew.deployment.replicas
        for status in sorted(crew.fresh, key=_keep_first)[replicas:]:
            self._stop(status, f"{name} has more instances than the {replicas} wanted")
            crew.fresh.remove(status)
        ready = sum(s.state is InstanceState.READY for s in crew.fresh)
        serving = [s for s in crew.old if s.state is InstanceState.READY]
        serving.sort(key=self._is_at_home, reverse=True)  # those that have to move anyway are the last to go
        kept = serving[max(0, len(serving) - (replicas - ready)) :] if replicas > ready else []
        for status in [s for s in crew.old if s not in kept]:
            moves = f"its device {status.placement.device_id} takes no instances any more"
            self._stop(status, f"it is of an earlier version of {name}" if self._is_at_home(status) else moves)
        crew.old = kept

    def _count_missing(self, crew: _Crew) -> None:
        """How many are missing, and which of those took a failure whose time has not come."""
        name = crew.function.name
        crew.missing = max(0, crew.deployment.replicas - len(crew.fresh))
        failures = sorted(self._book.failures.get(name, ()), key=lambda f: (self._retry_s(f), f.instance_id))
        crew.due = [f for f in failures if self._retry_s(f) <= self._now_s]
        crew.later = failures[len(crew.due) :]
        if crew.missing and crew.later:
            self._problems[name] = self._despair(name, crew.later)
            self._wake_s = min(self._wake_s, self._retry_s(crew.later[0]))

    def _retry_s(self, failure: Failure) -> float:
        return self._backoff.retry_s(failure)

    def _despair(self, name: str, failures: Sequence[Failure]) -> str:
        worst = max(failures, key=lambda f: (f.attempt, f.failed_s))
        said = f"instance {worst.instance_id} failed: {worst.reason}"
        if self._retry_s(worst) == math.inf:
            return f"{said}; gave up after {worst.attempt} attempts, deploy or scale {name} to try again"
        return f"{said}; attempt {worst.attempt + 1} of {self._backoff.attempts} follows"

    def _occupants(self) -> dict[str, Occupant]:
        return {
            s.id: Occupant(s.placement, self._share(s), self._is_movable(s), self._group(s))
            for s in self._observed
            if s.state is not InstanceState.FAILED
        }

    def _is_movable(self, status: InstanceStatus) -> bool:
        return status.state is InstanceState.READY and status.id not in self._stops

    def _group(self, status: InstanceStatus) -> str:
        record = self._book.records.get(status.id)
        return record.function.trust_group if record else ""

    def _share(self, status: InstanceStatus) -> Share:
        record = self._book.records.get(status.id)
        rect = status.placement.rect
        return record.function.share if record else Share(min(100.0, rect.sm), min(1.0, rect.quota), 1.0)

    def _resize(self, crews: Sequence[_Crew], layout: Layout) -> None:
        """Bring running instances to the quotas that are wanted; those that still start come later."""
        tasks = [(crew, ids) for crew in crews for device in self._devices if (ids := self._misshaped(crew, device))]
        while tasks:  # one may need the room that another gives up
            failed = [(crew, ids) for crew, ids in tasks if layout.resize(dict.fromkeys(ids, crew.function.share))]
            if len(failed) == len(tasks):
                break
            tasks = failed
        for crew, ids in tasks:
            reason = self._hopeful(layout, without=()).resize(dict.fromkeys(ids, crew.function.share))
            if reason:
                self._problems[crew.function.name] = f"{', '.join(ids)} keep their share: {reason}"

    def _misshaped(self, crew: _Crew, device: Device) -> list[str]:
        ready = [s for s in crew.fresh if s.state is InstanceState.READY and s.placement.device_id == device.id]
        return [s.id for s in ready if self._share(s) != crew.function.share]

    def _start_missing(self, crews: Sequence[_Crew], layout: Layout) -> None:
        """Place all that are missing together; the first of every function come before the second of any.

        Successors of failed instances come before all others, and their room is kept while they wait for their time,
        so that a death changes nothing else.
        """
        rounds = itertools.zip_longest(*(self._newcomers(crew) for crew in crews))
        newcomers = [new for row in rounds for new in row if new is not None]
        if all(new.waits for new in newcomers):
            return
        newcomers.sort(key=lambda new: new.failure is None)
        reasons = layout.place({new.id: new.crew.function for new in newcomers})
        now = [new for new in newcomers if not new.waits]
        for new in now:
            if new.id not in reasons:
                instance = Instance(new.id, new.crew.function, layout.occupants[new.id].placement)
                self._starts.append(Start(instance, _why(new.crew, new.failure), new.failure))
        for crew in crews:
            unplaced = [new.id for new in now if new.crew is crew and new.id in reasons]
            if unplaced:
                self._make_room(crew, unplaced, layout)

    def _newcomers(self, crew: _Crew) -> Iterator[_Newcomer]:
        name = crew.function.name
        seen = (number_of(s.id) for s in self._observed if s.function_name == name)
        first = 1 + max([self._book.numbers.get(name, 0), *seen])
        waiting = min(crew.missing, len(crew.later))
        for i in range(crew.missing - waiting):
            yield _Newcomer(f"{name}-{first + i}", crew, crew.due[i] if i < len(crew.due) else None, False)
        for i in range(waiting):
            yield _Newcomer(f"{name}-{first + crew.missing - waiting + i}", crew, crew.later[i], True)

    def _make_room(self, crew: _Crew, unplaced: Sequence[str], layout: Layout) -> None:
        """For what has no place now: wait if it soon will have, else stop an old one if that helps, else say so."""
        name = crew.function.name
        newcomers = dict.fromkeys(unplaced, crew.function)
        refused = self._hopeful(layout, without=()).place(newcomers)
        if len(refused) < len(newcomers):  # something is under way that makes room for some
            return
        old = [s.id for s in crew.old if self._is_at_home(s)]  # others make no room where there can be some
        starting = any(s.state is InstanceState.STARTING for s in crew.fresh)
        starting = starting or any(s.instance.function.name == name for s in self._starts)
        if old and len(self._hopeful(layout, without=old).place(newcomers)) < len(refused):
            if not starting:
                first = next(s for s in crew.old if s.id == old[0])
                self._stop(first, f"it makes room for the next version of {name}")
            return
        reason = next(iter(refused.values()))
        count = f"{len(refused)} of {crew.deployment.replicas} instances"
        self._problems.setdefault(name, f"{count} have no place: {reason}{self._stranded(crew)}")

    def _stranded(self, crew: _Crew) -> str:
        """Who answers from where nothing else can be placed, in words."""
        there = [f"{s.id} on device {s.placement.device_id}" for s in crew.old if not self._is_at_home(s)]
        return f"; until then {', '.join(there)} goes on, where nothing is placed any more" if there else ""

    def _hopeful(self, layout: Layout, without: Sequence[str]) -> Layout:
        """The layout once all that start are ready and all that end have gone."""
        leaving = {s.id for s in self._observed if s.state is InstanceState.DRAINING} | set(self._stops) | set(without)
        staying = {id: replace(o, movable=True) for id, o in layout.occupants.items() if id not in leaving}
        return Layout(self._devices, staying, _MAX_NODES, self._check)

    def _stop(self, status: InstanceStatus, reason: str) -> None:
        record = self._book.records.get(status.id)
        drain_s = record.function.timeout_s if record is not None else _DRAIN_S
        serves = status.state is InstanceState.READY
        self._stops[status.id] = Stop(status.id, drain_s if serves else 0.0, reason)


def _keep_first(status: InstanceStatus) -> tuple[bool, int]:
    return status.state is not InstanceState.READY, number_of(status.id)


def _why(crew: _Crew, failure: Failure | None) -> str:
    if failure is not None:
        return f"attempt {failure.attempt + 1}, after {failure.instance_id} failed: {failure.reason}"
    return f"{crew.function.name} has {len(crew.fresh)} of the {crew.deployment.replicas} instances wanted"


def _resizes(layout: Layout) -> list[Action]:
    changes = {id: (o.share, o.placement) for id, o in layout.moved.items()}
    return [Resize(changes, f"other quotas or slots for {', '.join(changes)}")] if changes else []


def settled(deployment: Deployment, observed: Sequence[InstanceStatus], book: Book, devices: Sequence[Device]) -> bool:
    """Whether exactly the wanted instances are there, on these devices, ready, and as the function says."""
    here = {device.id for device in devices}
    live = [s for s in observed if s.function_name == deployment.function.name and s.state in _LIVE]
    if any(s.placement.device_id not in here for s in live):
        return False
    return len(live) == deployment.replicas and all(_as_wanted(s, deployment.function, book) for s in live)


def _as_wanted(status: InstanceStatus, function: Function, book: Book) -> bool:
    record = book.records.get(status.id)
    if record is None or status.state is not InstanceState.READY:
        return False
    return can_serve(record.function, function) and record.function.share == function.share
