"""A node daemon in virtual time: the real gate (C++), the real timetable and token policy, and a clock that jumps."""

from __future__ import annotations

import ctypes
import heapq
import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cache
from typing import Final

from fastgshare import native
from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.rects import Rect
from fastgshare.domain.shares import Share
from fastgshare.domain.units import ns
from fastgshare.manager import layout
from fastgshare.manager.books import Books
from fastgshare.manager.gate import declare
from fastgshare.manager.members import Member
from fastgshare.manager.memory import DeviceMemory
from fastgshare.manager.processes import Process
from fastgshare.manager.seats import Seat
from fastgshare.manager.timetable import Timetable

ABSTRACT: Final = Device("abstract", DeviceKind.ABSTRACT, sm_count=100)
START_NS: Final = 1_000_000_000
"""When virtual time begins."""

_POLL_NS: Final = 500_000  # as the real gate's: who is blocked looks again this often
_LEND_VALID_NS: Final = 200_000_000


class _Wait(ctypes.Structure):
    _fields_ = (("until_ns", ctypes.c_uint64), ("peer", ctypes.c_int))


@cache
def library() -> ctypes.CDLL:
    """The gate in virtual time, with its signatures. Raises `NotFound` if it was not built."""
    lib = declare(ctypes.CDLL(str(native.library("libfastgate_virtual.so"))))
    u64, pointer = ctypes.c_uint64, ctypes.c_void_p
    lib.fg_virtual_set_now.argtypes = [u64]
    lib.fg_virtual_kicks.restype = ctypes.c_uint32
    lib.fg_virtual_wakes.restype = ctypes.c_uint32
    lib.fg_virtual_open.restype = pointer
    lib.fg_virtual_open.argtypes = [pointer, pointer, ctypes.c_int]
    lib.fg_try_acquire.restype = ctypes.c_int
    lib.fg_try_acquire.argtypes = [pointer, u64, u64, ctypes.POINTER(_Wait)]
    return lib


def open_gate(memory: DeviceMemory, index: int) -> int:
    """The gate of a process that has cell `index`, in virtual time: a handle for functions of `library()`."""
    pages = (ctypes.c_void_p * layout.CELLS)(*memory.page_addresses)
    return int(library().fg_virtual_open(memory.board_address, pages, index))


class VirtualDaemon(ABC):
    """The daemon of one device, its clock, and a queue of what happens next. Who sits on the device is for heirs.

    One clock for all gates of a process: use one after the other, not two at once.
    """

    def __init__(self, window_s: float = 0.04, *, device: Device = ABSTRACT, daemon_latency_s: float = 0.0001) -> None:
        self._lib = library()
        self.now_ns = START_NS
        self._lib.fg_virtual_set_now(self.now_ns)
        self._lib.fg_virtual_kicks()
        self.memory = DeviceMemory.create(_LEND_VALID_NS)
        self.memory.close()  # nobody else maps it
        self.books = Books(None)
        self.table = Timetable(device, self.memory, self.books, ns(window_s), self.now_ns)
        self.daemon_runs = True
        self._latency_ns = ns(daemon_latency_s)
        self._events: list[tuple[int, int, int, Callable[[], None]]] = []
        self._sequence = 0
        self._look_scheduled = False
        self._at(self.now_ns, 0, self._tick)

    def _admit(self, share: Share, rect: Rect | None, burst_ns: int, group: str = "") -> Seat:
        """Give an instance a seat; burst_ns: what it declares; group: its trust group."""
        seat = Seat(f"i{len(self.table.seats)}", os.getpid(), share, rect, burst_ns, declared=True, group=group)
        self.table.admit(seat, self.now_ns)
        seat.close_processes()  # it is this process
        return seat

    def _join(self, seat: Seat) -> tuple[Member, int]:
        """Let a process of an instance onto the device: what it is to the daemon, and its gate."""
        member = self.table.join(seat, Process(os.getpid(), -1), self.now_ns)
        self.table.refit(self.now_ns)
        return member, open_gate(self.memory, member.index)

    def _try_acquire(self, gate: int, burst_ns: int, requested_ns: int) -> int:
        """0: the token is held; else when to look again."""
        wait = _Wait()
        held = self._lib.fg_try_acquire(gate, burst_ns, requested_ns, ctypes.byref(wait)) == 0
        if held:
            return 0
        window_end_ns = self.now_ns + self.table.window_ns
        again_ns = self.now_ns + _POLL_NS if wait.peer >= 0 else min(wait.until_ns, window_end_ns)
        return max(again_ns, self.now_ns + 1)

    # --- events ------------------------------------------------------------------------------------------------------

    def _at(self, when_ns: int, priority: int, action: Callable[[], None]) -> None:
        self._sequence += 1
        heapq.heappush(self._events, (when_ns, priority, self._sequence, action))

    def _next_ns(self) -> int:
        """When something happens next; the daemon's ticks never end."""
        return self._events[0][0]

    def _do_next(self) -> None:
        when, _, _, action = heapq.heappop(self._events)
        self._set_now(max(self.now_ns, when))
        action()
        self._hear()

    def _hear(self) -> None:
        """Have the daemon look, a little later, if an instance has asked for it."""
        if self._lib.fg_virtual_kicks() and not self._look_scheduled:
            self._look_scheduled = True
            self._at(self.now_ns + self._latency_ns, 1, self._look)

    def _set_now(self, now_ns: int) -> None:
        self.now_ns = now_ns
        self._lib.fg_virtual_set_now(now_ns)

    def _tick(self) -> None:
        if self.daemon_runs:
            self.table.tick(self.now_ns)
            self._wake_all()
        due_ns = self.table.next_tick_ns(self.now_ns) if self.daemon_runs else self.now_ns + self.table.window_ns
        self._at(due_ns, 1, self._tick)

    def _look(self) -> None:
        self._look_scheduled = False
        if self.daemon_runs:
            self.table.look(self.now_ns)
            self._wake_all()

    @abstractmethod
    def _wake_all(self) -> None:
        """Have everybody that waits look again: the plan may have changed, or a token has come back."""
