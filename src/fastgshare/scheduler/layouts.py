"""Layouts: all devices, who lies where on them, and placing more."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from fastgshare.domain.devices import Device
from fastgshare.domain.errors import FastGShareError, InvalidValue, NoPlacement
from fastgshare.domain.functions import Function
from fastgshare.domain.rects import Placement, Rect
from fastgshare.domain.shares import Share
from fastgshare.scheduler.packing import Demand, Packing, pack_beside

Check = Callable[[Device, Function], None]
"""Raises `InvalidValue` for a function that cannot be on a device, whoever else is there."""

_SLOT_TOLERANCE = 2e-9  # a grid's rounding, in windows


def check_share(device: Device, function: Function) -> None:
    """A `Check`: whether the device has such shares."""
    device.check(function.share)


@dataclass(frozen=True, slots=True)
class Occupant:
    """An instance on a device. movable: whether its slot may be moved now. group: its trust group, "" if unknown."""

    placement: Placement
    share: Share
    movable: bool
    group: str = ""

    @property
    def demand(self) -> Demand:
        """What it needs, its SMs pinned."""
        return Demand.running(self.placement.instance_id, self.share, self.placement.rect, group=self.group)


class Layout:
    """Who lies where. `moved` has the occupants whose slots must change for what was placed since."""

    def __init__(
        self,
        devices: Sequence[Device],
        occupants: Mapping[str, Occupant],
        max_nodes: int,
        check: Check = check_share,
    ) -> None:
        self._devices = devices
        self._check = check
        self._max_nodes = max_nodes
        self.occupants = dict(occupants)
        self.moved: dict[str, Occupant] = {}

    def place(self, newcomers: Mapping[str, Function]) -> dict[str, str]:
        """Place as many as fit, all together or else in their order, on one device after another.

        By id, why the others have no place: what every device says.
        """
        reasons: dict[str, list[str]] = {id: [] for id in newcomers}
        for device in self._devices:
            left = {id: newcomers[id] for id in reasons}
            for id, reason in self._place_on(device, left).items():
                reasons[id].append(reason)
            reasons = {id: said for id, said in reasons.items() if id not in self.occupants}
        return {id: "; ".join(dict.fromkeys(said)) or "there is no device" for id, said in reasons.items()}

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

    def _place_on(self, device: Device, newcomers: Mapping[str, Function]) -> dict[str, str]:
        reasons = {id: reason for id, new in newcomers.items() if (reason := _misfit(device, new, self._check))}
        fitting = {id: new for id, new in newcomers.items() if id not in reasons}
        demands = [Demand.new(id, new.share, group=new.trust_group) for id, new in fitting.items()]
        packing, refused = self._pack_all_or_some(device, demands)
        if packing is not None:
            for id in [id for id in fitting if id not in refused]:
                placement, new = Placement(id, device.id, packing.rect_of(id)), newcomers[id]
                self.occupants[id] = Occupant(placement, new.share, movable=False, group=new.trust_group)
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
            groups={o.placement.instance_id: o.group for o in still},
            max_nodes=self._max_nodes,
        )

    def _take(self, packing: Packing) -> None:
        for placement in packing.placements:
            old = self.occupants[placement.instance_id]
            if old.movable and not _same_slot(old.placement.rect, placement.rect):
                new = replace(old, placement=placement)
                self.occupants[placement.instance_id] = self.moved[placement.instance_id] = new


def check_fits_some(devices: Sequence[Device], function: Function, check: Check = check_share) -> None:
    """Raise `InvalidValue` if a function can be on no device at all, for the reason that the first one gives."""
    if all(_misfit(device, function, check) for device in devices):
        for device in devices:
            check(device, function)


def _misfit(device: Device, function: Function, check: Check) -> str:
    try:
        device.check(function.share)
        check(device, function)
    except InvalidValue as error:
        return str(error)
    return ""


def _same_slot(one: Rect, other: Rect) -> bool:
    return (
        abs(one.quota_offset - other.quota_offset) < _SLOT_TOLERANCE and abs(one.quota - other.quota) < _SLOT_TOLERANCE
    )
