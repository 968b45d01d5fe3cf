"""Trust groups on a device that takes turns: never two at once, and everybody receives its request all the same."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.errors import NoPlacement
from fastgshare.domain.rects import Rect
from fastgshare.domain.shares import Share
from fastgshare.manager.fits import Place, check_fits
from fastgshare.manager.groups import Groups
from fastgshare.manager.tokens import Entry, plan_loans
from fastgshare.testing.strategies import banded_rects
from fastgshare.testing.virtual import VirtualDevice, VirtualInstance, peak_sm

GPU = Device("gpu", DeviceKind.STANDIN, 132)
CPU = Device("cpu", DeviceKind.CPU, 4)
SECONDS = 2.0
WINDOW_NS = 40_000_000


def _never_two_groups_at_once(instances: list[VirtualInstance]) -> bool:
    holds = sorted((start, end, i.seat.group) for i in instances for start, end, _, _ in i.holds)
    for index, (_, end, group) in enumerate(holds):
        for start2, _, group2 in holds[index + 1 :]:
            if start2 >= end:
                break
            if group2 != group:
                return False
    return True


def _device(
    placed: list[tuple[str, Rect]], limit: float, *, idle: float = 0.0, burst_s: float = 0.0, seed: int = 0
) -> VirtualDevice:
    """Instances on their rects. idle: for what part of the time each has no work, in spells of some windows."""
    device = VirtualDevice(0.04, device=GPU)
    for number, (group, rect) in enumerate(placed):
        rng = random.Random(seed * 100 + number)
        spells = [rng.random() < idle for _ in range(64)]
        share = Share(rect.sm, rect.quota, max(rect.quota, limit))

        def works(now_ns: int, spells: list[bool] = spells) -> bool:
            return not spells[now_ns // (3 * WINDOW_NS) % len(spells)]

        device.add(share, rect, group=group, burst_s=burst_s, work=works)
    return device


@settings(max_examples=25)
@given(banded_rects())
def test_backlogged_instances_of_two_groups_receive_their_request(placed: list[tuple[str, Rect]]) -> None:
    device = _device(placed, 0.0)
    device.run(0.08)
    start_ns = device.now_ns
    device.run(SECONDS)
    for instance in device.instances:
        held = instance.held(start_ns, device.now_ns) / (device.now_ns - start_ns)
        assert abs(held - instance.seat.share.quota_request) <= 0.01
    assert _never_two_groups_at_once(device.instances)
    assert peak_sm(device.instances) <= 100_000


@settings(max_examples=25)
@given(banded_rects(), st.sampled_from([0.0, 0.003]), st.integers(0, 1000))
def test_loans_and_overruns_keep_the_groups_apart(placed: list[tuple[str, Rect]], burst_s: float, seed: int) -> None:
    """Bursts may overrun their slot: then it is the claim of the next that has to wait, on whatever SMs."""
    device = _device(placed, 1.0, idle=0.5, burst_s=burst_s, seed=seed)
    device.run(SECONDS)
    assert _never_two_groups_at_once(device.instances)
    assert peak_sm(device.instances) <= 100_000


def test_the_idle_time_of_a_group_is_lent_to_another() -> None:
    """M4 holds across groups."""
    device = VirtualDevice(0.04, device=GPU)
    device.add(Share(30, 0.5, 1.0), Rect(0, 0, 30, 0.5), group="a")
    device.add(Share(30, 0.5, 1.0), Rect(30, 0.5, 30, 0.5), group="b", work=lambda _: False)
    device.run(1.0)
    assert device.instances[0].held(0, device.now_ns) >= 0.95 * 1e9


def test_a_loan_names_owners_of_other_groups_on_other_sms() -> None:
    borrower = Entry(0, 0, 30_000, 0, 10_000_000, WINDOW_NS, 0, True, 0)
    owner = Entry(1, 50_000, 30_000, 20_000_000, WINDOW_NS, WINDOW_NS, 0, False, 1)
    loans, _ = plan_loans([borrower, owner], WINDOW_NS, pinned=False)
    assert any(loan.lenders == 0b10 for loan in loans[0])
    friend = Entry(1, 50_000, 30_000, 20_000_000, WINDOW_NS, WINDOW_NS, 0, False, 0)
    loans, _ = plan_loans([borrower, friend], WINDOW_NS, pinned=False)
    assert all(loan.lenders == 0 for loan in loans[0])


def test_cells_of_which_nothing_is_known_are_strangers() -> None:
    groups = Groups(GPU)
    groups.enter(0, "a")
    groups.enter(1, "b")
    assert groups.strangers("a", 0b111) == 0b110
    assert groups.strangers("b", 0b011) == 0b001
    assert Groups(CPU).strangers("a", 0b111) == 0


def test_slots_of_two_groups_may_not_share_a_time_on_a_gpu() -> None:
    there = {"one": Place(Share(30, 0.5, 1), Rect(0, 0, 30, 0.5), "a")}
    wanted = {"two": Place(Share(30, 0.5, 1), Rect(30, 0.25, 30, 0.5), "b")}
    with pytest.raises(NoPlacement, match="one, which is of another trust group"):
        check_fits(GPU, wanted, there)
    check_fits(GPU, {"two": Place(Share(30, 0.5, 1), Rect(30, 0.5, 30, 0.5), "b")}, there)
    check_fits(GPU, {"two": Place(Share(30, 0.5, 1), Rect(30, 0.25, 30, 0.5), "a")}, there)
    half = {"one": Place(Share(25, 0.5, 1), Rect(0, 0, 25, 0.5), "a")}
    check_fits(CPU, {"two": Place(Share(25, 0.5, 1), Rect(25, 0.25, 25, 0.5), "b")}, half)
