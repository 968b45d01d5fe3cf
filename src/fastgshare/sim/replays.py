"""Replays in virtual time: programs that play kernel traces, many at once, on one device of the stand-in.

The device is the stand-in's own timeline (native/standin/timeline), the programs are native/standin/replays; the clock
jumps. What takes minutes on a device takes milliseconds here, and is the same each time.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from types import TracebackType
from typing import Final, Self

from fastgshare import native
from fastgshare.domain.errors import NoPlacement
from fastgshare.sim.daemons import START_NS
from fastgshare.sim.traces import Trace

NEVER_NS: Final = 2**64 - 1


class EventKind(IntEnum):
    """What a stage stops for; as in native/standin/replays/replays.h."""

    REACHED = 0
    WANTS = 1
    IDLE = 2


@dataclass(frozen=True, slots=True)
class Event:
    """kind WANTS: a replay stands before its gate, with a launch that took burst_ns last time. IDLE: its work ended."""

    at_ns: int
    replay: int
    kind: EventKind
    burst_ns: int


class _Step(ctypes.Structure):
    _fields_ = (("kind", ctypes.c_uint32), ("kernel", ctypes.c_uint32), ("host_ns", ctypes.c_uint64))


class _Kernel(ctypes.Structure):
    _fields_ = (
        ("blocks", ctypes.c_uint32),
        ("blocks_per_sm", ctypes.c_uint32),
        ("bandwidth", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
        ("full_ns", ctypes.c_uint64),
    )


class _Event(ctypes.Structure):
    _fields_ = (
        ("at_ns", ctypes.c_uint64),
        ("burst_ns", ctypes.c_uint64),
        ("replay", ctypes.c_int32),
        ("kind", ctypes.c_uint32),
    )


class _Usage(ctypes.Structure):
    _fields_ = (
        ("busy_ns", ctypes.c_uint64),
        ("sm_ns", ctypes.c_uint64),
        ("kernels", ctypes.c_uint64),
        ("mem_bytes", ctypes.c_uint64),
        ("pid", ctypes.c_uint32),
        ("sms", ctypes.c_uint32),
    )


@cache
def _library() -> ctypes.CDLL:
    lib = ctypes.CDLL(str(native.library("libstandin_virtual.so")))
    u32, u64, pointer = ctypes.c_uint32, ctypes.c_uint64, ctypes.c_void_p
    lib.rp_open.restype = pointer
    lib.rp_open.argtypes = [u32, u32, u64]
    lib.rp_close.argtypes = [pointer]
    lib.rp_add.argtypes = [pointer, u32, ctypes.POINTER(_Step), u32, ctypes.POINTER(_Kernel), u32, u32, u64]
    lib.rp_permit.argtypes = [pointer, ctypes.c_int, u64, u64]
    lib.rp_watch.argtypes = [pointer, ctypes.c_int, u64]
    lib.rp_run.argtypes = [pointer, u64, ctypes.POINTER(_Event)]
    lib.rp_busy.argtypes = [pointer, ctypes.c_int]
    lib.rp_requests.restype = u64
    lib.rp_requests.argtypes = [pointer, ctypes.c_int]
    lib.rp_usage.argtypes = [pointer, ctypes.c_int, ctypes.POINTER(_Usage)]
    return lib


@cache
def _wire(trace: Trace) -> tuple[ctypes.Array[_Step], ctypes.Array[_Kernel]]:
    steps = [_Step(s.kind, max(0, s.kernel), s.host_ns) for s in trace.steps]
    kernels = [_Kernel(k.blocks, k.blocks_per_sm, round(1000 * k.bandwidth), 0, k.full_ns) for k in trace.kernels]
    return (_Step * len(steps))(*steps), (_Kernel * len(kernels))(*kernels)


class Stage:
    """One device in virtual time and the replays on it. Use as a context, or `close` it.

    sms: of the device. turns: replays never run at once, as processes on a GPU without MPS; else they overlap.
    """

    def __init__(self, sms: int, *, turns: bool = False) -> None:
        self._lib = _library()
        self.now_ns = START_NS
        self._stage: int | None = self._lib.rp_open(sms, int(turns), self.now_ns)
        if self._stage is None:
            raise MemoryError("no memory for a stand-in device")
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the device's memory back."""
        if self._stage is not None:
            self._lib.rp_close(self._stage)
            self._stage = None

    def add(self, trace: Trace, sm_partition: float, *, seed: int) -> int:
        """A program that plays a trace over and over on a percentage of the SMs; its number. Raises `NoPlacement`."""
        steps, kernels = _wire(trace)
        spread, sm = round(1000 * trace.spread), round(1000 * sm_partition)
        number = self._lib.rp_add(self._stage, sm, steps, len(steps), kernels, len(kernels), spread, seed)
        if number < 0:
            raise NoPlacement(f"a device of the stand-in has room for {self._count} programs")
        self._count += 1
        return int(number)

    def permit(self, replay: int, until_ns: int, *, depth_ns: int = 0) -> None:
        """Launches of a replay may pass until then.

        depth_ns: if not 0, only what will have ended by then, and only while less than that is left on the device; but
        the one that it stands at its gate with passes in any case.
        """
        self._lib.rp_permit(self._stage, replay, until_ns, depth_ns)

    def watch(self, replay: int, idle_ns: int) -> None:
        """Have `run` stop when a replay has had no work on the device for so long; at its gate, at once."""
        self._lib.rp_watch(self._stage, replay, idle_ns)

    def run(self, until_ns: int) -> Event:
        """Let time pass up to a time, or to the next event."""
        event = _Event()
        self._lib.rp_run(self._stage, until_ns, ctypes.byref(event))
        self.now_ns = event.at_ns
        return Event(event.at_ns, event.replay, EventKind(event.kind), event.burst_ns)

    def busy(self, replay: int) -> bool:
        """Whether a replay has work on the device."""
        return bool(self._lib.rp_busy(self._stage, replay))

    def requests(self, replay: int) -> int:
        """Requests that a replay has finished."""
        return int(self._lib.rp_requests(self._stage, replay))

    def busy_ns(self, replay: int) -> int:
        """Time in which at least one kernel of a replay ran."""
        usage = _Usage()
        self._lib.rp_usage(self._stage, replay, ctypes.byref(usage))
        return int(usage.busy_ns)
