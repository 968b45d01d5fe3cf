"""Packs: from demands to placements, by rules, heuristics and an exact search, in this order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from fastgshare.domain.devices import Device
from fastgshare.domain.errors import InvalidValue, NoPlacement
from fastgshare.domain.rects import Placement
from fastgshare.scheduler.packing.certificates import Certificate
from fastgshare.scheduler.packing.corners import place_in_corners
from fastgshare.scheduler.packing.demands import Demand, Packing
from fastgshare.scheduler.packing.grids import WINDOW, Box, Fixed, Piece, box_of, piece_of, rect_of
from fastgshare.scheduler.packing.reasons import check_area, check_conflicts, check_turns, fixed_on, named
from fastgshare.scheduler.packing.sweeps import GaveUp, Sweep

MAX_NODES: Final = 20_000
"""Nodes of one exact search unless told otherwise: a fifth to half a second."""

NO_GROUPS: Final[Mapping[str, str]] = MappingProxyType({})
_EXACT_UP_TO: Final = 96  # the search is recursive, six frames an instance


def pack(
    device: Device,
    demands: Sequence[Demand],
    fixed: Sequence[Placement] = (),
    *,
    window_s: float = 0.0,
    mem_taken_bytes: int = 0,
    groups: Mapping[str, str] = NO_GROUPS,
    max_nodes: int = MAX_NODES,
) -> Packing:
    """Place demands on one device beside fixed placements, each on a rect of its own.

    mem_taken_bytes: memory that the fixed ones may use. groups: their trust groups by instance id. window_s: the
    window, for the certificate.

    Raises `InvalidValue` for a share that the device does not have, `NoPlacement` with the reason otherwise: the
    rule that is broken, or that the exact search proved that there is none, or that it gave up.
    """
    pieces = [piece_of(device, d) for d in demands]
    _check_memory(device, demands, mem_taken_bytes)
    taken = fixed_on(device, fixed, groups)
    boxes = _boxes(device, pieces, taken, max_nodes)
    placed = [Placement(d.instance_id, device.id, rect_of(device, b)) for d, b in zip(demands, boxes, strict=True)]
    certificate = _certify(device, [*boxes, *(f.box for f in taken)], demands, window_s)
    return Packing((*fixed, *placed), certificate)


def pack_beside(
    device: Device,
    newcomers: Sequence[Demand],
    running: Sequence[Demand],
    fixed: Sequence[Placement] = (),
    *,
    window_s: float = 0.0,
    mem_taken_bytes: int = 0,
    groups: Mapping[str, str] = NO_GROUPS,
    max_nodes: int = MAX_NODES,
) -> Packing:
    """Place newcomers beside running instances (`Demand.running`), which are disturbed as little as possible.

    First every running one stays where it is; else they keep their SMs and their slots may move. The packing holds
    the fixed, then the running, then the new ones. Raises as `pack` does, and says if restarting the running ones on
    other SMs would help.
    """
    _check_memory(device, [*newcomers, *running], mem_taken_bytes)
    still = [_where_it_runs(device, d) for d in running]
    groups_of_all = {**groups, **{d.instance_id: d.group for d in running}}
    try:
        calm = pack(device, newcomers, [*fixed, *still], groups=groups_of_all, max_nodes=max_nodes)
        boxes = [box_of(device, p.rect) for p in calm.placements]
        return replace(calm, certificate=_certify(device, boxes, [*running, *newcomers], window_s))
    except NoPlacement:
        if not running:
            raise
    everyone = [*running, *newcomers]
    try:
        return pack(device, everyone, fixed, window_s=window_s, groups=groups, max_nodes=max_nodes)
    except NoPlacement as error:
        loose = [replace(d, sm_offset=None, preferred=None) for d in running] + list(newcomers)
        pack(device, loose, fixed, groups=groups, max_nodes=max_nodes)
        raise NoPlacement(
            f"{error}; if all instances on device {device.id} were restarted, on other SMs, there would be room"
        ) from None


def pack_what_fits(
    device: Device, demands: Sequence[Demand], fixed: Sequence[Placement] = (), *, max_nodes: int = MAX_NODES // 10
) -> tuple[tuple[Placement, ...], tuple[str, ...]]:
    """Place as many as fit, taken in order, beside fixed placements; the ids of the others come second.

    Raises `InvalidValue` for a share that the device does not have.
    """
    packed: tuple[Placement, ...] = ()
    chosen: list[Demand] = []
    unplaced: list[str] = []
    for demand in demands:
        try:
            packing = pack(device, [*chosen, demand], fixed, max_nodes=max_nodes)
        except NoPlacement:
            unplaced.append(demand.instance_id)
        else:
            chosen.append(demand)
            packed = packing.placements[len(fixed) :]
    return packed, tuple(unplaced)


def _where_it_runs(device: Device, demand: Demand) -> Placement:
    box = piece_of(device, demand).preferred
    if box is None:
        raise InvalidValue(f"preferred rect of {demand.instance_id}", None, "the rect on which it runs")
    return Placement(demand.instance_id, device.id, rect_of(device, box))


def _boxes(device: Device, pieces: Sequence[Piece], taken: Sequence[Fixed], max_nodes: int) -> Sequence[Box]:
    fixed = [f.box for f in taken]
    check_area(device, pieces, fixed)
    boxes = place_in_corners(device.sm_steps, pieces, taken)
    if boxes is not None:
        return boxes
    check_conflicts(device, pieces, taken)
    check_turns(device, pieces, taken)
    names = ", ".join(named([p.name for p in pieces]))
    if len({p.group for p in pieces} | {f.group for f in taken}) > 1:
        raise NoPlacement(
            f"no place found for {names} on device {device.id}, where trust groups take turns; no proof is tried for "
            "several groups"
        )
    if len(pieces) + len(fixed) > _EXACT_UP_TO:
        raise NoPlacement(
            f"no place found for {names} on device {device.id}; beyond {_EXACT_UP_TO} instances no proof is tried"
        )
    sweep = Sweep(device.sm_steps, pieces, fixed, max_nodes)
    try:
        boxes = sweep.solve()
    except GaveUp:
        raise NoPlacement(
            f"no place found for {names} on device {device.id}; the exact search gave up after {max_nodes} nodes"
        ) from None
    if boxes is None:
        raise NoPlacement(
            f"{names} have no place on device {device.id}: the exact search proved it ({sweep.nodes} nodes), "
            f"though no single rule forbids it"
        )
    return boxes


def _check_memory(device: Device, demands: Sequence[Demand], taken_bytes: int) -> None:
    total = taken_bytes + sum(d.mem_bytes for d in demands)
    if device.mem_bytes and total > device.mem_bytes:
        raise NoPlacement(
            f"the instances may use {total} bytes of memory together "
            f"({taken_bytes} of them taken); device {device.id} has {device.mem_bytes}"
        )


def _certify(device: Device, boxes: Sequence[Box], demands: Sequence[Demand], window_s: float) -> Certificate:
    whole = device.sm_steps * WINDOW
    area = sum(b.area for b in boxes)
    wide = sum(b.end - b.start for b in boxes if 2 * (b.right - b.left) > device.sm_steps)
    bursts_s = {d.instance_id: d.burst_s for d in demands if d.burst_s}
    return Certificate(-(-area // whole), -(-wide // WINDOW), 1 - area / whole, MappingProxyType(bursts_s), window_s)
