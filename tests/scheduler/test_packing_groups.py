"""Trust groups in packing: no two slots of different groups share a time on a device that takes turns."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.errors import NoPlacement
from fastgshare.domain.rects import Rect
from fastgshare.domain.shares import Share
from fastgshare.scheduler.packing import Demand, pack, pack_beside, why
from fastgshare.testing import strategies
from fastgshare.testing.strategies import banded_rects

GPU = Device("gpu", DeviceKind.STANDIN, 132, 80 * 2**30)
CPU = Device("cpu", DeviceKind.CPU, 4)


def demand(name: str, sm: float, quota: float, group: str) -> Demand:
    return Demand.new(name, Share(sm, quota, 1.0), group=group)


@st.composite
def grouped(draw: st.DrawFn) -> list[Demand]:
    demands = draw(strategies.demands(GPU))
    return [
        Demand(
            d.instance_id, d.sm, d.quota, d.sm_offset, d.preferred, d.mem_bytes, d.burst_s, draw(st.sampled_from("ab"))
        )
        for d in demands
    ]


@settings(max_examples=60)
@given(grouped())
def test_slots_of_different_groups_share_no_time(demands: list[Demand]) -> None:
    try:
        packing = pack(GPU, demands, max_nodes=500)
    except NoPlacement:
        return
    groups = {d.instance_id: d.group for d in demands}
    for one, other in itertools.combinations(packing.placements, 2):
        assert not one.rect.overlaps(other.rect)
        if groups[one.instance_id] != groups[other.instance_id]:
            assert not one.rect.coincides(other.rect)


@settings(max_examples=40)
@given(banded_rects(GPU))
def test_who_runs_in_two_bands_stays_there(placed: list[tuple[str, Rect]]) -> None:
    rects = {f"r-{i}": rect for i, (_, rect) in enumerate(placed)}
    running = [
        Demand.running(f"r-{i}", Share(rect.sm, rect.quota, 1.0), rect, group=group)
        for i, (group, rect) in enumerate(placed)
    ]
    packing = pack_beside(GPU, [], running)
    for placement in packing.placements:
        assert placement.rect.sm_offset == pytest.approx(rects[placement.instance_id].sm_offset)


def test_groups_come_one_after_the_other() -> None:
    demands = [demand(f"{group}{i}", 25, 0.25, group) for i in range(4) for group in "abcd"]
    packing = pack(GPU, demands)
    starts: dict[str, set[float]] = {}
    for d in demands:
        starts.setdefault(d.group, set()).add(packing.rect_of(d.instance_id).quota_offset)
    assert all(len(found) == 1 for found in starts.values())
    assert len({next(iter(found)) for found in starts.values()}) == 4


def test_the_same_shares_fit_side_by_side_where_groups_are_free() -> None:
    demands = [demand("one", 50, 1.0, "a"), demand("two", 50, 1.0, "b")]
    assert len(pack(CPU, demands).placements) == 2
    with pytest.raises(NoPlacement, match=r"trust groups take turns on device gpu.*a 1, b 1"):
        pack(GPU, demands)


def test_why_names_the_groups_it_takes_turns_with() -> None:
    packing = pack(GPU, [demand("one", 10, 0.8, "a")])
    said = why(GPU, demand("two", 10, 0.5, "b"), packing.placements, {"one": "a"})
    assert "beside the trust groups a" in said and "quota 0.2" in said
    assert "would fit" in why(GPU, demand("two", 10, 0.5, "a"), packing.placements, {"one": "a"})


def test_fixed_placements_of_another_group_are_in_the_way_on_all_sms() -> None:
    fixed = pack(GPU, [demand("one", 10, 0.6, "a")]).placements
    placed = pack(GPU, [demand("two", 10, 0.4, "b")], fixed, groups={"one": "a"})
    assert not placed.rect_of("one").coincides(placed.rect_of("two"))
    with pytest.raises(NoPlacement):
        pack(GPU, [demand("two", 10, 0.5, "b")], fixed, groups={"one": "a"})
