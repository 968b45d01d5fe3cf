"""Seats: the daemon's record of one admitted instance."""

from __future__ import annotations

import os
import select
import signal
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from fastgshare.domain.errors import InvalidValue
from fastgshare.domain.rects import Rect
from fastgshare.domain.shares import Share
from fastgshare.domain.units import milli
from fastgshare.manager import layout
from fastgshare.manager.tokens import LONGEST_WINDOW_NS, Entry, Loan

UNDECLARED_HANG_NS: Final = 1_000_000_000
LONGEST_HANG_NS: Final = 10_000_000_000
NO_TIME: Final = layout.Timing(0, 1, 0, 0, 0, 0, 0, 0)


@dataclass(slots=True)
class Booked:
    """What the ledger has counted of an instance: times in nanoseconds. since_ns: when it took its cell."""

    since_ns: int = 0
    demand_ns: int = 0
    cpu_ns: int = 0


@dataclass(slots=True)
class Seen:
    """What was seen of an instance's conduct; see conduct.py.

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


@dataclass(slots=True)
class Seat:
    """One admitted instance: who it is, what it is granted, what was seen of it.

    index: its cell, or -1 before it registered. pidfd: becomes readable when the process has ended.
    declared: its burst is a promise, not a measurement. root: a process whose descendants are the instance's too (0:
    none). fenced: why it was ended, if it was.
    """

    instance_id: str
    pid: int
    share: Share
    rect: Rect | None
    burst_ns: int = 0
    declared: bool = False
    root: int = 0
    index: int = -1
    pidfd: int = -1
    socket_fd: int = -1
    wanting: bool = False
    timing: layout.Timing = NO_TIME
    loans: tuple[Loan, ...] = ()
    published: bytes = b""
    fenced: str = ""
    booked: Booked = field(default_factory=Booked)
    seen: Seen = field(default_factory=Seen)

    @property
    def hang_ns(self) -> int:
        """How long it may overrun its time. A burst that was only measured may be longer once on other input."""
        longest = self.burst_ns if self.declared else max(4 * self.burst_ns, UNDECLARED_HANG_NS)
        return min(longest, LONGEST_HANG_NS)

    @property
    def longest_learnt_ns(self) -> int:
        """The longest burst that is believed: beyond it no window would do."""
        return round(self.share.quota_request * LONGEST_WINDOW_NS)

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

    def entry(self) -> Entry:
        """The instance as the token policy sees it."""
        t = self.timing
        return Entry(
            *(self.index, t.sm_offset, t.sm, t.slot_start_ns, t.slot_end_ns, t.limit_ns, t.burst_ns, self.wanting)
        )

    def open_process(self) -> None:
        """Get hold of the process behind the pid. Raises `InvalidValue` if there is none."""
        try:
            self.pidfd = os.pidfd_open(self.pid)
        except (OSError, OverflowError) as error:
            raise InvalidValue("pid", self.pid, "a running process") from error

    def has_ended(self) -> bool:
        """Whether its process has."""
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(0))

    def cpu_ns(self) -> int:
        """CPU time of its process so far; the last figure once it has gone."""
        try:
            return time.clock_gettime_ns((~self.pid << 3) | 2)  # the process's CPU clock, see clock_getcpuclockid(3)
        except OSError:
            return self.booked.cpu_ns

    def wants_cpu(self) -> bool:
        """Whether one of its threads could run now, but for the CPU."""
        for path in Path(f"/proc/{self.pid}/task").glob("*/stat"):
            with suppress(OSError):
                if path.read_bytes().rpartition(b") ")[2][:1] == b"R":
                    return True
        return False

    def kill(self, reason: str) -> None:
        """Fence the instance: it counts until the kernel says that it has ended."""
        self.fenced = reason
        with suppress(OSError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
