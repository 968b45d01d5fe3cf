"""The stand-in's device in virtual time: how long what takes, and who waits for whom."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import pytest

from fastgshare.domain.errors import FastGShareError, InvalidValue, NotFound
from fastgshare.sim.standin import HOST, MARK, NEVER_NS, StandinDevice, Work, WorkKind

LATER = 10**9
SMALL = Work(1000, blocks=10)


def _device(sms: int = 80, **settings: bool | float | int) -> StandinDevice:
    return StandinDevice(sms, **settings)  # type: ignore[arg-type]


def _queues(device: StandinDevice, *partitions: float) -> list[int]:
    """A queue of a process of its own for each."""
    return [device.open_queue(device.join(1 + i, sm_partition=p)) for i, p in enumerate(partitions)]


def _ends(device: StandinDevice, queues: Sequence[int], work: Work) -> list[int | None]:
    """When a piece of work ends that starts in all queues at 0."""
    positions = [device.submit(q, work, 0) for q in queues]
    return [device.ended(q, p, LATER) for q, p in zip(queues, positions, strict=True)]


# --- one kernel -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("partition", [0.5, 6, 12, 24, 50, 100])
@pytest.mark.parametrize("blocks", [1, 79, 80, 81, 160, 1000])
@pytest.mark.parametrize("per_sm", [1, 2, 16])
def test_a_kernel_takes_its_waves(partition: float, blocks: int, per_sm: int) -> None:
    device = _device()
    [queue] = _queues(device, partition)
    sms = ceil(80 * partition / 100)
    waves, all_waves = ceil(blocks / (sms * per_sm)), ceil(blocks / (80 * per_sm))
    assert _ends(device, [queue], Work(7000, blocks, per_sm, 800)) == [round(7000 * waves / all_waves)]


def test_a_small_kernel_does_not_suffer_from_few_sms() -> None:
    device = _device()
    [queue] = _queues(device, 10)
    assert _ends(device, [queue], Work(1000, blocks=16, blocks_per_sm=2)) == [1000]


@pytest.mark.parametrize(("partition", "blocks", "sms"), [(100, 10, 10), (100, 300, 80), (24, 300, 20), (24, 4, 4)])
def test_it_occupies_the_sms_that_it_needs_and_may_use(partition: float, blocks: int, sms: int) -> None:
    device = _device()
    process = device.join(1, sm_partition=partition)
    queue = device.open_queue(process)
    position = device.submit(queue, Work(1000, blocks), 0)
    end = device.due(queue, position, 0)
    half = device.usage(process, end // 2)
    assert (half.busy_ns, half.sm_ns, half.kernels) == (end // 2, sms * (end // 2), 0)
    whole = device.usage(process, LATER)
    assert (whole.busy_ns, whole.sm_ns, whole.kernels) == (end, sms * end, 1)
    assert whole.sms == ceil(80 * partition / 100)


def test_kernels_of_a_queue_follow_each_other_without_a_gap() -> None:
    device = _device()
    [queue] = _queues(device, 100)
    for _ in range(5):
        device.submit(queue, SMALL, 300)
    assert [device.ended(queue, p, LATER) for p in range(1, 6)] == [1300, 2300, 3300, 4300, 5300]
    assert device.submit(queue, SMALL, LATER) == 6
    assert device.ended(queue, 6, 2 * LATER) == LATER + 1000


def test_marks_and_empty_kernels_take_no_time() -> None:
    device = _device()
    process = device.join(1)
    queue = device.open_queue(process)
    device.submit(queue, Work(0, 1000), 5)
    device.submit(queue, MARK, 5)
    assert device.finished(queue, 5) == 2
    assert device.ended(queue, 2, 5) == 5
    assert device.usage(process, LATER).kernels == 1


def test_a_kernel_that_never_ends_ends_with_its_process() -> None:
    device = _device()
    process = device.join(1)
    queue = device.open_queue(process)
    device.submit(queue, Work(2**63, 1000), 0)
    assert device.due(queue, 1, 0) == device.next_end(0) == NEVER_NS
    assert device.finished(queue, 2**63) == 0
    device.leave(process, 2**63)
    assert device.ended(queue, 1, 2**63) == 2**63


# --- several at once --------------------------------------------------------------------------------------------------


def test_processes_overlap_while_sms_last() -> None:
    device = _device()
    assert _ends(device, _queues(device, 24, 24, 24, 24), Work(1000, 80, 4)) == [1000] * 4


def test_beyond_that_sms_are_shared_in_proportion() -> None:
    device = _device()
    queues = _queues(device, 100, 50, 50)  # wish for 80, 40 and 40 of 80 SMs
    ends = _ends(device, queues, Work(1000, 80))
    # Half speed each; two waves for those with half of the SMs. The first leaves at 2000: then the rest fits.
    assert ends == [2000, 3000, 3000]
    assert [device.processes(LATER)[i].sm_ns for i in range(3)] == [80_000, 80_000, 80_000]


def test_who_leaves_makes_the_others_faster() -> None:
    device = _device()
    first, second = device.join(1), device.join(2)
    queue, other = device.open_queue(first), device.open_queue(second)
    device.submit(queue, Work(1000, 80), 0)
    device.submit(other, Work(1000, 80), 0)
    device.leave(second, 1000)
    assert device.ended(queue, 1, LATER) == 1500


def test_kernels_of_one_process_share_its_sms() -> None:
    device = _device()
    process = device.join(1, sm_partition=50)
    queues = [device.open_queue(process) for _ in range(2)]
    assert _ends(device, queues, Work(1000, 40)) == [2000, 2000]
    usage = device.usage(process, LATER)
    assert (usage.busy_ns, usage.sm_ns, usage.kernels) == (2000, 80_000, 2)


def test_neighbours_on_the_memory_slow_each_other() -> None:
    device = _device()
    queues = _queues(device, 24, 24, 24)
    assert _ends(device, queues, Work(1000, 10, 1, 300)) == [1600] * 3


def test_who_runs_slower_uses_less_of_the_memory() -> None:
    device = _device()
    slow, fast = _queues(device, 25, 25)
    device.submit(slow, Work(10_000, 80, 1, 800), 0)  # four waves for one: uses a fifth of the memory's bandwidth
    device.submit(fast, Work(1000, 10, 1, 100), 0)
    assert device.ended(fast, 1, LATER) == 1200


def test_who_needs_no_memory_is_not_slowed_by_it() -> None:
    device = _device()
    greedy, modest = _queues(device, 50, 50)
    device.submit(greedy, Work(1000, 40, 1, 1000), 0)
    device.submit(modest, Work(1000, 40, 1, 0), 0)
    assert device.ended(modest, 1, LATER) == device.ended(greedy, 1, LATER) == 1000


def test_copies_take_bandwidth_and_no_sms() -> None:
    device = _device()
    process = device.join(1)
    copies, kernels = device.open_queue(process), device.open_queue(process)
    device.submit(copies, Work(1000, bandwidth=500, kind=WorkKind.COPY), 0)
    device.submit(kernels, Work(1000, 80, 1, 500), 0)
    assert device.ended(copies, 1, LATER) == device.ended(kernels, 1, LATER) == 1500
    assert (device.usage(process, LATER).sm_ns, device.usage(process, LATER).kernels) == (120_000, 1)


def test_the_device_is_busy_while_anybody_is() -> None:
    device = _device()
    early, late = _queues(device, 50, 50)
    work = Work(1000, 80, bandwidth=0)
    device.submit(early, work, 0)
    device.submit(late, work, 500)
    assert [device.busy_ns(now) for now in (1000, 2500, 5000)] == [1000, 2500, 2500]
    device.submit(early, work, 5000)
    assert [device.busy_ns(now) for now in (5500, LATER)] == [3000, 4500]


def test_without_mps_processes_take_turns() -> None:
    device = _device(turns=True)
    assert _ends(device, _queues(device, 100, 100, 100), Work(1000, 10, 1, 900)) == [3000] * 3
    assert [u.busy_ns for u in device.processes(LATER)] == [1000] * 3


def test_taking_turns_may_cost_time() -> None:
    device = _device(turns=True, turn_loss=0.2)
    assert _ends(device, _queues(device, 100), Work(1000, 10)) == [1000]
    device = _device(turns=True, turn_loss=0.2)
    assert _ends(device, _queues(device, 100, 100), Work(1000, 10)) == [2500] * 2


def test_in_its_turn_a_process_meets_only_its_own_kernels() -> None:
    device = _device(turns=True)
    process, other = device.join(1), device.join(2)
    queues = [device.open_queue(process), device.open_queue(process), device.open_queue(other)]
    assert _ends(device, queues, Work(1000, 10, 1, 500))[:2] == [2500, 2500]  # 2 x 1.5 until the other has ended


# --- waiting for each other -------------------------------------------------------------------------------------------


def test_a_queue_follows_another_process() -> None:
    device = _device()
    first, second = _queues(device, 50, 50)
    device.submit(first, Work(1000, 10), 0)
    device.submit(first, Work(1000, 10), 0)
    assert device.submit(second, SMALL, 0) == 1
    assert device.follow(second, first, 2, 0)
    device.submit(second, SMALL, 0)
    assert [device.ended(second, p, LATER) for p in (1, 2)] == [1000, 3000]


def test_it_follows_what_is_not_submitted_yet() -> None:
    device = _device()
    first, second = _queues(device, 50, 50)
    device.follow(second, first, 1, 0)
    device.submit(second, SMALL, 0)
    assert device.due(second, 1, 0) == NEVER_NS
    device.submit(first, MARK, 700)
    assert device.ended(second, 1, LATER) == 1700


def test_it_follows_several_at_once_and_the_last_of_each() -> None:
    device = _device()
    first, second, third = _queues(device, 30, 30, 30)
    for _ in range(3):
        device.submit(first, SMALL, 0)
    device.submit(second, Work(2500, 10), 0)
    for position in (3, 1, 2):
        device.follow(third, first, position, 0)
    device.follow(third, second, 1, 0)
    device.submit(third, SMALL, 0)
    assert device.ended(third, 1, LATER) == 4000


def test_only_what_comes_later_follows() -> None:
    device = _device()
    first, second = _queues(device, 50, 50)
    device.submit(first, Work(5000, 10), 0)
    device.submit(second, SMALL, 0)
    device.follow(second, first, 1, 0)
    assert device.ended(second, 1, 1000) == 1000
    device.submit(second, MARK, 1000)
    assert device.finished(second, 4999) == 1
    assert device.finished(second, 5000) == 2


def test_what_is_over_or_its_own_is_not_waited_for() -> None:
    device = _device()
    first, second = _queues(device, 50, 50)
    device.submit(first, MARK, 0)
    device.follow(second, first, 1, 0)
    device.follow(second, second, 7, 0)
    device.submit(second, SMALL, 0)
    assert device.ended(second, 1, LATER) == 1000


def test_who_is_followed_may_close_or_leave() -> None:
    device = _device()
    processes = [device.join(i) for i in (1, 2)]
    first, second, third = (
        device.open_queue(processes[0]),
        device.open_queue(processes[0]),
        device.open_queue(processes[1]),
    )
    device.submit(first, SMALL, 0)
    device.submit(second, Work(2**63), 0)
    device.follow(third, first, 9, 0)
    device.submit(third, MARK, 0)
    device.follow(third, second, 1, 0)
    device.submit(third, MARK, 0)
    device.close_queue(first, 0)
    assert (device.finished(third, 999), device.finished(third, 1000)) == (0, 1)
    device.leave(processes[0], 5000)
    assert device.ended(third, 2, LATER) == 5000


def test_a_queue_that_waits_may_leave() -> None:
    device = _device()
    first, second = device.join(1), device.join(2)
    queue, waiting, other = device.open_queue(first), device.open_queue(second), device.open_queue(first)
    device.submit(queue, SMALL, 0)
    for follower in (waiting, other):
        device.follow(follower, queue, 1, 0)
        device.submit(follower, SMALL, 0)
    device.leave(second, 500)
    assert device.ended(waiting, 1, 500) == 500
    assert device.ended(other, 1, LATER) == 2000


def test_a_queue_notes_only_so_many_waits_and_says_so() -> None:
    device = _device()
    first, second, third = _queues(device, 30, 30, 30)
    device.submit(first, SMALL, 0)
    for _ in range(256):
        assert device.follow(second, first, 1, 0)
        assert device.follow(second, first, 1, 0)  # for the same piece: no other
        device.submit(second, MARK, 0)
    assert not device.follow(second, third, 1, 0)
    assert device.follow(second, third, 1, 1000)


def test_a_full_queue_takes_nothing_until_something_ends() -> None:
    device = _device()
    [queue] = _queues(device, 100)
    assert [device.submit(queue, SMALL, 0) for _ in range(1025)] == [*range(1, 1025), 0]
    assert device.submit(queue, SMALL, 999) == 0
    assert device.submit(queue, SMALL, 1000) == 1025
    assert device.ended(queue, 1025, LATER) == 1_025_000


def test_one_end_may_set_off_very_many() -> None:
    device = _device()
    process = device.join(1)
    first, *others = [device.open_queue(process) for _ in range(65)]
    device.submit(first, SMALL, 0)
    for other in others:
        device.follow(other, first, 1, 0)
        for _ in range(1000):
            device.submit(other, MARK, 0)
    assert device.due(first, 1, 0) == device.due(others[63], 1000, 0) == 1000
    assert device.finished(others[0], 999) == 0
    assert [device.finished(other, 1000) for other in others] == [1000] * 64
    assert device.ended(others[63], 1000, 1000) == 1000


# --- the host ---------------------------------------------------------------------------------------------------------


def test_a_piece_of_the_host_ends_when_the_host_says_so() -> None:
    device = _device()
    [queue] = _queues(device, 100)
    for work in (SMALL, HOST, SMALL):
        device.submit(queue, work, 0)
    assert device.due(queue, 1, 0) == 1000
    assert device.due(queue, 3, 0) == NEVER_NS
    assert device.finished(queue, 40_000) == 1
    device.finish_host(queue, 2, 40_000)
    assert device.due(queue, 3, 40_000) == 41_000
    assert [device.ended(queue, p, LATER) for p in (1, 2, 3)] == [1000, 40_000, 41_000]


def test_the_host_may_be_done_before_its_turn_and_only_once() -> None:
    device = _device()
    [queue] = _queues(device, 100)
    for work in (SMALL, HOST, SMALL):
        device.submit(queue, work, 0)
    for position in (1, 2, 2, 3, 4, 0):
        device.finish_host(queue, position, 10)
    assert [device.ended(queue, p, LATER) for p in (1, 2, 3)] == [1000, 1000, 2000]


# --- when -------------------------------------------------------------------------------------------------------------


def test_what_is_due_is_what_comes() -> None:
    device = _device()
    queues = _queues(device, 24, 24, 100)
    for i in range(12):
        device.submit(queues[i % 3], Work(500 + 77 * i, 50 * i, 1 + i % 2, 90 * i), 10 * i)
    due = [device.due(queue, p, 120) for queue in queues for p in range(1, 5)]
    assert [device.ended(queue, p, LATER) for queue in queues for p in range(1, 5)] == due


def test_what_is_far_away_is_looked_for_in_steps() -> None:
    device = _device()
    [queue] = _queues(device, 100)
    for _ in range(1000):
        device.submit(queue, SMALL, 0)
    now, looks = 0, 0
    while device.ended(queue, 1000, now) is None:
        due = device.due(queue, 1000, now)
        assert now < due <= 1_000_000
        now, looks = due, looks + 1
    assert (now, looks) == (1_000_000, 16)


def test_what_is_not_submitted_is_not_due() -> None:
    device = _device()
    [queue] = _queues(device, 100)
    assert device.due(queue, 1, 0) == NEVER_NS
    assert device.ended(queue, 1, 0) is None


def test_the_last_4096_ends_are_remembered() -> None:
    device = _device()
    [queue] = _queues(device, 100)
    for i in range(10_000):
        device.submit(queue, Work(1), i)
    assert device.finished(queue, LATER) == 10_000
    assert [device.ended(queue, p, LATER) for p in (10_000, 5905)] == [10_000, 5905]
    assert [device.ended(queue, p, LATER) for p in (5904, 1, 0)] == [NEVER_NS] * 3


def test_time_does_not_run_backwards() -> None:
    device = _device()
    [queue] = _queues(device, 100)
    device.submit(queue, SMALL, 5000)
    assert device.finished(queue, 6000) == 1
    device.submit(queue, SMALL, 100)  # the clock of another core
    assert device.ended(queue, 2, LATER) == 7000


# --- coming and going -------------------------------------------------------------------------------------------------


def test_a_closed_queue_runs_out_and_still_answers() -> None:
    device = _device()
    [queue] = _queues(device, 100)
    device.submit(queue, SMALL, 0)
    device.submit(queue, SMALL, 0)
    device.close_queue(queue, 10)
    with pytest.raises(NotFound):
        device.submit(queue, SMALL, 20)
    assert device.finished(queue, 1999) == 1
    assert device.ended(queue, 2, LATER) == 2000
    assert device.finished(queue, LATER) == 2


def test_a_place_that_was_given_to_another_queue_answers_for_that_one_alone() -> None:
    device = _device()
    process = device.join(1)
    old = device.open_queue(process)
    device.submit(old, SMALL, 0)
    device.close_queue(old, LATER)
    queues = [device.open_queue(process) for _ in range(1024)]
    assert len({old, *queues}) == 1025
    assert device.finished(old, LATER) == device.ended(old, 1, LATER) == NEVER_NS
    with pytest.raises(NotFound):
        device.submit(old, SMALL, LATER)
    assert [device.submit(q, MARK, LATER) for q in queues] == [1] * 1024
    with pytest.raises(FastGShareError, match="no room for another queue"):
        device.open_queue(process)
    device.close_queue(queues[17], LATER)
    device.open_queue(process)


def test_a_device_has_room_for_64_processes() -> None:
    device = _device()
    processes = [device.join(i + 1) for i in range(64)]
    with pytest.raises(FastGShareError, match="no room for another process"):
        device.join(65)
    device.leave(processes[5], 0)
    again = device.join(66)
    assert again not in processes
    assert [u.pid for u in device.processes(0)] == [*range(1, 6), 66, *range(7, 65)]


def test_who_has_left_has_nothing() -> None:
    device = _device(mem_bytes=1000)
    process = device.join(1)
    queue = device.open_queue(process)
    device.submit(queue, Work(10**6, 80), 0)
    assert device.charge(process, 700)
    device.leave(process, 10)
    device.leave(process, 11)
    assert device.mem_free_bytes == 1000
    assert device.processes(20) == []
    assert device.next_end(20) == NEVER_NS
    assert not device.charge(process, 1)
    with pytest.raises(NotFound):
        device.usage(process, 20)
    with pytest.raises(FastGShareError):
        device.open_queue(process)
    with pytest.raises(NotFound):
        device.submit(queue, SMALL, 20)


def test_memory_is_counted_to_the_byte() -> None:
    device = _device(mem_bytes=1000)
    first, second = device.join(1), device.join(2)
    assert device.charge(first, 600)
    assert not device.charge(second, 401)
    assert device.charge(second, 400)
    assert (device.mem_free_bytes, device.usage(first, 0).mem_bytes, device.usage(second, 0).mem_bytes) == (0, 600, 400)
    assert device.charge(first, -100)
    assert device.charge(second, 50)
    assert device.mem_free_bytes == 50
    assert device.charge(second, -10_000)  # no more than it has
    assert device.mem_free_bytes == 500


@pytest.mark.parametrize(("settings", "field"), [({"sms": 0}, "sms"), ({"sms": 1, "turn_loss": 1.0}, "turn_loss")])
def test_a_device_that_cannot_be_is_refused(settings: dict[str, float], field: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        StandinDevice(**settings)  # type: ignore[arg-type]
    assert caught.value.field == field


@pytest.mark.parametrize("partition", [0.0, -1.0, 100.1])
def test_a_partition_that_cannot_be_is_refused(partition: float) -> None:
    with pytest.raises(InvalidValue, match="sm_partition"):
        _device().join(1, sm_partition=partition)
