"""What trials are made of: stretches and searches by numbers, feeds and LoadGen with an instance in this process."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastgshare.cluster.feeds import Answer, Feed, worked_s
from fastgshare.cluster.latencies import Latencies
from fastgshare.cluster.loads import Load, LoadFailed, _results
from fastgshare.cluster.searches import Search
from fastgshare.cluster.stretches import Count, measured, settled, stretch_s
from fastgshare.cluster.warmups import NeverSettled, warm_up
from fastgshare.domain.errors import FastGShareError, InstanceLost
from fastgshare.domain.functions import Batching, Function, Slo
from fastgshare.domain.requests import Reply, Request
from fastgshare.domain.shares import Share

WINDOW_S = 0.04


class Instance:
    """A cluster with one instance that answers a batch at a time, each after so long; it may fail or be lost."""

    def __init__(self, work_s: float = 0.002) -> None:
        self.work_s = work_s
        self.batches: list[int] = []
        self.status = 200
        self.lost_after: int | None = None
        self._turn = asyncio.Lock()

    async def send(self, instance_id: str, batch: Sequence[Request]) -> Sequence[Reply]:
        async with self._turn:
            await asyncio.sleep(self.work_s)
            self.batches.append(len(batch))
            if self.lost_after is not None and len(self.batches) > self.lost_after:
                raise InstanceLost(instance_id, "it fell over")
            return [Reply(request.id, self.status, b"no\n") for request in batch]


def feed_of(instance: Any, batch: int = 1) -> Feed:
    function = Function("f", Share(100, 1, 1), handler="m:h", batch=Batching(batch, 0.001))
    return Feed(instance, "f-1", function, b"body")


def gated(quota: float, work_s: float, until_s: float) -> list[float]:
    """When answers come from one that works in slots of a window."""
    found, now_s = [], 0.0
    while now_s < until_s:
        now_s += work_s
        if now_s % WINDOW_S > quota * WINDOW_S:
            now_s = (now_s // WINDOW_S + 1) * WINDOW_S + work_s / 2
        found.append(now_s)
    return found


@given(st.floats(0.1, 1), st.floats(0.001, 0.01), st.integers(1, 5))
def test_stretches_of_whole_windows_are_equally_fast_wherever_they_lie(
    quota: float, work_s: float, windows: int
) -> None:
    done_s = gated(quota, work_s, 2)
    length_s = stretch_s(windows * WINDOW_S, WINDOW_S, len(done_s) / 2, 20)
    found = measured(done_s, length_s)
    assert found is not None
    assert found.rps == pytest.approx(len(done_s) / 2, rel=0.06)


def test_a_rate_has_an_error_by_how_much_its_stretches_differ() -> None:
    even = measured([n / 100 for n in range(400)], 1.0)
    assert even is not None
    assert (even.rps, even.error) == (pytest.approx(100), pytest.approx(0, abs=1e-6))
    chance = random.Random(1)
    uneven = measured(list(itertools.accumulate(chance.expovariate(100) for _ in range(400))), 1.0)
    assert uneven is not None
    assert uneven.error > 1
    assert measured([1.0, 1.0, 1.0, 2.0], 1.0) is None


def test_answers_of_a_batch_count_at_once_and_those_of_the_first_moment_not_at_all() -> None:
    count = Count([1.0, 1.0, 2.0, 2.0, 3.0, 3.0])
    assert [count.at(when) for when in (0.5, 1.0, 1.5, 2.0, 3.0, 9.0)] == [0, 0, 1, 2, 4, 4]
    assert count.rates(1.0) == [2, 2]


def test_it_has_settled_when_the_last_stretches_agree() -> None:
    assert not settled([100], 0.05)
    assert not settled([60, 80], 0.05)
    assert settled([60, 99, 100], 0.05)
    assert settled([90, 110, 91, 111], 0.05)  # by pairs
    assert not settled([0, 0], 0.05)


@given(st.floats(0.05, 1.0), st.integers(1, 8))
def test_a_search_comes_near_to_the_highest_rate_that_keeps_a_promise(limit: float, tries: int) -> None:
    search, good = Search(200.0, tries), 0.0
    for _ in range(20):
        if (rps := search.next_rps()) is None:
            break
        search.tell(rps, rps <= 200 * limit)
        good = max(good, rps) if rps <= 200 * limit else good
    assert good <= 200 * limit <= good + 200 * max(0.04, 0.75 / 2 ** (tries - 1)) + 1e-9
    assert search.next_rps() is None


async def test_a_feed_batches_as_production_does_and_answers_each_once() -> None:
    instance, heard = Instance(), list[Answer]()
    feed = feed_of(instance, batch=4)
    feed.heard = heard.extend
    feed.offer(range(10))
    await until(lambda: len(heard) == 10)
    assert instance.batches == [4, 4, 2]
    assert {answer.id for answer in heard} == set(range(10))
    assert all(answer.offered_s <= answer.sent_s <= answer.done_s and not answer.problem for answer in heard)
    assert all(worked > 0.0015 for worked in worked_s(heard))


async def test_whatever_is_offered_to_a_lost_instance_is_answered_with_why() -> None:
    instance, heard = Instance(), list[Answer]()
    instance.lost_after = 2
    feed = feed_of(instance)
    feed.heard = heard.extend
    feed.offer(range(5))
    await until(lambda: len(heard) == 5)
    feed.offer([7])
    assert [bool(answer.problem) for answer in heard] == [False, False, True, True, True, True]
    assert "it fell over" in heard[-1].problem


async def test_the_load_generator_measures_capacity_and_rates() -> None:
    feed, load = feed_of(Instance()), Load(1)
    feed.heard = load.hear
    found = await load.offline(feed, expected_rps=300, seconds=0.2)
    assert len(found.answers) == 60
    assert 0 < found.rps < 520  # two milliseconds each, or as much longer as the machine takes
    load = Load(1)
    feed.heard = load.hear
    rated = await load.server(feed, offered_rps=100, seconds=0.3, slo=Slo(10.0, 0.9))
    assert rated.within(Slo(10.0, 0.9))
    assert rated.offered_rps > 0
    assert 0.001 < (rated.percentile_s(50) or 0) <= (rated.percentile_s(99) or 0)


async def test_the_load_generator_ends_with_an_instance_and_when_it_is_called_off() -> None:
    instance = Instance()
    instance.lost_after = 3
    feed, load = feed_of(instance), Load(1)
    feed.heard = load.hear
    found = await load.offline(feed, expected_rps=100, seconds=0.2)
    assert len(found.problems) == 17
    slow, load = feed_of(Instance(work_s=5.0)), Load(1)
    slow.heard = load.hear
    test = asyncio.create_task(load.offline(slow, expected_rps=100, seconds=0.2))
    await until(lambda: slow.waiting > 0)
    test.cancel()
    with pytest.raises(asyncio.CancelledError):
        await test
    await slow.ended()


def test_a_log_without_figures_is_no_measurement(tmp_path: Any) -> None:
    with pytest.raises(LoadFailed, match="no log that can be read"):
        _results(tmp_path / "none")
    (tmp_path / "log").write_text(':::MLLOG {"key": "error_runtime", "value": "too slow"}\n')
    with pytest.raises(LoadFailed, match="measured nothing: too slow"):
        _results(tmp_path / "log")


async def warm(instance: Instance, longest_s: float, tolerance: float) -> tuple[float, Feed]:
    feed = feed_of(instance)

    async def window_s() -> float:
        return 0.02

    rps = await warm_up(feed, 1, window_s, wanted_s=0.05, longest_s=longest_s, tolerance=tolerance)
    return rps, feed


async def test_a_warm_up_ends_when_the_speed_is_steady_and_leaves_nothing_waiting() -> None:
    rps, feed = await warm(Instance(), 5, 0.5)
    assert rps > 0
    assert not feed.waiting


async def test_a_warm_up_that_never_settles_says_what_it_saw() -> None:
    with pytest.raises(NeverSettled, match=r"it was not steady after .* s: .* requests a second in stretches of"):
        await warm(Instance(), 0.3, 0.0)


async def test_a_warm_up_ends_with_the_first_answer_that_is_none() -> None:
    instance = Instance()
    instance.status = 500
    with pytest.raises(FastGShareError, match="no"):
        await warm(instance, 5, 0.1)


def test_latencies_are_kept_to_three_digits_and_can_be_read_by_others() -> None:
    from hdrh.histogram import HdrHistogram

    found = Latencies(n / 1000 for n in range(1, 1001))
    assert found.percentile_s(50) == pytest.approx(0.5, rel=2e-3)
    read = HdrHistogram.decode(found.encode())
    assert (read.get_total_count(), read.get_value_at_percentile(99)) == (1000, pytest.approx(990_000, rel=2e-3))
    assert Latencies([]).percentile_s(50) is None


async def until(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  # by callbacks that set no event
            await asyncio.sleep(0.001)
