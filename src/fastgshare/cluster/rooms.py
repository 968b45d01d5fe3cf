"""Rooms: where on a device a program can be, beside those that are there. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from fastgshare.cluster.guests import Guest
from fastgshare.domain.devices import Device
from fastgshare.domain.errors import NoPlacement
from fastgshare.domain.rects import Placement, Rect
from fastgshare.domain.shares import Share
from fastgshare.scheduler.packing import Demand, pack_beside, why


def find_room(
    device: Device, guests: Sequence[Guest], name: str, share: Share, group: str, rect: Rect | None = None
) -> dict[str, Rect]:
    """The rect of a program beside others, and new rects of those that have to move for it: never to other SMs.

    group: its trust group. rect: where the program is already; it keeps its SMs then.
    Raises `NoPlacement` with the reason and who is there, `InvalidValue` for a share that the device does not have.
    """
    demand = Demand.new(name, share, group=group) if rect is None else Demand.running(name, share, rect, group=group)
    others = [guest for guest in guests if guest.name != name]
    running = [Demand.running(guest.name, guest.share, guest.rect, group=guest.group) for guest in others]
    try:
        packing = pack_beside(device, [demand], running)
    except NoPlacement as error:
        raise NoPlacement(f"no room for {name}: {_reason(device, demand, others, error)}") from None
    before = {guest.name: guest.rect for guest in others}
    return {p.instance_id: p.rect for p in packing.placements if p.rect != before.get(p.instance_id)}


def _reason(device: Device, demand: Demand, others: Sequence[Guest], error: NoPlacement) -> str:
    there = [Placement(guest.name, device.id, guest.rect) for guest in others]
    place = why(device, demand, there, {guest.name: guest.group for guest in others})
    reasons = [str(error)]
    if "would fit" not in place:  # where memory is missing, it would
        reasons.append(place)
    if others:
        reasons.append(f"there are {', '.join(map(_described, others))}")
    return "; ".join(reasons)


def _described(guest: Guest) -> str:
    memory = f", {guest.share.mem_bytes} bytes" if guest.share.mem_bytes else ""
    return (
        f"{guest.name} (process {guest.pid}: {guest.share.sm_partition:g}% SM x {guest.share.quota_request:g}{memory})"
    )
