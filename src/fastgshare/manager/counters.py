"""The counters process: reads one device's counters, a line a second. ``python -m fastgshare.manager.counters``.

A process of its own, because a call to a GPU that is lost may never return, and because which NVML a process has, a
GPU's or the stand-in's, is settled when it starts. Its lines are `counter_lines`'.
"""

from __future__ import annotations

import argparse
import ctypes
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final, Protocol

from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.errors import FastGShareError, InvalidValue, NotFound
from fastgshare.domain.readings import Reading
from fastgshare.manager.counter_cpu import CpuCounters
from fastgshare.manager.counter_lines import encode
from fastgshare.manager.counter_nvml import NvmlCounters
from fastgshare.manager.daemon import parse_device

NO_COUNTERS: Final = 3
"""Exit status where the device cannot be read here."""
NOT_THERE: Final = 4
"""Exit status where NVML can be used, and does not know the device: of one that was read before, that is its loss."""
PERIOD_S: Final = 1.0
FIRST_S: Final = 0.25
"""The first line comes after so long: most figures are about the time since somebody began to look."""

_WAIT_S: Final = 1.0
_SHORTEST_S: Final = 0.1
"""GPM refuses samples that lie closer together."""
_PR_SET_PDEATHSIG: Final = 1


class CannotRead(FastGShareError):
    """A device has no counters that can be read here; the text says why."""


class Counters(Protocol):
    """The counters of one device."""

    @property
    def is_lost(self) -> bool:
        """Whether the device does not answer any more."""

    def read(self, at_s: float) -> Reading:
        """All that the device says now."""

    def wait_for_xid(self, timeout_s: float) -> int | None:
        """The number of the next XID; None after that time."""


def follow(counters: Counters, period_s: float, say: Callable[[Reading], None]) -> None:
    """Say a reading every period, and at every XID at once, until `say` raises."""
    due_s = time.monotonic() + min(FIRST_S, period_s)
    last: Reading | None = None
    while True:
        now_s = time.monotonic()
        if now_s >= due_s:
            last = counters.read(now_s)
            say(last)
            due_s = max(due_s + period_s, now_s)
        elif (number := counters.wait_for_xid(min(due_s - now_s, _WAIT_S))) is not None:
            say(_with_xid(counters, last, number))


def _with_xid(counters: Counters, last: Reading | None, number: int) -> Reading:
    """A reading that tells of an XID: with the last figures, for new ones would be about too short a time."""
    now_s = time.monotonic()
    known = counters.read(now_s) if counters.is_lost else last or Reading(now_s)
    return replace(known, at_s=now_s, xids=((now_s, number),))


def open_counters(device: Device) -> Counters:
    """The counters of a device. Raises `CannotRead`, `NotFound`."""
    if device.kind is DeviceKind.CPU:
        return CpuCounters(device)
    if device.kind is DeviceKind.ABSTRACT:
        raise CannotRead(f"device {device.id} is abstract: it has no counters")
    return NvmlCounters(_nvml(), device)


def _nvml() -> Any:
    try:
        import pynvml
    except ImportError:
        raise CannotRead("the Python package nvidia-ml-py is missing: pip install nvidia-ml-py") from None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise CannotRead(f"NVML, which comes with NVIDIA's driver, cannot be used here: {error}") from None
    return pynvml


def _parse(arguments: Sequence[str] | None) -> tuple[Device, float]:
    parser = argparse.ArgumentParser(
        prog="python -m fastgshare.manager.counters",
        description="Print what a device's counters say, a JSON object a line, until it is ended.",
    )
    parser.add_argument("--device", required=True, help="the device, as JSON of `Device`")
    parser.add_argument("--period-s", type=float, default=PERIOD_S, help="time between two lines; default: 1")
    given = parser.parse_args(arguments)
    if not _SHORTEST_S <= given.period_s <= 3600:
        raise InvalidValue("period-s", given.period_s, f"{_SHORTEST_S:g} to 3600 seconds")
    return parse_device(given.device), given.period_s


def _belong_to_parent() -> None:
    """Before any call that may hang: nobody listens once whoever started it has died, whom a Ctrl-C is for."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def main(arguments: Sequence[str] | None = None) -> int:
    """Read until nobody listens; exit status 0 then, 2: wrong arguments, 3: nothing can be read, 4: no such device."""
    try:
        device, period_s = _parse(arguments)
        counters = open_counters(device)
    except InvalidValue as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except FastGShareError as error:
        print(f"error: {error}", file=sys.stderr)
        return NOT_THERE if isinstance(error, NotFound) else NO_COUNTERS
    try:
        follow(counters, period_s, lambda reading: print(encode(reading), flush=True))
    except BrokenPipeError:
        sys.stdout = None
    return 0


if __name__ == "__main__":
    _belong_to_parent()
    sys.exit(main())
