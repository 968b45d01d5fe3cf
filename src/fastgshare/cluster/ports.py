"""What a local cluster needs of others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from fastgshare.domain.partitions import Partitioning
from fastgshare.domain.rects import Rect
from fastgshare.domain.shares import Share


class Daemon(Protocol):
    """The node daemon: gives tokens to the instances it has admitted and holds them to their cores."""

    @property
    def socket_path(self) -> Path:
        """Where instances register."""

    async def admit(
        self,
        instance_id: str,
        pid: int,
        share: Share,
        rect: Rect | None,
        burst_s: float,
        *,
        declared: bool = False,
        device_id: str = "",
        group: str = "",
        fatal_faults: bool = False,
    ) -> None:
        """Let a process register as this instance, on the device of that id ("": the first).

        declared: its burst is a promise. group: its trust group. fatal_faults: it is ended when its work on the device
        has failed. Raises `DaemonUnavailable`.
        """

    async def place(self, changes: Mapping[str, tuple[Share, Rect]]) -> None:
        """Give admitted instances other shares or rects. Raises `DaemonUnavailable`."""

    async def set_burst(self, instance_id: str, burst_s: float) -> None:
        """Say how long an instance's longest burst is."""

    async def remove(self, instance_id: str) -> None:
        """Take an instance off the device; unknown ids are ignored."""

    async def verdict(self, instance_id: str) -> str:
        """Why the daemon ended an instance, in words; "" if it did not. Raises `DaemonUnavailable`."""


class Partitioner(Protocol):
    """Divides the SMs of one device between processes."""

    @property
    def partitioning(self) -> Partitioning:
        """What it guarantees, on which grid."""

    async def start(self) -> None:
        """Make ready what does not depend on a trust group. Raises `PartitionerUnavailable`."""

    async def open(self, group: str) -> None:
        """Return once processes of a trust group can start on the device: at once if they can already.

        Raises `PartitionerUnavailable` if they cannot.
        """

    def environment(self, group: str, base: Mapping[str, str]) -> dict[str, str]:
        """`base`, with what a process of the group must be told so that it is held to its SMs."""

    def watch(self, listener: Callable[[str, str], None]) -> None:
        """Call `listener(group, reason)`, on the event loop, when the work of a trust group has failed.

        Its processes have to end then. Listeners hear of it once, until it has recovered.
        """

    def fail(self, group: str, reason: str) -> None:
        """Somebody else has seen that the work of a trust group has failed: tell the listeners, unless they know."""

    async def recover(self, group: str) -> None:
        """After a fault, when all processes of the group have ended: return once new ones can start.

        Raises `PartitionerUnavailable`.
        """

    async def stop(self) -> None:
        """End all that was started. Processes on the device should have ended before."""
