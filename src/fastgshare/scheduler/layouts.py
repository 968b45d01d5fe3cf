"""Layouts: all devices, who lies where on them, and placing more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from fastgshare.domain.devices import Device
from fastgshare.domain.errors import FastGShareError, InvalidValue, NoPlacement
from fastgshare.domain.rects import Placement, Rect
from fastgshare.domain.shares import Share
from fastgshare.scheduler.packing import Demand, Packing, pack_beside

_SLOT_TOLERANCE = 2e-9  # a grid's rounding, in windows


@dataclass(frozen=True, slots=True)
class Occupant:
    """An instance on a device. movable: whether its slot may be moved now."""

    placement: Placement
    share: Share
    movable: bool

    @property
    def demand(self) -> Demand:
        """What it needs, its SMs pinned."""
        return Demand.running(self.placement.instance_id, self.share, self.placement.rect)


class Layout:
    """Who lies where. `moved` has the occupants whose slots must change for what was placed since."""

    def __init__(self, devices: Sequence[Device], occupants: Mapping[str, Occupant], max_nodes: int) -> None:
        self._devices = devices
        self._max_nodes = max_nodes
        self.occupants = dict(occupants)
        self.moved: dict[str, Occupant] = {}

    def place(self, newcomers: Mapping[str, Share]) -> dict[str, str]:
        """Place as many as fit, all together or else in their order; by id, why the others have no place."""
        reasons = dict.fromkeys(newcomers, "there is no device")
        for device in self._devices:
            left = {id: share for id, share in newcomers.items() if id in reasons}
            reasons = reasons | self._place_on(device, left)
            reasons = {id: reason for id, reason in reasons.items() if id not in self.occupants}
        return reasons

    def resize(self, shares: Mapping[str, Share]) -> str:
        """Give movable occupants of one device other quotas, all of them or none; why not, or ""."""
        changed = {id: replace(self.occupants[id], share=share) for id, share in shares.items()}
        device = next(d for d in self._devices if d.id == next(iter(changed.values())).placement.device_id)
        try:
            packing = self._pack(device, [o.demand for o in changed.values()])
        except FastGShareError as error:
            return str(error)
        self.occupants |= changed
        self.moved |= changed
        self._take(packing)
        return ""

    def _place_on(self, device: Device, newcomers: Mapping[str, Share]) -> dict[str, str]:
        reasons = {id: reason for id, share in newcomers.items() if (reason := _misfit(device, share))}
        demands = [Demand.new(id, share) for id, share in newcomers.items() if id not in reasons]
        packing, refused = self._pack_all_or_some(device, demands)
        if packing is not None:
            for id in [d.instance_id for d in demands if d.instance_id not in refused]:
                placement = Placement(id, device.id, packing.rect_of(id))
                self.occupants[id] = Occupant(placement, newcomers[id], movable=False)
            self._take(packing)
        return reasons | refused

    def _pack_all_or_some(self, device: Device, demands: Sequence[Demand]) -> tuple[Packing | None, dict[str, str]]:
        if not demands:
            return None, {}
        try:
            return self._pack(device, demands), {}
        except NoPlacement as error:
            if len(demands) == 1:
                return None, {demands[0].instance_id: str(error)}
        packing, chosen, refused = None, list[Demand](), dict[str, str]()
        for demand in demands:
            try:
                packing = self._pack(device, [*chosen, demand])
                chosen.append(demand)
            except NoPlacement as error:
                refused[demand.instance_id] = str(error)
        return packing, refused

    def _pack(self, device: Device, newcomers: Sequence[Demand]) -> Packing:
        new = {d.instance_id for d in newcomers}
        here = [o for id, o in self.occupants.items() if o.placement.device_id == device.id and id not in new]
        still = [o for o in here if not o.movable]
        return pack_beside(
            device,
            newcomers,
            [o.demand for o in here if o.movable],
            [o.placement for o in still],
            mem_taken_bytes=sum(o.share.mem_bytes for o in still),
            max_nodes=self._max_nodes,
        )

    def _take(self, packing: Packing) -> None:
        for placement in packing.placements:
            old = self.occupants[placement.instance_id]
            if old.movable and not _same_slot(old.placement.rect, placement.rect):
                new = replace(old, placement=placement)
                self.occupants[placement.instance_id] = self.moved[placement.instance_id] = new


def check_fits_some(devices: Sequence[Device], share: Share) -> None:
    """Raise `InvalidValue` if no device has such a share at all, for the reason that the first one gives."""
    if all(_misfit(device, share) for device in devices):
        for device in devices:
            device.check(share)


def _misfit(device: Device, share: Share) -> str:
    try:
        device.check(share)
    except InvalidValue as error:
        return str(error)
    return ""


def _same_slot(one: Rect, other: Rect) -> bool:
    return (
        abs(one.quota_offset - other.quota_offset) < _SLOT_TOLERANCE and abs(one.quota - other.quota) < _SLOT_TOLERANCE
    )
