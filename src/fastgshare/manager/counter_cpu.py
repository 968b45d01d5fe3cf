"""The CPU's counters: how much of its cores and of the machine's memory is in use, from /proc."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from fastgshare.domain.devices import Device
from fastgshare.domain.readings import Reading

_IDLE: Final = (3, 4)
"""Among a core's times: idle, and waiting for input and output."""
_COUNTED: Final = 8
"""What follows is guests' time, which is in the first two already."""


class CpuCounters:
    """The counters of a CPU device. Its SMs are its cores: `sm_utilisation` is the mean part of them that was busy.

    proc: where the kernel's files are. The use of memory is the machine's: under a smaller limit it is absent.
    """

    is_lost = False

    def __init__(self, device: Device, proc: Path = Path("/proc")) -> None:
        self._device = device
        self._proc = proc
        self._before = self._times()

    def read(self, at_s: float) -> Reading:
        """All that the kernel says now."""
        before, self._before = self._before, self._times()
        busy, total = (now - then for now, then in zip(self._before, before, strict=True))
        used = min(1.0, max(0.0, busy / total)) if total > 0 else None
        return Reading(
            at_s, sm_utilisation=used, mem_used_bytes=self._used(), mem_total_bytes=self._device.mem_bytes or None
        )

    def wait_for_xid(self, timeout_s: float) -> int | None:
        """None, after that time: a CPU has none."""
        time.sleep(timeout_s)
        return None

    def _times(self) -> tuple[int, int]:
        """Of the device's cores together: ticks in which they were busy, and all."""
        wanted = {f"cpu{number}" for number in self._device.sm_ids}
        rows = (line.split() for line in self._lines("stat"))
        times = [[int(word) for word in row[1 : _COUNTED + 1]] for row in rows if row and row[0] in wanted]
        total = sum(map(sum, times))
        return total - sum(sum(row[place] for place in _IDLE) for row in times), total

    def _used(self) -> int | None:
        facts = {row[0]: int(row[1]) * 1024 for row in map(str.split, self._lines("meminfo")) if len(row) > 1}
        there, available = facts.get("MemTotal:"), facts.get("MemAvailable:")
        if there is None or available is None or self._device.mem_bytes < _machine_bytes():
            return None
        return max(0, there - available)

    def _lines(self, name: str) -> Iterable[str]:
        try:
            return (self._proc / name).read_text().splitlines()
        except OSError:
            return ()


def _machine_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
