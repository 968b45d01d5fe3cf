"""Grids: percentages and fractions as integers, so that touching edges touch exactly.

Across: SMs of the device. Along: billionths of a window.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from fastgshare.domain.devices import Device
from fastgshare.domain.errors import NoPlacement
from fastgshare.domain.rects import Rect
from fastgshare.domain.shares import Share
from fastgshare.scheduler.packing.demands import Demand

WINDOW: Final = 1_000_000_000
_ROUNDING: Final = 1e-3  # billionths; float errors of a product of fractions stay below it


class Box(NamedTuple):
    """A rect in grid units: SMs [left, right) x time [start, end)."""

    left: int
    start: int
    right: int
    end: int

    def overlaps(self, other: Box) -> bool:
        """Whether the two share an area."""
        return self.left < other.right and other.left < self.right and self.start < other.end and other.start < self.end

    def contains(self, other: Box) -> bool:
        """Whether the other lies inside this one."""
        return (
            self.left <= other.left
            and self.start <= other.start
            and self.right >= other.right
            and self.end >= other.end
        )

    def widened(self, sm_count: int) -> Box:
        """The same time on all SMs."""
        return self._replace(left=0, right=sm_count)

    @property
    def area(self) -> int:
        """SMs x billionths."""
        return (self.right - self.left) * (self.end - self.start)


class Piece(NamedTuple):
    """A demand in grid units; left is set where its SM range is pinned.

    group: pieces of different groups share no time, whatever their SMs.
    """

    name: str
    width: int
    height: int
    left: int | None = None
    preferred: Box | None = None
    group: str = ""

    def at(self, left: int, start: int) -> Box:
        """The piece's box at a position."""
        return Box(left, start, left + self.width, start + self.height)


def piece_of(device: Device, demand: Demand) -> Piece:
    """Put a demand on a device's grid; its quota is rounded down by less than a billionth of a window.

    Raises `InvalidValue` if it is off the grid or larger than the device in memory, `NoPlacement` if pinned outside.
    """
    device.check(Share(demand.sm, demand.quota, demand.quota, demand.mem_bytes))
    width = round(demand.sm / device.sm_step)
    height = max(1, int(demand.quota * WINDOW + _ROUNDING))
    left = None if demand.sm_offset is None else round(demand.sm_offset / device.sm_step)
    if left is not None and not 0 <= left <= device.sm_steps - width:
        raise NoPlacement(
            f"{demand.instance_id} would leave device {device.id}: "
            f"{demand.sm:g}% of its SMs from {demand.sm_offset:g}% on end beyond 100%"
        )
    preferred = _preferred_box(device, demand, width, height)
    return Piece(demand.instance_id, width, height, left, preferred, demand.group if device.takes_turns else "")


class Fixed(NamedTuple):
    """A box that is taken, who has it, and of which group."""

    name: str
    box: Box
    group: str = ""

    def seen_by(self, group: str, sm_count: int) -> Box:
        """What it takes from pieces of a group: of another's, its time on all SMs."""
        return self.box if group == self.group else self.box.widened(sm_count)


def _preferred_box(device: Device, demand: Demand, width: int, height: int) -> Box | None:
    if demand.preferred is None:
        return None
    left = round(demand.preferred.sm_offset / device.sm_step)
    start = round(demand.preferred.quota_offset * WINDOW)
    return Box(left, start, left + width, start + height)


def box_of(device: Device, rect: Rect) -> Box:
    """Put a rect on a device's grid, its edges rounded to nearest."""
    return Box(
        round(rect.sm_offset / device.sm_step),
        round(rect.quota_offset * WINDOW),
        round(rect.sm_end / device.sm_step),
        round(rect.quota_end * WINDOW),
    )


def rect_of(device: Device, box: Box) -> Rect:
    """The rect of a box, in percent and fractions."""
    return Rect(
        box.left * 100 / device.sm_steps,
        box.start / WINDOW,
        (box.right - box.left) * 100 / device.sm_steps,
        (box.end - box.start) / WINDOW,
    )
