"""Seats: the daemon's record of one admitted instance."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from fastgshare.domain.errors import InvalidValue, WireError
from fastgshare.domain.rects import Rect
from fastgshare.domain.shares import Share
from fastgshare.domain.units import milli, percent
from fastgshare.manager import layout
from fastgshare.manager.tokens import Entry, Loan

LATE_NS: Final = 1_000_000
"""How late a sleeper may wake up without being suspected."""

UNDECLARED_HANG_NS: Final = 1_000_000_000


NO_TIME: Final = layout.Timing(0, 1, 0, 0, 0, 0, 0, 0)


@dataclass(slots=True)
class Checked:
    """When an instance's CPU time was last held against its tokens, and what both were."""

    at_ns: int = 0
    cpu_ns: int = 0
    held_ns: int = 0
    strikes: int = 0


@dataclass(slots=True)
class Seat:
    """One admitted instance: who it is, what it is granted, what was seen of it.

    index: its cell, or -1 before it registered. pidfd: becomes readable when the process has ended.
    declared: its burst is a promise, not a measurement. suspect_since_ns: seen at work outside its time since then.
    """

    instance_id: str
    pid: int
    share: Share
    rect: Rect | None
    burst_ns: int = 0
    index: int = -1
    pidfd: int = -1
    socket_fd: int = -1
    wanting: bool = False
    timing: layout.Timing = NO_TIME
    loans: tuple[Loan, ...] = ()
    published: bytes = b""
    booked_demand_ns: int = 0
    booked_cpu_ns: int = 0
    declared: bool = False
    suspect_since_ns: int = 0
    suspect_cpu_ns: int = 0
    fenced: str = ""
    checked: Checked = field(default_factory=Checked)

    @property
    def hang_ns(self) -> int:
        """How long it may overrun its time. A burst that was only measured may be longer once on other input."""
        return self.burst_ns if self.declared else max(4 * self.burst_ns, UNDECLARED_HANG_NS)

    @classmethod
    def from_cell(cls, instance_id: str, pid: int, cell: bytes, index: int) -> Seat:
        """The seat behind a cell that a predecessor wrote; its admission will be repeated. Raises `WireError`."""
        fields = layout.CELL_HEAD.unpack_from(cell)
        flags, _, window_ns, start_ns, end_ns, limit_ns, burst_ns, sm_offset, sm = fields[1:10]
        if not flags & layout.ALIVE or not window_ns:
            raise WireError(f"cell {index} has no instance")
        limit = limit_ns / window_ns
        request = (end_ns - start_ns) / window_ns or limit
        certified = bool(flags & layout.CERTIFIED)
        rect = Rect(percent(sm_offset), start_ns / window_ns, percent(sm), request) if certified else None
        share = Share(percent(sm), request, max(request, limit))
        return cls(instance_id, pid, share, rect, burst_ns, published=cell)

    def timing_in(self, epoch_ns: int, window_ns: int) -> layout.Timing:
        """Its share in the units of the wire, for a window."""
        rect = self.rect
        start = round(rect.quota_offset * window_ns) if rect else 0
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
        except OSError as error:
            raise InvalidValue("pid", self.pid, "a running process") from error

    def cpu_ns(self) -> int:
        """CPU time of its process so far; the last figure once it has gone."""
        try:
            return time.clock_gettime_ns((~self.pid << 3) | 2)  # the process's CPU clock, see clock_getcpuclockid(3)
        except OSError:
            return self.booked_cpu_ns

    def wants_cpu(self) -> bool:
        """Whether one of its threads could run now, but for the CPU."""
        for path in Path(f"/proc/{self.pid}/task").glob("*/stat"):
            with suppress(OSError):
                if path.read_text().rpartition(") ")[2][:1] == "R":
                    return True
        return False

    def kill(self, reason: str) -> None:
        """Fence the instance: it counts until the kernel says that it has ended."""
        self.fenced = reason
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)


def outside(seat: Seat, now_ns: int) -> bool:
    """Whether an honest instance cannot be at work now: its time has been over for longer than it may overrun.

    Nothing that the instance says of itself enters here but that it holds; so a liar only accuses itself.
    """
    from_ns = now_ns - seat.hang_ns - LATE_NS
    return all(_misses(a, b, from_ns, now_ns, seat.timing) for a, b in _intervals(seat.loans, seat.timing))


def _intervals(loans: Iterable[Loan], timing: layout.Timing) -> list[tuple[int, int]]:
    return [(timing.slot_start_ns, timing.slot_end_ns), *((x.start_ns, x.until_ns) for x in loans)]


def _misses(start: int, end: int, from_ns: int, to_ns: int, timing: layout.Timing) -> bool:
    """Whether the part [start, end) of every window misses the time [from_ns, to_ns] altogether."""
    if start == end:
        return True
    first = timing.epoch_ns + start
    latest = first + (to_ns - first) // timing.window_ns * timing.window_ns
    return latest + end - start <= from_ns
