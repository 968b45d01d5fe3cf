"""Foresight: carrying out plans in thought, to say beforehand what would have no place. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from fastgshare.domain.deployments import Deployment
from fastgshare.domain.devices import Device
from fastgshare.domain.instances import InstanceState, InstanceStatus
from fastgshare.scheduler.books import Backoff, Book
from fastgshare.scheduler.layouts import Check, check_share
from fastgshare.scheduler.plans import Plan, Resize, Start, Stop, after
from fastgshare.scheduler.reconcile import reconcile

_BACKOFF = Backoff()
_LIVE = (InstanceState.STARTING, InstanceState.READY)


def foresee(
    wanted: Sequence[Deployment],
    observed: Sequence[InstanceStatus],
    book: Book,
    devices: Sequence[Device],
    *,
    check: Check = check_share,
) -> Mapping[str, str]:
    """The problems that remain once all plans have been carried out and nothing failed: who has no place, and why."""
    there = {s.id: replace(s, state=InstanceState.READY) for s in observed if s.state in _LIVE}
    book = book.observe(observed, 0.0, _BACKOFF)
    plan = Plan()
    for _ in range(2 * sum(d.replicas for d in wanted) + len(there) + 4):
        book = replace(book.observe(there.values(), 0.0, _BACKOFF), failures={})
        plan = reconcile(wanted, list(there.values()), book, devices, 0.0, check=check)
        if not plan.actions:
            break
        book = after(book, plan)
        _imagine(plan, there)
    return plan.problems


def _imagine(plan: Plan, there: dict[str, InstanceStatus]) -> None:
    for action in plan.actions:
        match action:
            case Start(instance=new):
                there[new.id] = InstanceStatus(new.id, new.function.name, InstanceState.READY, new.placement)
            case Stop(instance_id=id):
                there.pop(id, None)
            case Resize(changes=changes):
                for id, (_, placement) in changes.items():
                    there[id] = replace(there[id], placement=placement)
