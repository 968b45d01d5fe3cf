"""Gauges: what an instance received and used of a device while a load was on it."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from fastgshare.cluster.grounds import PERIOD_S, Ground
from fastgshare.domain.devices import DeviceKind
from fastgshare.domain.ledger import LedgerEntry
from fastgshare.domain.readings import Reading, growth

_PROC: Final = Path("/proc")


@dataclass(frozen=True, slots=True)
class Use:
    """What one instance had of its device. received: part of the time, by the ledger. None: it is not counted.

    others: part of a CPU's cores that all but the instance used: this program, and strangers.
    """

    received: float | None = None
    sm_utilisation: float | None = None
    sm_occupancy: float | None = None
    others: float | None = None


@dataclass(slots=True, eq=False)
class Gauge:
    """Looks on while an instance works, from `begin` to `end`: at the ledger, and at the device's counters."""

    ground: Ground
    instance_id: str
    _before: list[LedgerEntry] = field(default_factory=list)
    _readings: dict[float, Reading] = field(default_factory=dict)
    _watching: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Raises `DaemonUnavailable`."""
        self._before = await self._entries()
        self._watching = asyncio.create_task(self._watch(asyncio.get_running_loop().time()), name="gauge")

    async def end(self) -> Use:
        """What it had since. Raises `DaemonUnavailable`."""
        if self._watching is not None:
            self._watching.cancel()
        grown = growth(self._before, await self._entries())
        entry = next((entry for entry in grown if entry.window_s > 0), None)
        if entry is None:
            return Use()
        received, device = min(1.0, entry.received_s / entry.window_s), self.ground.device
        used = _mean(each.sm_utilisation for each in self._readings.values())
        if device.kind is DeviceKind.CPU:  # its counters have what strangers do in them
            own = min(1.0, entry.cpu_s / entry.window_s / device.sm_count)
            return Use(received, own, others=None if used is None else max(0.0, used - own))
        return Use(received, used, _mean(each.sm_occupancy for each in self._readings.values()))

    async def _entries(self) -> list[LedgerEntry]:
        return [entry for entry in await self.ground.daemon.totals() if entry.instance_id == self.instance_id]

    async def _watch(self, from_s: float) -> None:
        while True:
            await asyncio.sleep(PERIOD_S / 2)
            reading = self.ground.watches.reading(self.ground.device.id)
            if reading.at_s - PERIOD_S >= from_s:  # it is of the time since the one before
                self._readings[reading.at_s] = reading


def _mean(values: Iterable[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return statistics.fmean(found) if found else None


async def memory_of(ground: Ground, instance_id: str) -> int | None:
    """The most memory that an instance has held: the device's, on a CPU its process's own; None: it is not counted."""
    if ground.device.kind is DeviceKind.CPU:
        pids = [status.pid for status in ground.cluster.observe() if status.id == instance_id]
        return _resident(pids[0]) if pids else None
    seats: Mapping[str, Any] = (await ground.daemon.status())["instances"]
    return int(seats[instance_id]["mem_peak_bytes"]) if instance_id in seats else None


def _resident(pid: int) -> int | None:
    with suppress(OSError, ValueError):
        for line in (_PROC / f"{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return None
