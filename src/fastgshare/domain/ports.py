"""The Protocols that several rooms share. Live system and twin differ only in what implements these."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from fastgshare.domain.deployments import Deployment
from fastgshare.domain.devices import Device
from fastgshare.domain.functions import Function
from fastgshare.domain.instances import Instance, InstanceStatus
from fastgshare.domain.ledger import LedgerEntry
from fastgshare.domain.rects import Placement
from fastgshare.domain.requests import Reply, Request
from fastgshare.domain.shares import Share


class Clock(Protocol):
    """Time as a dependency."""

    def now(self) -> float:
        """Monotonic seconds."""

    async def sleep_until(self, when_s: float) -> None:
        """Return at `when_s` on the same scale as `now`, or at once if that is past."""


class Cluster(Protocol):
    """Where instances live."""

    def devices(self) -> Sequence[Device]:
        """The devices that instances can be placed on."""

    async def start(self, instance: Instance) -> None:
        """Start an instance on its placement and return once it is ready.

        Raises `InstanceFailed` with its last words if it ends or does not become ready in time.
        """

    async def stop(self, instance_id: str, *, drain_s: float) -> None:
        """Let an instance finish what it works on, for at most `drain_s`, then end it. Unknown ids are ignored."""

    async def resize(self, changes: Mapping[str, tuple[Share, Placement]]) -> None:
        """Give running instances other shares or slots, effective within one window.

        The SM range of a running instance stays. Raises `DaemonUnavailable`.
        """

    def observe(self) -> Sequence[InstanceStatus]:
        """All instances that have not gone."""

    async def send(self, instance_id: str, batch: Sequence[Request]) -> Sequence[Reply]:
        """Have an instance work on a batch; one reply per request, in order. Raises `InstanceLost`."""

    def watch(self, listener: Callable[[InstanceStatus], None]) -> None:
        """Call `listener` on the event loop at every change of an instance's state."""


class Ledger(Protocol):
    """What shares were worth in fact."""

    async def totals(self) -> Sequence[LedgerEntry]:
        """Per instance, the sums since it registered (window_index -1, window_s the time observed)."""


class Functions(Protocol):
    """The functions a user has deployed, and how many replicas each shall have; outlives the process."""

    def put(self, function: Function, replicas: int) -> None:
        """Store a function, or replace the one of that name (its creation time stays)."""

    def get(self, name: str) -> Deployment:
        """Raises `NotFound`."""

    def remove(self, name: str) -> None:
        """Forget a function. Raises `NotFound`."""

    def all(self) -> Sequence[Deployment]:
        """All deployments, by name."""
