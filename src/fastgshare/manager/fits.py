"""Fits: whether shares can be on a device beside each other. Pure; the daemon's own check of what it is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fastgshare.domain.devices import Device
from fastgshare.domain.errors import NoPlacement
from fastgshare.domain.rects import Rect
from fastgshare.domain.shares import Share


@dataclass(frozen=True, slots=True)
class Place:
    """What an instance has of a device, or asks for. rect None: no slot of its own. group: its trust group."""

    share: Share
    rect: Rect | None
    group: str = ""


def check_fits(device: Device, wanted: Mapping[str, Place], others: Mapping[str, Place]) -> None:
    """Raise `NoPlacement` unless rects and memory caps that are wanted fit beside each other and beside the others'.

    `InvalidValue` for a share that the device could not have at all.
    """
    for name, place in wanted.items():
        device.check(place.share)
        rivals = {**others, **{other: theirs for other, theirs in wanted.items() if other != name}}
        if place.rect is not None:
            _check_rect(device, name, place.rect, place.group, rivals)
        _check_memory(device, name, place.share.mem_bytes, rivals.values())


def _check_rect(device: Device, name: str, rect: Rect, group: str, rivals: Mapping[str, Place]) -> None:
    taken = [other for other, theirs in rivals.items() if theirs.rect and rect.overlaps(theirs.rect)]
    if taken:
        raise NoPlacement(f"the rect of {name} overlaps that of {', '.join(sorted(taken))}")
    strangers = {other: theirs.rect for other, theirs in rivals.items() if theirs.rect and theirs.group != group}
    taken = [other for other, theirs in strangers.items() if rect.coincides(theirs)]
    if taken and device.takes_turns:
        raise NoPlacement(
            f"the slot of {name} overlaps that of {', '.join(sorted(taken))}, which is of another trust group: "
            f"on device {device.id} they can only take turns"
        )


def _check_memory(device: Device, name: str, mem_bytes: int, rivals: Iterable[Place]) -> None:
    total = mem_bytes + sum(theirs.share.mem_bytes for theirs in rivals)
    if device.mem_bytes and total > device.mem_bytes:
        raise NoPlacement(
            f"with {name} the memory caps on device {device.id} sum to {total} bytes of {device.mem_bytes}"
        )
