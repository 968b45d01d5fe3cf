"""Reasons: why a set of instances has no place on a device, in words, and what is free on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from fastgshare.domain.devices import Device
from fastgshare.domain.errors import FastGShareError, NoPlacement
from fastgshare.domain.rects import Placement, Rect
from fastgshare.scheduler.packing.corners import free_boxes, place_in_corners
from fastgshare.scheduler.packing.demands import Demand
from fastgshare.scheduler.packing.grids import WINDOW, Box, Fixed, Piece, box_of, piece_of, rect_of

_NAMED = 6


def free_rects(device: Device, placements: Sequence[Placement]) -> tuple[Rect, ...]:
    """All maximal free rects of a device, largest first."""
    boxes = free_boxes(device.sm_steps, [box_of(device, p.rect) for p in placements])
    return tuple(rect_of(device, b) for b in sorted(boxes, key=lambda b: (-b.area, b)))


def free_area(device: Device, placements: Sequence[Placement]) -> float:
    """Fraction of SMs x window that no placement covers."""
    taken = sum(box_of(device, p.rect).area for p in placements)
    return 1 - taken / (device.sm_steps * WINDOW)


def fixed_on(device: Device, placements: Sequence[Placement], groups: Mapping[str, str]) -> list[Fixed]:
    """Placements in grid units, with their trust groups by instance id where these matter."""
    return [
        Fixed(p.instance_id, box_of(device, p.rect), groups.get(p.instance_id, "") if device.takes_turns else "")
        for p in placements
    ]


def why(
    device: Device, demand: Demand, placements: Sequence[Placement], groups: Mapping[str, str] = MappingProxyType({})
) -> str:
    """In words: where an instance lies on a device, where it would, or why it is not there.

    groups: trust groups of those that are placed, by instance id.
    """
    here = [p.rect for p in placements if p.instance_id == demand.instance_id]
    if here:
        return f"{demand.instance_id} is on {device.id}: {_range(here[0])}"
    try:
        piece = piece_of(device, demand)
    except FastGShareError as error:
        return str(error)
    taken = fixed_on(device, placements, groups)
    boxes = place_in_corners(device.sm_steps, [piece], taken)
    if boxes:
        return f"{demand.instance_id} would fit on {device.id}: {_range(rect_of(device, boxes[0]))}"
    free = free_boxes(device.sm_steps, [f.seen_by(piece.group, device.sm_steps) for f in taken])
    rects = [rect_of(device, box) for box in sorted(free, key=lambda b: (-b.area, b))]
    largest = f"the largest free rect is {_size(rects[0])}" if rects else "nothing is free"
    others = sorted({f.group for f in taken} - {piece.group})
    turns = f" beside the trust groups {', '.join(others)}, which it takes turns with" if others else ""
    return f"{demand.instance_id} needs {demand.sm:g}% SM x quota {demand.quota:g} on {device.id}{turns}; {largest}"


def _range(rect: Rect) -> str:
    return f"SMs {rect.sm_offset:g}-{rect.sm_end:g}%, window {rect.quota_offset:g}-{rect.quota_end:g}"


def _size(rect: Rect) -> str:
    return f"{rect.sm:g}% SM x quota {rect.quota:g}"


class Extent(NamedTuple):
    """A piece or a fixed box seen along one axis: its size, its start there if known, and its size across."""

    name: str
    size: int
    start: int | None
    across: int

    def conflicts(self, other: Extent, whole: int) -> bool:
        """Whether the two cannot lie beside each other within `whole`."""
        if self.start is None and other.start is None:
            return self.size + other.size > whole
        if self.start is None:
            return other.conflicts(self, whole)
        if other.start is None:
            return other.size > self.start and self.start + self.size + other.size > whole
        return self.start < other.start + other.size and other.start < self.start + self.size


def check_area(device: Device, pieces: Sequence[Piece], fixed: Sequence[Box]) -> None:
    """Raise `NoPlacement` if the shares are larger than the device."""
    area = sum(p.width * p.height for p in pieces) + sum(b.area for b in fixed)
    whole = device.sm_steps * WINDOW
    if area > whole:
        raise NoPlacement(
            f"the shares need {_percent(area, whole)} of the SM x window area of device {device.id} "
            f"({' + '.join(named([_share(device, p.name, p.width, p.height) for p in pieces]))}"
            f"{f', beside {_percent(sum(b.area for b in fixed), whole)} that is taken' if fixed else ''}); "
            f"it has 100%"
        )


def check_turns(device: Device, pieces: Sequence[Piece], fixed: Sequence[Fixed]) -> None:
    """Raise `NoPlacement` if trust groups, each as tight as can be, need more than a window one after another."""
    boxes: dict[str, list[tuple[int, int]]] = {}
    for piece in pieces:
        boxes.setdefault(piece.group, []).append((piece.width, piece.height))
    for _, box, group in fixed:
        boxes.setdefault(group, []).append((box.right - box.left, box.end - box.start))
    needs = {group: _least_time(device.sm_steps, sizes) for group, sizes in boxes.items()}
    if len(needs) > 1 and sum(needs.values()) > WINDOW:
        each = ", ".join(f"{group} {time / WINDOW:g}" for group, time in sorted(needs.items()))
        raise NoPlacement(
            f"trust groups take turns on device {device.id}, and at their tightest they need more than a window: {each}"
        )


def _least_time(sm_count: int, sizes: Sequence[tuple[int, int]]) -> int:
    """Less than this no packing of these (width, height) takes."""
    area = sum(width * height for width, height in sizes)
    wide = sum(height for width, height in sizes if 2 * width > sm_count)
    return max(-(-area // sm_count), wide, *(height for _, height in sizes))


def check_conflicts(device: Device, pieces: Sequence[Piece], fixed: Sequence[Fixed]) -> None:
    """Raise `NoPlacement` if some can pairwise not overlap on one axis and are together too long on the other."""
    across = [Extent(p.name, p.width, p.left, p.height) for p in pieces]
    across += [Extent(name, b.right - b.left, b.left, b.end - b.start) for name, b, _ in fixed]
    along = [Extent(p.name, p.height, None, p.width) for p in pieces]
    along += [Extent(name, b.end - b.start, b.start, b.right - b.left) for name, b, _ in fixed]
    group = _too_much(across, device.sm_steps, WINDOW)
    if group:
        raise NoPlacement(
            f"{', '.join(named([_share(device, e.name, e.size, e.across) for e in group]))} cannot run at the same "
            f"time on device {device.id} (no two of them fit into its SMs side by side), "
            f"and their quotas sum to {sum(e.across for e in group) / WINDOW:g} of a window, above 1"
        )
    group = _too_much(along, WINDOW, device.sm_steps)
    if group:
        raise NoPlacement(
            f"{', '.join(named([_share(device, e.name, e.across, e.size) for e in group]))} must run at the same "
            f"time on device {device.id} (no two of their quotas fit into one window), "
            f"and their SMs sum to {sum(e.across for e in group) * 100 / device.sm_steps:g}%, above 100%"
        )


def _too_much(extents: Sequence[Extent], whole: int, whole_across: int) -> list[Extent]:
    """A set that conflicts pairwise along and is too long across, or an empty list if none was found."""
    ordered = sorted(extents, key=lambda e: -e.across)
    for first in ordered:
        group = [first]
        for other in ordered:
            if other is not first and all(other.conflicts(member, whole) for member in group):
                group.append(other)
        if sum(e.across for e in group) > whole_across:
            return sorted(group, key=lambda e: e.name)
    return []


def _share(device: Device, name: str, width: int, height: int) -> str:
    return f"{name} {width * 100 / device.sm_steps:g}% SM x {height / WINDOW:g}"


def named(words: Sequence[str]) -> list[str]:
    """The first few of many words, and how many more there are."""
    more = len(words) - _NAMED
    return list(words) if more <= 0 else [*words[:_NAMED], f"{more} more"]


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.6g}%"
