"""What the gateway needs of others."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from fastgshare.domain.deployments import DeploymentStatus
from fastgshare.domain.functions import Function
from fastgshare.domain.ledger import LedgerEntry
from fastgshare.domain.logs import LogLine
from fastgshare.domain.readings import Part, Reading

Totals = Callable[[], Awaitable[Sequence[LedgerEntry]]]
"""The ledger's sums per instance, as `domain.ports.Ledger.totals` gives them."""


class Telemetry(Protocol):
    """What the devices say of themselves."""

    def readings(self) -> Mapping[str, Reading]:
        """The latest of every device that is watched, by its id."""

    def xid_counts(self) -> Mapping[str, Mapping[int, int]]:
        """By device, how often which XID was logged."""

    def parts(self) -> Mapping[str, Part]:
        """By instance, what of its device's use is its own."""


class Platform(Protocol):
    """Where functions are deployed."""

    async def deploy(self, function: Function) -> None:
        """Create a function, or replace the one of that name. Raises `InvalidValue` or `NoPlacement`."""

    async def remove(self, name: str) -> None:
        """Forget a function and end its instances. Raises `NotFound`."""

    async def scale(self, name: str, replicas: int) -> None:
        """Want so many instances. Raises `NotFound`, `InvalidValue` or `NoPlacement`."""

    def deployments(self) -> Sequence[DeploymentStatus]:
        """All functions, by name."""

    def deployment(self, name: str) -> DeploymentStatus:
        """One function. Raises `NotFound`."""

    def logs(self, name: str, tail: int) -> Sequence[LogLine]:
        """The last `tail` lines that a function's instances wrote, oldest first. Raises `NotFound`."""
