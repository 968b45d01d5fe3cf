"""What a local cluster needs of others."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from fastgshare.domain.rects import Rect
from fastgshare.domain.shares import Share


class Daemon(Protocol):
    """The node daemon: gives tokens to the instances it has admitted and holds them to their cores."""

    @property
    def socket_path(self) -> Path:
        """Where instances register."""

    async def admit(
        self, instance_id: str, pid: int, share: Share, rect: Rect | None, burst_s: float, *, declared: bool = False
    ) -> None:
        """Let a process register as this instance. declared: its burst is a promise. Raises `DaemonUnavailable`."""

    async def place(self, changes: Mapping[str, tuple[Share, Rect]]) -> None:
        """Give admitted instances other shares or rects. Raises `DaemonUnavailable`."""

    async def set_burst(self, instance_id: str, burst_s: float) -> None:
        """Say how long an instance's longest burst is."""

    async def remove(self, instance_id: str) -> None:
        """Take an instance off the device; unknown ids are ignored."""

    async def verdict(self, instance_id: str) -> str:
        """Why the daemon ended an instance, in words; "" if it did not. Raises `DaemonUnavailable`."""
