"""Several processes of one instance on one share, in virtual time: together they are as one (M1 to M4, M8, M9)."""

from __future__ import annotations

import ctypes
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgshare.domain.rects import Rect
from fastgshare.domain.shares import Share
from fastgshare.manager import layout
from fastgshare.testing.strategies import cut_rects
from fastgshare.testing.virtual import VirtualDevice, VirtualInstance

WINDOW_S = 0.04
SECONDS = 4.0
BURSTS = st.sampled_from([0.0, 0.0005, 0.002])


def _instances(device: VirtualDevice) -> dict[str, list[VirtualInstance]]:
    found: dict[str, list[VirtualInstance]] = {}
    for process in device.instances:
        found.setdefault(process.seat.instance_id, []).append(process)
    return found


def _run(device: VirtualDevice, seconds: float = SECONDS) -> dict[str, float]:
    """Share of the time that all processes of every instance hold together, once all have found their place."""
    device.run(2 * WINDOW_S)
    start_ns = device.now_ns
    device.run(seconds)
    span_ns = device.now_ns - start_ns
    return {
        name: sum(p.held(start_ns, device.now_ns) for p in processes) / span_ns
        for name, processes in _instances(device).items()
    }


def _assert_disjoint(device: VirtualDevice) -> None:
    """M1: no two ranges of SMs ever overlap, and no two processes of one instance ever hold at once."""
    holds = sorted((*hold, p.seat.instance_id) for p in device.instances for hold in p.holds)
    for index, (_, end, lo, hi, name) in enumerate(holds):
        for start2, _, lo2, hi2, name2 in holds[index + 1 :]:
            if start2 >= end:
                break
            assert (hi <= lo2 or hi2 <= lo) and name != name2


def _fork(device: VirtualDevice, instance: VirtualInstance, times: int) -> None:
    for _ in range(times):
        device.add_member(instance.seat)


@settings(max_examples=40)
@given(cut_rects(max_pieces=6), st.data())
def test_together_they_receive_the_request_and_cost_neighbours_nothing(rects: list[Rect], data: st.DataObject) -> None:
    """M2: of two or three saturated processes the sum is the request, and so is that of every neighbour."""
    device = VirtualDevice(WINDOW_S)
    for rect in rects:
        quota = rect.quota * 0.95
        burst_s = data.draw(BURSTS) if quota * WINDOW_S >= 0.002 else 0.0
        squeezed = Rect(rect.sm_offset, rect.quota_offset * 0.95, rect.sm, quota)
        instance = device.add(Share(rect.sm, quota, quota), squeezed, burst_s=burst_s)
        _fork(device, instance, data.draw(st.integers(0, 2)))
    held = _run(device)
    for name, (first, *_) in _instances(device).items():
        assert abs(held[name] - first.seat.share.quota_request) <= 0.01
    _assert_disjoint(device)


@settings(max_examples=30)
@given(cut_rects(max_pieces=5), st.data())
def test_lending_to_several_processes_keeps_the_limit_of_them_all(rects: list[Rect], data: st.DataObject) -> None:
    """M3: what is lent goes to one process at a time, and counts against the one limit."""
    device = VirtualDevice(WINDOW_S)
    for rect in rects:
        if data.draw(st.booleans()):
            quota = rect.quota * 0.95
            limit = data.draw(st.sampled_from([quota, max(quota, 0.7), 1.0]))
            burst_s = data.draw(BURSTS) if quota * WINDOW_S >= 0.002 else 0.0
            squeezed = Rect(rect.sm_offset, rect.quota_offset * 0.95, rect.sm, quota)
            instance = device.add(Share(rect.sm, quota, limit), squeezed, burst_s=burst_s)
            _fork(device, instance, data.draw(st.integers(0, 2)))
    held = _run(device)
    for name, (first, *_) in _instances(device).items():
        assert first.seat.share.quota_request - 0.01 <= held[name] <= first.seat.share.quota_limit + 0.01
    _assert_disjoint(device)


@settings(max_examples=30)
@given(st.integers(0, 2**32), st.sampled_from([1.0, 0.5]))
def test_processes_that_come_and_go_are_one_instance(seed: int, limit: float) -> None:
    """M2, M3: work that moves from process to process, some of which are killed, takes no more than it may."""
    rng = random.Random(seed)
    device = VirtualDevice(WINDOW_S)
    first = device.add(Share(60, 0.4, 0.4), Rect(0, 0, 60, 0.4), burst_s=0.003)
    neighbour = device.add(Share(100, 0.5, limit), Rect(0, 0.4, 100, 0.5), burst_s=0.001)
    living = [first]
    device.run(2 * WINDOW_S)
    start_ns = device.now_ns
    for _ in range(60):
        if len(living) > 1 and rng.random() < 0.5:
            device.kill(living.pop(rng.randrange(len(living))))
        else:
            period = rng.uniform(0.01, 0.1)
            living.append(device.add_member(first.seat, work=lambda now, p=period: int(now / 1e9 / p) % 3 > 0))  # type: ignore[misc]
        device.run(rng.uniform(0.005, 0.08))
    span_ns = device.now_ns - start_ns
    held = sum(p.held(start_ns, device.now_ns) for p in device.instances if p.seat is first.seat) / span_ns
    assert held <= 0.4 + max(0.01, 0.003 / (span_ns / 1e9))
    assert neighbour.held(start_ns, device.now_ns) / span_ns >= 0.5 - 0.01
    _assert_disjoint(device)


@pytest.mark.parametrize("burst_s", [0.0, 0.002])
@pytest.mark.parametrize("count", [2, 3, 5])
def test_processes_with_work_all_come_to_their_turns(count: int, burst_s: float) -> None:
    device = VirtualDevice(WINDOW_S)
    first = device.add(Share(50, 0.5, 0.8), Rect(0, 0, 50, 0.5), burst_s=burst_s)
    _fork(device, first, count - 1)
    device.add(Share(50, 0.5, 0.5), Rect(50, 0, 50, 0.5))
    held = _run(device)["i0"]
    assert abs(held - 0.8) <= 0.015
    each = [p.held(0, device.now_ns) / device.now_ns for p in device.instances[:count]]
    assert min(each) > 0.5 * max(each)


def test_a_process_that_does_not_take_its_turn_is_not_waited_for() -> None:
    """Stopped in the middle of wanting: the others go on with all of the slot but a little."""
    device = VirtualDevice(WINDOW_S)
    first = device.add(Share(50, 0.5, 0.5), Rect(0, 0, 50, 0.5))
    stopped = device.add_member(first.seat)
    device.run(1)
    while stopped.working:
        device.run(0.001)
    stopped.dead = True  # its page still says that it wants
    start_ns = device.now_ns
    device.run(1)
    assert first.held(start_ns, device.now_ns) / 1e9 > 0.45


def test_their_quota_changes_for_all_within_one_window() -> None:
    """M8."""
    device = VirtualDevice(WINDOW_S)
    first = device.add(Share(50, 0.2, 0.2), Rect(0, 0.1, 50, 0.2), burst_s=0.001)
    _fork(device, first, 2)
    device.run(1)
    device.table.place({"i0": (Share(50, 0.6, 0.6), Rect(0, 0.1, 50, 0.6))}, device.now_ns)
    device.run(WINDOW_S)
    start_ns = device.now_ns
    device.run(1)
    held = sum(p.held(start_ns, device.now_ns) for p in device.instances) / 1e9
    assert abs(held - 0.6) < 0.01


def test_the_ledger_has_one_entry_for_them_all() -> None:
    """M9: received is their sum, entitled counts once, and nothing of one that has ended is lost."""
    device = VirtualDevice(WINDOW_S)
    first = device.add(Share(50, 0.5, 0.5), Rect(0, 0, 50, 0.5), burst_s=0.001)
    second = device.add_member(first.seat)
    device.run(1)
    device.kill(second)
    device.run(1)
    entries = device.books.recent(1000)
    assert len({e.window_index for e in entries}) == len(entries)
    end_ns = round((entries[-1].window_start_s + entries[-1].window_s) * 1e9)
    held_s = sum(p.held(0, end_ns) for p in device.instances) / 1e9
    assert abs(sum(e.received_s for e in entries) - held_s) < 1e-6
    assert all(abs(e.entitled_s - 0.5 * e.window_s) < 1e-9 and e.received_s <= e.window_s for e in entries)
    assert all(e.backlogged for e in entries[2:20])


def test_their_longest_burst_counts_for_the_instance() -> None:
    device = VirtualDevice(WINDOW_S)
    first = device.add(Share(50, 0.5, 0.5), Rect(0, 0, 50, 0.5), burst_s=0.001)
    first.seat.declared = False
    second = device.add_member(first.seat)
    device.report_burst(second, 0.004)
    device.run(0.1)
    assert first.seat.burst_ns == 4_000_000


def test_an_idle_process_does_not_keep_its_instances_slot_from_being_lent() -> None:
    """M4: only if none of its processes has work is an owner idle."""
    device = VirtualDevice(WINDOW_S)
    busy_until_ns = device.now_ns + 1_000_000_000
    owner = device.add(Share(100, 0.6, 0.6), Rect(0, 0, 100, 0.6), work=lambda now: False)
    device.add_member(owner.seat, work=lambda now: now < busy_until_ns)
    borrower = device.add(Share(100, 0.4, 1.0), Rect(0, 0.6, 100, 0.4))
    device.run(0.9)
    assert borrower.held(0, device.now_ns) / 0.9e9 < 0.42
    device.run(0.2)
    start_ns = device.now_ns
    device.run(1)
    assert borrower.held(start_ns, device.now_ns) / 1e9 > 0.99


def test_what_a_process_has_overrun_is_a_debt_of_the_next() -> None:
    """M3: bursts that overrun the slot each time are not forgiven because each is another process's."""
    device = VirtualDevice(WINDOW_S)
    process = device.add(Share(100, 0.2, 0.2), Rect(0, 0, 100, 0.2), burst_s=0.005)
    seat = process.seat
    device.run(2.5 * WINDOW_S)
    start_ns = device.now_ns
    for _ in range(100):
        device.kill(process)
        device.run(0.001)
        process = device.add_member(seat)
        device.run(WINDOW_S - 0.001)
    held = sum(p.held(start_ns, device.now_ns) for p in device.instances)
    assert held / (device.now_ns - start_ns) <= 0.2 + 0.01


@settings(max_examples=20)
@given(st.integers(0, 2**32))
def test_what_a_liar_says_of_its_account_costs_only_its_own_instance(seed: int) -> None:
    """M5: anything may stand in a page; nobody crashes, and a neighbour on the same SMs receives its request."""
    rng = random.Random(seed)
    device = VirtualDevice(WINDOW_S)
    first = device.add(Share(100, 0.4, 0.4), Rect(0, 0, 100, 0.4), burst_s=0.001)
    liar = device.add_member(first.seat, work=lambda _: False)
    neighbour = device.add(Share(100, 0.5, 1.0), Rect(0, 0.45, 100, 0.5))
    page = device.memory.page_addresses[liar.member.index]
    device.run(2 * WINDOW_S)
    start_ns = device.now_ns
    for _ in range(50):
        for at in rng.sample(range(32, layout.PAGE_HEAD.size, 8), 6):  # beyond the word, by which it would hold SMs
            lie = rng.choice([0, 1, device.now_ns, device.now_ns + 10**9, 2**63 - 1, 2**64 - 1, rng.getrandbits(64)])
            ctypes.c_uint64.from_address(page + at).value = lie
        device.run(rng.uniform(0.001, 0.05))
    span_ns = device.now_ns - start_ns
    assert neighbour.held(start_ns, device.now_ns) / span_ns >= 0.5 - 0.01
    _assert_disjoint(device)


def test_all_cells_may_be_taken_and_are_free_again() -> None:
    """Sixty-four processes fit; one that ends makes room for the next, even where its account was kept."""
    device = VirtualDevice(WINDOW_S)
    first = device.add(Share(100, 0.5, 1.0), Rect(0, 0, 100, 0.5))
    _fork(device, first, 63)
    device.run(0.5)
    for _ in range(3):
        victim = next(p for p in device.instances if p.working and not p.dead)
        device.kill(victim)
        device.run(0.01)
        device.add_member(first.seat)
        device.run(0.1)
    assert first.seat.cells.bit_count() == 64
    _assert_disjoint(device)
