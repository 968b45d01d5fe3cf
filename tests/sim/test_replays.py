"""Programs that play traces on the stand-in's timeline, in virtual time."""

from __future__ import annotations

import pytest

from fastgshare.sim.replays import NEVER_NS, Event, EventKind, Stage
from fastgshare.sim.traces import Trace, load, parse

FOUR = parse("kernel k blocks=4 per_sm=1 us=100 gap_us=10\nhost 50\nk\nk\nsync\n", "four")
"""70 us on the host, of which 10 are before each launch; on four SMs or more each kernel takes 100 us."""


def _requests(trace: Trace, seconds: float, *, sms: int = 8, sm: float = 100.0, replicas: int = 1) -> list[int]:
    with Stage(sms) as stage:
        for seed in range(1, replicas + 1):
            stage.permit(stage.add(trace, sm, seed=seed), NEVER_NS)
        assert stage.run(stage.now_ns + round(seconds * 1e9)).kind is EventKind.REACHED
        return [stage.requests(replay) for replay in range(replicas)]


def _until(stage: Stage, kind: EventKind) -> Event:
    event = stage.run(stage.now_ns + 10**9)
    assert event.kind is kind
    return event


def test_the_host_works_launches_and_waits() -> None:
    assert _requests(FOUR, 1.0) == [1_000_000 // 260]  # 50 + 10, then two kernels; the second gap lies beside the first


def test_fewer_sms_take_more_waves() -> None:
    assert _requests(FOUR, 1.0, sm=25.0) == [1_000_000 // 460]
    assert _requests(FOUR, 1.0, sm=12.5) == [1_000_000 // 860]


def test_replicas_that_fit_beside_each_other_do_not_slow_each_other_down() -> None:
    assert _requests(FOUR, 0.5, sm=50.0, replicas=2) == [1923, 1923]


def test_without_partitions_replicas_take_turns() -> None:
    work = parse("kernel k blocks=1 us=1000\nk\nsync\n", "work")
    with Stage(8, turns=True) as stage:
        for seed in (1, 2):
            stage.permit(stage.add(work, 100, seed=seed), NEVER_NS)
        stage.run(stage.now_ns + 10**9)
        assert [stage.requests(0), stage.requests(1)] == pytest.approx([500, 500], abs=1)


def test_a_request_may_have_more_launches_than_a_queue_has_places() -> None:
    long = parse("kernel k blocks=1 us=10\nrepeat 5000\nk\nend\nsync\n", "long")
    assert _requests(long, 1.0) == [20]


def test_host_times_vary_by_the_spread_and_by_nothing_else() -> None:
    vary = parse("spread 0.5\nkernel k blocks=1 us=1\nhost 1000\nk\nsync\n", "vary")
    with Stage(8) as stage:
        stage.permit(stage.add(vary, 100, seed=7), NEVER_NS)
        lengths, last = [], stage.now_ns
        for _ in range(200):
            before = stage.requests(0)
            while stage.requests(0) == before:
                stage.run(stage.now_ns + 1000)
            lengths.append(stage.now_ns - last)
            last = stage.now_ns
    assert 500_000 <= min(lengths) < 600_000
    assert 1_400_000 < max(lengths) <= 1_503_000


def test_equal_inputs_give_equal_events() -> None:
    def events() -> list[Event]:
        with Stage(80) as stage:
            for seed in (1, 2, 3):
                stage.watch(stage.add(load("resnet50"), 24, seed=seed), 100_000)
            found = []
            for _ in range(300):
                event = stage.run(stage.now_ns + 10**9)
                if event.kind is EventKind.WANTS:
                    stage.permit(event.replay, stage.now_ns + 2_000_000, depth_ns=500_000)
                found.append(event)
            return found

    assert events() == events()


def test_without_a_permit_nobody_passes() -> None:
    with Stage(8) as stage:
        stage.add(FOUR, 100, seed=1)
        event = _until(stage, EventKind.WANTS)
        assert (event.replay, event.at_ns) == (0, 1_000_060_000)
        assert stage.run(stage.now_ns + 10**9).kind is EventKind.REACHED
        assert stage.requests(0) == 0 and not stage.busy(0)


def test_a_launch_passes_until_the_permit_ends_and_its_work_goes_on() -> None:
    with Stage(8) as stage:
        replay = stage.add(FOUR, 100, seed=1)
        _until(stage, EventKind.WANTS)
        stage.permit(replay, stage.now_ns + 5_000)
        _until(stage, EventKind.WANTS)  # the second launch is 10 us later
        assert stage.busy(replay)
        stage.run(stage.now_ns + 200_000)
        assert not stage.busy(replay) and stage.busy_ns(replay) == 100_000


def test_with_a_depth_only_what_ends_in_time_passes_but_for_the_one_that_was_let_through() -> None:
    with Stage(8) as stage:
        replay = stage.add(FOUR, 100, seed=1)
        _until(stage, EventKind.WANTS)
        stage.permit(replay, stage.now_ns + 150_000, depth_ns=1_000_000)
        event = _until(stage, EventKind.WANTS)  # the second kernel would end after 200 us
        assert event.burst_ns == 100_000
        assert stage.busy(replay)
        stage.permit(replay, stage.now_ns + 50_000, depth_ns=1_000_000)
        stage.run(stage.now_ns + 500_000)
        assert stage.busy_ns(replay) == 200_000


def test_work_is_no_deeper_on_the_device_than_asked_for() -> None:
    deep = parse("kernel k blocks=1 us=100\nrepeat 1000\nk\nend\nsync\n", "deep")
    with Stage(8) as stage:
        replay = stage.add(deep, 100, seed=1)
        stage.watch(replay, 2**62)
        stage.permit(replay, NEVER_NS, depth_ns=1_000_000)
        stage.run(stage.now_ns + 5_000_000)
        stage.permit(replay, stage.now_ns)  # nothing passes from now on
        began_ns = stage.now_ns
        _until(stage, EventKind.WANTS)
        event = _until(stage, EventKind.IDLE)
        assert 900_000 <= event.at_ns - began_ns <= 1_100_000


def test_who_is_watched_is_said_to_be_idle_once_and_at_its_gate_at_once() -> None:
    with Stage(8) as stage:
        replay = stage.add(parse("kernel k blocks=1 us=10\nk\nsync\nhost 1000\n", "idle"), 100, seed=1)
        stage.watch(replay, 300_000)
        _until(stage, EventKind.WANTS)
        stage.permit(replay, stage.now_ns + 5_000)
        ended_ns = stage.now_ns + 10_000
        assert _until(stage, EventKind.IDLE).at_ns == ended_ns + 300_000
        assert _until(stage, EventKind.WANTS).at_ns == ended_ns + 1_000_000
