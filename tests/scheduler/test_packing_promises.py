"""S1 and S2 for one device: rects never overlap or leave it, and what fits is found."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from fastgshare.domain.devices import Device
from fastgshare.domain.errors import NoPlacement
from fastgshare.domain.rects import Placement, Rect
from fastgshare.domain.shares import Share
from fastgshare.scheduler.packing import Demand, free_area, free_rects, pack, pack_beside, pack_what_fits
from fastgshare.testing import strategies
from fastgshare.testing.strategies import ABSTRACT, MILLE, cut_rects

NODES = 2000


def overlapping(placements: Sequence[Placement]) -> list[tuple[Placement, Placement]]:
    return [(a, b) for a, b in itertools.combinations(placements, 2) if a.rect.overlaps(b.rect)]


def inside(rect: Rect) -> bool:
    return min(rect.sm_offset, rect.quota_offset) >= 0 and rect.sm_end <= 100 + 1e-9 and rect.quota_end <= 1 + 1e-12


def serves(rect: Rect, demand: Demand) -> bool:
    pinned = demand.sm_offset is None or abs(rect.sm_offset - demand.sm_offset) < 1e-9
    return pinned and abs(rect.sm - demand.sm) < 1e-9 and abs(rect.quota - demand.quota) < 2e-9


def running(rects: Sequence[Rect]) -> list[Demand]:
    return [Demand.running(f"r-{i}", Share(r.sm, r.quota, 1.0), r) for i, r in enumerate(rects)]


def placed(device: Device, rects: Sequence[Rect]) -> list[Placement]:
    return [Placement(f"r-{i}", device.id, r) for i, r in enumerate(rects)]


@st.composite
def devices_and_demands(draw: st.DrawFn) -> tuple[Device, list[Demand]]:
    device = draw(strategies.devices())
    return device, draw(strategies.demands(device))


@st.composite
def devices_and_kept_pieces(draw: st.DrawFn) -> tuple[Device, list[Rect], list[Rect]]:
    """A device cut into rects, some of which stay while the others are taken off."""
    device = draw(strategies.devices())
    rects = draw(cut_rects(device))
    kept = draw(st.lists(st.booleans(), min_size=len(rects), max_size=len(rects)))
    return (
        device,
        [r for r, k in zip(rects, kept, strict=True) if k],
        [r for r, k in zip(rects, kept, strict=True) if not k],
    )


@given(devices_and_demands())
def test_rects_never_overlap_or_leave_their_device_and_pinned_ones_stay(case: tuple[Device, list[Demand]]) -> None:
    device, demands = case
    try:
        packing = pack(device, demands, max_nodes=NODES)
    except NoPlacement:
        return
    assert [p.instance_id for p in packing.placements] == [d.instance_id for d in demands]
    assert not overlapping(packing.placements)
    for placement, demand in zip(packing.placements, demands, strict=True):
        assert inside(placement.rect)
        assert serves(placement.rect, demand)
        assert placement.device_id == device.id


@given(strategies.devices().flatmap(lambda device: st.tuples(st.just(device), cut_rects(device))))
def test_a_device_cut_into_up_to_eight_pieces_is_always_packed_again(case: tuple[Device, list[Rect]]) -> None:
    device, rects = case
    packing = pack(device, [Demand(f"i-{i}", r.sm, r.quota) for i, r in enumerate(rects)])
    assert not overlapping(packing.placements)
    assert packing.certificate.free_area < 1e-9
    assert packing.certificate.proven


@given(st.integers(1, 40))
def test_a_window_is_full_of_equal_parts_whatever_their_number(parts: int) -> None:
    demands = [Demand(f"i-{i}", 100.0, 1 / parts) for i in range(parts)]
    assert len(pack(ABSTRACT, demands).placements) == parts


@given(devices_and_kept_pieces())
def test_newcomers_never_move_the_sms_of_who_runs(case: tuple[Device, list[Rect], list[Rect]]) -> None:
    device, stay, leave = case
    newcomers = [Demand(f"n-{i}", r.sm, r.quota) for i, r in enumerate(leave)]
    before = running(stay)
    try:
        packing = pack_beside(device, newcomers, before, max_nodes=NODES)
    except NoPlacement:
        return
    assert not overlapping(packing.placements)
    for demand in [*before, *newcomers]:
        assert serves(packing.rect_of(demand.instance_id), demand)


@given(devices_and_kept_pieces())
def test_who_runs_keeps_its_rect_where_one_newcomer_fits_beside(case: tuple[Device, list[Rect], list[Rect]]) -> None:
    device, stay, leave = case
    for rect in leave:
        packing = pack_beside(device, [Demand("n", rect.sm, rect.quota)], running(stay))
        for demand in running(stay):
            assert demand.preferred is not None
            kept = packing.rect_of(demand.instance_id)
            assert abs(kept.quota_offset - demand.preferred.quota_offset) < 2e-9


@given(devices_and_kept_pieces())
def test_placing_and_removing_restores_what_was_free(case: tuple[Device, list[Rect], list[Rect]]) -> None:
    device, stay, leave = case
    before = placed(device, stay)
    newcomers = [Demand(f"n-{i}", r.sm, r.quota) for i, r in enumerate(leave)]
    placements, unplaced = pack_what_fits(device, newcomers, before)
    after = [*before, *placements]
    assert not overlapping(after)
    assert len(placements) + len(unplaced) == len(newcomers)
    left = [p for p in after if not p.instance_id.startswith("n-")]
    assert free_rects(device, left) == free_rects(device, before)
    taken = sum(p.rect.sm / 100 * p.rect.quota for p in after)
    assert abs(free_area(device, after) - (1 - taken)) < 1e-6


@given(devices_and_demands())
@settings(max_examples=50)
def test_what_fits_is_placed_and_the_rest_is_named(case: tuple[Device, list[Demand]]) -> None:
    device, demands = case
    placements, unplaced = pack_what_fits(device, demands, max_nodes=200)
    assert not overlapping(placements)
    assert sorted([*unplaced, *(p.instance_id for p in placements)]) == sorted(d.instance_id for d in demands)
    if demands and demands[0].sm_offset is None:
        assert placements[0].instance_id == demands[0].instance_id


@given(st.integers(2, 4), st.integers(2, 5), st.data())
def test_the_exact_search_agrees_with_trying_every_cell(cores: int, ticks: int, data: st.DataObject) -> None:
    """Cells of 1 core x 1/ticks; small enough to try all positions."""
    device = strategies.cpu(cores)
    sizes = data.draw(st.lists(st.tuples(st.integers(1, cores), st.integers(1, ticks)), min_size=1, max_size=6))
    demands = [Demand(f"i-{i}", w * 100 / cores, h * MILLE // ticks / MILLE) for i, (w, h) in enumerate(sizes)]
    try:
        pack(device, demands, max_nodes=1_000_000)
    except NoPlacement:
        assert not tiles(cores, ticks, sizes)
    else:
        assert tiles(cores, ticks, sizes)


def tiles(
    cores: int, ticks: int, sizes: Sequence[tuple[int, int]], taken: frozenset[tuple[int, int]] = frozenset()
) -> bool:
    """Whether pieces fit into a grid of cells, by trying every position of each."""
    if not sizes:
        return True
    (width, height), *rest = sizes
    for left in range(cores - width + 1):
        for start in range(ticks - height + 1):
            cells = frozenset(itertools.product(range(left, left + width), range(start, start + height)))
            if not cells & taken and tiles(cores, ticks, rest, taken | cells):
                return True
    return False
