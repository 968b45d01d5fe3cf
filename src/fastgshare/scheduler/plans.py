"""Plans: what is to be done about the instances, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fastgshare.domain.instances import Instance
from fastgshare.domain.rects import Placement
from fastgshare.domain.shares import Share
from fastgshare.scheduler.books import Book, Failure


@dataclass(frozen=True, slots=True)
class Resize:
    """Give running instances other quotas or slots, all at once. reason: one sentence."""

    changes: Mapping[str, tuple[Share, Placement]]
    reason: str


@dataclass(frozen=True, slots=True)
class Stop:
    """End an instance after at most `drain_s` seconds. reason: one sentence."""

    instance_id: str
    drain_s: float
    reason: str


@dataclass(frozen=True, slots=True)
class Start:
    """Start an instance. failure: the one it is to make good. reason: one sentence."""

    instance: Instance
    reason: str
    failure: Failure | None = None


Action = Resize | Stop | Start


@dataclass(frozen=True, slots=True)
class Plan:
    """Actions in the order in which to begin them; a resize must have ended before anything is started.

    problems: by function, why wanted instances are not there. wake_s: when to decide again at the latest.
    """

    actions: tuple[Action, ...] = ()
    problems: Mapping[str, str] = field(default_factory=dict)
    wake_s: float | None = None


def after(book: Book, plan: Plan) -> Book:
    """The book once a plan's actions have begun."""
    for action in plan.actions:
        match action:
            case Start(instance=instance, failure=failure):
                book = book.started(instance, failure)
            case Stop(instance_id=id):
                book = book.stopping(id)
            case Resize(changes=changes):
                for id, (share, _) in changes.items():
                    book = book.resized(id, share)
    return book
