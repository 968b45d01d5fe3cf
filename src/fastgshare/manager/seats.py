"""Seats: the daemon's record of one admitted instance."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from fastgshare.domain.rects import Rect
from fastgshare.domain.shares import Share
from fastgshare.domain.units import milli
from fastgshare.manager import layout
from fastgshare.manager.members import Member
from fastgshare.manager.processes import Process
from fastgshare.manager.tokens import LONGEST_WINDOW_NS, Entry, Loan

UNDECLARED_HANG_NS: Final = 1_000_000_000
LONGEST_HANG_NS: Final = 10_000_000_000
NO_TIME: Final = layout.Timing(0, 1, 0, 0, 0, 0, 0, 0)


@dataclass(slots=True)
class Received:
    """What processes received within a window, in nanoseconds. demand_ns: of the one that had work the longest."""

    held_ns: int = 0
    lent_ns: int = 0
    demand_ns: int = 0
    cpu_ns: int = 0

    def add(self, other: Received) -> None:
        """Add what another process received at the same time."""
        self.held_ns += other.held_ns
        self.lent_ns += other.lent_ns
        self.demand_ns = max(self.demand_ns, other.demand_ns)
        self.cpu_ns += other.cpu_ns


@dataclass(slots=True, eq=False)
class Seat:
    """One admitted instance: who it is, what it is granted, which processes of it are on the device.

    pid: the process that was admitted; when it ends, all of the instance has ended. root: a process whose descendants
    are the instance's too (0: none). declared: its burst is a promise, not a measurement. group: its trust group.
    fatal_faults: a process of it is ended once its work on the device has failed for good.
    former: a cell whose process has ended and whose account is still the instance's latest, or -1.
    departed: what processes that have ended received since the ledger's last entry. since_ns: when the first of the
    present processes came. fenced: why a process of it was ended, if one was.
    """

    instance_id: str
    pid: int
    share: Share
    rect: Rect | None
    burst_ns: int = 0
    declared: bool = False
    root: int = 0
    group: str = ""
    fatal_faults: bool = False
    process: Process | None = None
    root_process: Process | None = None
    members: list[Member] = field(default_factory=list)
    former: int = -1
    wanting: bool = False
    timing: layout.Timing = NO_TIME
    loans: tuple[Loan, ...] = ()
    departed: Received | None = None
    since_ns: int = 0
    fenced: str = ""

    @property
    def hang_ns(self) -> int:
        """How long it may overrun its time. A burst that was only measured may be longer once on other input."""
        longest = self.burst_ns if self.declared else max(4 * self.burst_ns, UNDECLARED_HANG_NS)
        return min(longest, LONGEST_HANG_NS)

    @property
    def longest_learnt_ns(self) -> int:
        """The longest burst that is believed: beyond it no window would do."""
        return round(self.share.quota_request * LONGEST_WINDOW_NS)

    @property
    def cells(self) -> int:
        """Mask of its processes' cells."""
        return sum(1 << member.index for member in self.members)

    @property
    def siblings(self) -> int:
        """The same for its processes to see: with the cell that has the latest account; 0 for one that is alone."""
        mask = self.cells | (1 << self.former if self.former >= 0 else 0)
        return mask if mask.bit_count() > 1 else 0

    def timing_in(self, epoch_ns: int, window_ns: int) -> layout.Timing:
        """Its share in the units of the wire, for a window."""
        rect = self.rect
        start = min(window_ns, round(rect.quota_offset * window_ns)) if rect else 0
        length = round(self.share.quota_request * window_ns) if rect else 0
        return layout.Timing(
            *(epoch_ns, window_ns, start, min(window_ns, start + length)),
            *(round(self.share.quota_limit * window_ns), self.burst_ns),
            *(milli(rect.sm_offset) if rect else 0, milli(rect.sm if rect else self.share.sm_partition)),
        )

    def entry(self, group: int) -> Entry:
        """The instance as the token policy sees it, by its first process's cell, as one of that group."""
        t, index = self.timing, self.members[0].index
        slot = (t.sm_offset, t.sm, t.slot_start_ns, t.slot_end_ns)
        return Entry(index, *slot, t.limit_ns, t.burst_ns, self.wanting, group)

    def open_processes(self) -> None:
        """Get hold of the processes behind pid and root. Raises `InvalidValue` if there is none."""
        root = Process.open(self.root, "root") if self.root else None
        try:
            self.process = Process.open(self.pid)
        finally:
            if self.process is None and root is not None:
                root.close()
        self.root_process = root

    def close_processes(self) -> None:
        """Let go of all handles."""
        for process in (self.process, self.root_process, *(member.process for member in self.members)):
            if process is not None:
                process.close()

    def has_ended(self) -> bool:
        """Whether the admitted process has."""
        return self.process is None or self.process.has_ended()

    def includes(self, process: Process) -> bool:
        """Whether a process is the admitted one, or descends from it or from the root."""
        origins = tuple(p for p in (self.process, self.root_process) if p is not None)
        return process.pid == self.pid or process.descends_from(origins)

    def member(self, pid: int) -> Member | None:
        """The process of that number, if it is on the device."""
        return next((member for member in self.members if member.process.pid == pid), None)
