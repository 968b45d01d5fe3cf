"""A device of the stand-in in virtual time: thin ctypes over native/standin/timeline. All times are nanoseconds.

A test double, not a GPU: its kernels take the time that a stated model gives them (see timeline.h). A device can lie in
a file that several processes map, as under the stand-in's driver; then `now` must be a clock that they share.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from pathlib import Path
from typing import Final

from fastgshare import native
from fastgshare.domain.errors import FastGShareError, InvalidValue, NotFound

NEVER_NS: Final = 2**64 - 1
_U32, _U64, _INT, _POINTER = ctypes.c_uint32, ctypes.c_uint64, ctypes.c_int, ctypes.c_void_p


class WorkKind(IntEnum):
    """What a piece of work is: uses SMs and bandwidth; bandwidth alone; takes no time; ends when the host says so."""

    KERNEL = 0
    COPY = 1
    MARK = 2
    HOST = 3


@dataclass(frozen=True, slots=True)
class Work:
    """One piece of work.

    full_ns: how long it takes alone on the whole device. blocks: of threads; blocks_per_sm: that an SM runs at once.
    bandwidth: share of the memory's that it takes when alone on the whole device, in thousandths.
    fault: the error by which a kernel fails at its end; 0: it does not.
    """

    full_ns: int = 0
    blocks: int = 1
    blocks_per_sm: int = 1
    bandwidth: int = 0
    kind: WorkKind = WorkKind.KERNEL
    fault: int = 0


MARK: Final = Work(kind=WorkKind.MARK)
HOST: Final = Work(kind=WorkKind.HOST)


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process has had. busy_ns: at least one of its kernels ran. sm_ns: its SMs, integrated over time.

    kernels: finished. mem_bytes: allocated now. sms: that it may use.
    """

    busy_ns: int
    sm_ns: int
    kernels: int
    mem_bytes: int
    pid: int
    sms: int


@dataclass(frozen=True, slots=True)
class Xid:
    """An error of the device, as its driver logs it. pid: whose; 0: nobody's."""

    when_ns: int
    xid: int
    pid: int


class _Config(ctypes.Structure):
    _fields_ = (("sms", _U32), ("reserved", _U32), ("mem_bytes", _U64), ("turns", _U32), ("turn_loss", _U32))


class _Work(ctypes.Structure):
    _fields_ = (
        ("kind", _U32),
        ("blocks", _U32),
        ("blocks_per_sm", _U32),
        ("bandwidth", _U32),
        ("full_ns", _U64),
        ("fault", _U32),
        ("reserved", _U32),
    )


class _Xid(ctypes.Structure):
    _fields_ = (("when_ns", _U64), ("xid", _U32), ("pid", _U32))


class _Usage(ctypes.Structure):
    _fields_ = (
        ("busy_ns", _U64),
        ("sm_ns", _U64),
        ("kernels", _U64),
        ("mem_bytes", _U64),
        ("pid", _U32),
        ("sms", _U32),
    )


_SIGNATURES: Final[dict[str, tuple[object, list[object]]]] = {
    "st_size": (ctypes.c_size_t, []),
    "st_create": (_POINTER, [_POINTER, ctypes.POINTER(_Config)]),
    "st_attach": (_POINTER, [_POINTER]),
    "st_describe": (None, [_POINTER, ctypes.POINTER(_Config)]),
    "st_join": (_INT, [_POINTER, _U32, _U32, _U64, _U64]),
    "st_leave": (None, [_POINTER, _INT, _U64]),
    "st_reap": (None, [_POINTER, _U64]),
    "st_open_queue": (_INT, [_POINTER, _INT]),
    "st_close_queue": (None, [_POINTER, _INT, _U64]),
    "st_submit": (_U64, [_POINTER, _INT, ctypes.POINTER(_Work), _U64]),
    "st_follow": (_INT, [_POINTER, _INT, _INT, _U64, _U64]),
    "st_finish_host": (None, [_POINTER, _INT, _U64, _U64]),
    "st_finished": (_U64, [_POINTER, _INT, _U64]),
    "st_ended_ns": (_U64, [_POINTER, _INT, _U64, _U64]),
    "st_due_ns": (_U64, [_POINTER, _INT, _U64, _U64]),
    "st_next_ns": (_U64, [_POINTER, _U64]),
    "st_charge": (_INT, [_POINTER, _INT, ctypes.c_int64]),
    "st_mem_free": (_U64, [_POINTER]),
    "st_processes": (_INT, [_POINTER, ctypes.POINTER(_Usage), _INT, _U64]),
    "st_usage_of": (_INT, [_POINTER, _INT, ctypes.POINTER(_Usage), _U64]),
    "st_busy_ns": (_U64, [_POINTER, _U64]),
    "st_fault_of": (_U32, [_POINTER, _INT, _U64]),
    "st_log_xid": (None, [_POINTER, _U32, _U32, _U64]),
    "st_lose": (None, [_POINTER, _U32, _U64]),
    "st_is_lost": (_INT, [_POINTER]),
    "st_xids": (_INT, [_POINTER, ctypes.POINTER(_Xid), _INT, ctypes.POINTER(_U64)]),
}


@cache
def _library() -> ctypes.CDLL:
    lib = ctypes.CDLL(str(native.library("libstandin_virtual.so")))
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    return lib


def _memory(path: Path | None) -> mmap.mmap:
    size = int(_library().st_size())
    if path is None:
        return mmap.mmap(-1, size)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        # Growing only: who comes second must not cut what others have mapped.
        if os.fstat(fd).st_size < size:
            os.ftruncate(fd, size)
        return mmap.mmap(fd, size)
    finally:
        os.close(fd)


def _usage(raw: _Usage) -> Usage:
    return Usage(raw.busy_ns, raw.sm_ns, raw.kernels, raw.mem_bytes, raw.pid, raw.sms)


class StandinDevice:
    """A device of the stand-in: `sms` SMs and `mem_bytes` of memory, in memory of its own or in the file `path`.

    A file that holds a device already keeps its SMs and memory. turns: processes take turns, as without MPS, and lose
    turn_loss (a fraction) of the time by it. Processes and queues are numbers that this device gives out.
    `now` begins at 1: an end at 0 would read as none.
    """

    def __init__(
        self,
        sms: int,
        *,
        mem_bytes: int = 80 * 2**30,
        turns: bool = False,
        turn_loss: float = 0.0,
        path: Path | None = None,
    ) -> None:
        """Make it, or take the one in the file. Raises `InvalidValue`."""
        if not 1 <= sms < 2**32:
            raise InvalidValue("sms", sms, "at least 1")
        if not 0 <= turn_loss < 1:
            raise InvalidValue("turn_loss", turn_loss, "from 0 to less than 1")
        self._lib = _library()
        self._map = _memory(path)
        config = _Config(sms, 0, mem_bytes, turns, round(1000 * turn_loss))
        at = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        self._device = self._lib.st_create(at, ctypes.byref(config))
        if not self._device:
            raise InvalidValue("path", str(path), "a new file, or one with a stand-in device of this version")

    @property
    def sms(self) -> int:
        """How many SMs it has."""
        config = _Config()
        self._lib.st_describe(self._device, ctypes.byref(config))
        return int(config.sms)

    @property
    def mem_free_bytes(self) -> int:
        """Memory that no process has allocated."""
        return int(self._lib.st_mem_free(self._device))

    def busy_ns(self, now: int) -> int:
        """Time in which a kernel ran, of whichever process."""
        return int(self._lib.st_busy_ns(self._device, now))

    def join(self, pid: int, *, sm_partition: float = 100.0, group: int = 1, now: int = 0) -> int:
        """A process that may use that percentage of the SMs, rounded up to whole ones.

        group: those of one group run at once, groups take turns; 0: a group of its own. Raises `InvalidValue` for a
        percentage that is none, `FastGShareError` if the device is full.
        """
        if not 0 < sm_partition <= 100:
            raise InvalidValue("sm_partition", sm_partition, "more than 0, at most 100")
        millipercent = max(1, round(1000 * sm_partition))
        return self._number(self._lib.st_join(self._device, pid, millipercent, group, now), "process")

    def leave(self, process: int, now: int) -> None:
        """A process goes: its work is dropped, its memory is free."""
        self._lib.st_leave(self._device, process, now)

    def reap(self, now: int) -> None:
        """The same for all processes that have died."""
        self._lib.st_reap(self._device, now)

    def open_queue(self, process: int) -> int:
        """A queue of a process. Raises `FastGShareError` if there is none left."""
        return self._number(self._lib.st_open_queue(self._device, process), "queue")

    def close_queue(self, queue: int, now: int) -> None:
        """Close a queue once it has run out."""
        self._lib.st_close_queue(self._device, queue, now)

    def submit(self, queue: int, work: Work, now: int) -> int:
        """Append a piece; its position in the queue, from 1, or 0 while the queue is full."""
        raw = _Work(work.kind, work.blocks, work.blocks_per_sm, work.bandwidth, work.full_ns, work.fault, 0)
        position = int(self._lib.st_submit(self._device, queue, ctypes.byref(raw), now))
        if position == NEVER_NS:
            raise NotFound("queue", str(queue))
        return position

    def follow(self, queue: int, other: int, position: int, now: int) -> bool:
        """What is submitted to `queue` from now on starts after `position` of `other`. False: not noted, it is full."""
        return bool(self._lib.st_follow(self._device, queue, other, position, now) == 0)

    def finish_host(self, queue: int, position: int, now: int) -> None:
        """A piece of the host ends."""
        self._lib.st_finish_host(self._device, queue, position, now)

    def finished(self, queue: int, now: int) -> int:
        """The last position that is finished, and all before it; `NEVER_NS` for a queue whose place was given away."""
        return int(self._lib.st_finished(self._device, queue, now))

    def ended(self, queue: int, position: int, now: int) -> int | None:
        """When a position finished; None: not yet. `NEVER_NS`: it is more than 4096 positions ago."""
        return int(self._lib.st_ended_ns(self._device, queue, position, now)) or None

    def due(self, queue: int, position: int, now: int) -> int:
        """When it will finish if nothing more is submitted; `NEVER_NS`: not known.

        If more than 64 ends on the device come first: a time at which to ask again.
        """
        return int(self._lib.st_due_ns(self._device, queue, position, now))

    def next_end(self, now: int) -> int:
        """When the next piece of the device ends if nothing more is submitted; `NEVER_NS`: none runs."""
        return int(self._lib.st_next_ns(self._device, now))

    def charge(self, process: int, size_bytes: int) -> bool:
        """Allocate memory, or free it (negative). False: nothing changes, the device does not have so much."""
        return bool(self._lib.st_charge(self._device, process, size_bytes) == 0)

    def fault_of(self, process: int, now: int) -> int:
        """The error that a process is broken by; 0: none."""
        return int(self._lib.st_fault_of(self._device, process, now))

    def log_xid(self, xid: int, now: int, pid: int = 0) -> None:
        """Note an error of the device, as a driver does; pid: whose it is."""
        self._lib.st_log_xid(self._device, xid, pid, now)

    def lose(self, now: int, xid: int = 79) -> None:
        """The device is gone: all work is dropped, everybody on it is broken, and it stays so."""
        self._lib.st_lose(self._device, xid, now)

    @property
    def is_lost(self) -> bool:
        """Whether it is gone."""
        return bool(self._lib.st_is_lost(self._device))

    def xids(self, first: int = 0) -> list[Xid]:
        """What was logged, from a position on; the last 64 are remembered."""
        raw, position = (_Xid * 64)(), _U64(first)
        count = self._lib.st_xids(self._device, raw, len(raw), ctypes.byref(position))
        return [Xid(one.when_ns, one.xid, one.pid) for one in raw[:count]]

    def usage(self, process: int, now: int) -> Usage:
        """What a process has had until now. Raises `NotFound` once it has left."""
        raw = _Usage()
        if self._lib.st_usage_of(self._device, process, ctypes.byref(raw), now) != 0:
            raise NotFound("process", str(process))
        return _usage(raw)

    def processes(self, now: int) -> list[Usage]:
        """What the processes that are there have had."""
        raw = (_Usage * 64)()
        count = self._lib.st_processes(self._device, raw, len(raw), now)
        return [_usage(one) for one in raw[:count]]

    def _number(self, number: int, what: str) -> int:
        if number < 0:
            raise FastGShareError(f"the stand-in device has no room for another {what}")
        return number
