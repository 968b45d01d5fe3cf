"""Members: the daemon's record of one process of an instance, with a cell of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fastgshare.manager.processes import Process

if TYPE_CHECKING:
    from fastgshare.manager.seats import Seat


@dataclass(slots=True)
class Booked:
    """What the ledger has counted of a process: times in nanoseconds. since_ns: when it took its cell."""

    since_ns: int = 0
    demand_ns: int = 0
    cpu_ns: int = 0


@dataclass(slots=True)
class Seen:
    """What was seen of a process's conduct; see conduct.py.

    burst: (grants, start) of the burst at work, unchanged since unchanged_ns.
    blocks_ns, blocks_last_ns: when it was first and last seen to keep the owner of a slot from it.
    unreadable_ns: its page could not be read since then. cpu_ns: its CPU time when one of these began.
    granted: it has held a token. checked_ns, checked_cpu_ns, checked_held_ns, strikes: the CPU check.
    """

    burst: tuple[int, int] = (0, 0)
    unchanged_ns: int = 0
    blocks_ns: int = 0
    blocks_last_ns: int = 0
    unreadable_ns: int = 0
    cpu_ns: int = 0
    granted: bool = False
    checked_ns: int = 0
    checked_cpu_ns: int = 0
    checked_held_ns: int = 0
    strikes: int = 0


@dataclass(slots=True, eq=False)
class Member:
    """One process of an instance. index: its cell, or -1 before it has one. fenced: why it was ended, if it was."""

    seat: Seat = field(repr=False)
    process: Process
    index: int = -1
    socket_fd: int = -1
    published: bytes = b""
    fenced: str = ""
    booked: Booked = field(default_factory=Booked)
    seen: Seen = field(default_factory=Seen)

    def cpu_ns(self) -> int:
        """CPU time of its process so far; the last figure once it has gone."""
        cpu_ns = self.process.cpu_ns()
        return self.booked.cpu_ns if cpu_ns is None else cpu_ns

    def kill(self, reason: str) -> None:
        """Fence the process: it counts until the kernel says that it has ended."""
        self.fenced = self.seat.fenced = reason
        self.process.kill()
