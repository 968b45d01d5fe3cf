"""Readings: what a device says of itself, what its XIDs mean, and what of it is each instance's. Pure.

An XID is the number under which NVIDIA's driver logs an error. What follows from which is NVIDIA's own advice, the
column "immediate action" of its catalogue of XIDs, for Ampere and later:
https://docs.nvidia.com/deploy/xid-errors/analyzing-xid-catalog.html
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from fastgshare.domain.ledger import LedgerEntry


@dataclass(frozen=True, slots=True)
class Reading:
    """A device at one moment. What it does not have, or does not say, is None: never zero.

    at_s: when, on the machine's monotonic clock, as the ledger's windows. Fractions are of the time since the reading
    before: utilisation, in which some kernel ran; sm_utilisation, mean part of the SMs that were in use;
    sm_occupancy, mean part of the warps that the SMs can hold; graphics_utilisation, as the first, by GPM;
    memory_utilisation, part of the memory's bandwidth.
    xids: the errors logged since the reading before, as (when, number). lost: the device does not answer any more.
    problem: why there is nothing, or not all, to say; or "".
    """

    at_s: float
    utilisation: float | None = None
    sm_utilisation: float | None = None
    sm_occupancy: float | None = None
    graphics_utilisation: float | None = None
    memory_utilisation: float | None = None
    mem_used_bytes: int | None = None
    mem_total_bytes: int | None = None
    power_w: float | None = None
    temperature_c: float | None = None
    sm_clock_mhz: float | None = None
    xids: tuple[tuple[float, int], ...] = ()
    lost: bool = False
    problem: str = ""

    @property
    def has_figures(self) -> bool:
        """Whether anything could be read at all."""
        figures = (self.utilisation, self.sm_utilisation, self.sm_occupancy, self.graphics_utilisation)
        others = (self.memory_utilisation, self.mem_used_bytes, self.mem_total_bytes, self.power_w)
        return any(each is not None for each in (*figures, *others, self.temperature_c, self.sm_clock_mhz))

    @property
    def verdict(self) -> XidVerdict | None:
        """The gravest that its XIDs and its loss ask for; None where nothing happened."""
        found = [judge_xid(number) for _, number in self.xids] + [XidVerdict.LOST] * self.lost
        return max(found, key=list(XidVerdict).index, default=None)


class XidVerdict(StrEnum):
    """What is to be done after an XID, from the least grave to the gravest."""

    NOTICE = "notice"
    """Nothing: it is to be known."""
    UNKNOWN = "unknown"
    """Nothing, for nobody here knows what it means: it is to be reported."""
    APPLICATION = "application"
    """The processes concerned have failed and have to start anew; the device goes on."""
    DRAIN = "drain"
    """The device has to be reset: whatever runs on it goes elsewhere first."""
    LOST = "lost"
    """The device is not there any more until the machine starts anew."""


def _table(**numbers: Iterable[int]) -> Mapping[int, XidVerdict]:
    return {number: XidVerdict(verdict) for verdict, some in numbers.items() for number in some}


XIDS: Final[Mapping[int, XidVerdict]] = _table(
    notice=(37, 38, 44, 63, 66, 67, 92, 93, 106, 107, 121, 137, 141, 152, 153, 154, 157, 160, 161),
    application=(
        *(8, 11, 13, 25, 31, 32, 39, 40, 41, 43, 45, 60, 68, 69, 70, 71, 72, 75, 76, 77, 80),
        *(82, 83, 84, 85, 86, 88, 89, 94, *range(96, 106), *range(126, 136), 139),
    ),
    drain=(46, 48, 62, 64, 74, 95, 109, 110, 119, 120, 136, 140, 143, 155, 156, 158),
    lost=(79,),
)
"""What follows from which number. 43, 45, 48 and 74 have advice of several steps there, of which this is the first:
a process whose work was stopped (43) or cleared away (45) starts anew, after an error of two bits (48) or of a link
between devices (74) the device is drained and reset. A row of memory that is marked for replacement (63) and a high
rate of corrected errors (92) let work go on, so they do not drain."""

MEANINGS: Final[Mapping[int, str]] = {
    13: "a kernel did what the SMs refuse",
    31: "a kernel used an address that is not its own",
    32: "broken commands in a process's queue",
    43: "the device stopped a process's work",
    45: "a process's work was cleared away after an error",
    46: "the device stopped working",
    48: "memory had an error of two bits",
    62: "a controller of the device has halted",
    63: "a row of memory is to be replaced at the next reset",
    64: "a row of memory cannot be replaced",
    69: "a process's commands do not fit the engine",
    74: "a link between devices failed",
    79: "the device fell off the bus",
    92: "many errors of one bit",
    94: "an error in memory struck one process",
    95: "an error in memory may have struck all processes",
    109: "switching between processes took too long",
    119: "the device's own processor does not answer",
    120: "the device's own processor failed",
    140: "an error in memory that nothing mends",
    143: "the device could not be made ready",
}
"""The more common ones in words."""


def judge_xid(number: int) -> XidVerdict:
    """What is to be done after an XID of that number."""
    return XIDS.get(number, XidVerdict.UNKNOWN)


def describe_xid(number: int) -> str:
    """An XID in words."""
    return f"XID {number} ({meaning})" if (meaning := MEANINGS.get(number)) else f"XID {number}"


@dataclass(frozen=True, slots=True)
class Part:
    """What of a device's use is one instance's: its summands of the device's fractions, None where those are."""

    sm_utilisation: float | None = None
    sm_occupancy: float | None = None


def attribute(reading: Reading, entries: Sequence[LedgerEntry]) -> dict[str, Part]:
    """Each instance's part of a device's SM utilisation and occupancy, by instance.

    entries: of the instances on that device, over the interval that the reading is about; several of one instance
    add up. The device's use is divided as the SM-seconds for which they held tokens, `received_s` x `sm_partition`:
    who held none has no part of it. What others than the instances did on the device counts as theirs.
    """
    held_by: dict[str, float] = {}
    for entry in entries:
        held_by[entry.instance_id] = held_by.get(entry.instance_id, 0.0) + entry.received_s * entry.sm_partition
    total = sum(held_by.values())
    return {name: _part(reading, held / total if total > 0 else 0.0) for name, held in held_by.items()}


def _part(reading: Reading, fraction: float) -> Part:
    whole = (reading.sm_utilisation, reading.sm_occupancy)
    return Part(*(None if value is None else value * fraction for value in whole))


def growth(before: Iterable[LedgerEntry], now: Iterable[LedgerEntry]) -> list[LedgerEntry]:
    """What the ledger's sums grew by between two looks: the entries of the interval between them.

    An instance that was not there before, or began anew since, has all that it has now.
    """
    then = {entry.instance_id: entry for entry in before}
    return [_less(entry, then.get(entry.instance_id)) for entry in now]


def _less(now: LedgerEntry, before: LedgerEntry | None) -> LedgerEntry:
    if before is None or now.window_s < before.window_s or now.received_s < before.received_s:
        return now
    return replace(
        now,
        window_start_s=before.window_start_s + before.window_s,
        window_s=now.window_s - before.window_s,
        entitled_s=now.entitled_s - before.entitled_s,
        received_s=now.received_s - before.received_s,
        loan_s=now.loan_s - before.loan_s,
        demand_s=now.demand_s - before.demand_s,
        cpu_s=now.cpu_s - before.cpu_s,
    )
