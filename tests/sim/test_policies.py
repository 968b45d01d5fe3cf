"""The token scheduler of the reference's lineage, as it is compared with."""

from __future__ import annotations

import pytest

from fastgshare.sim.experiments import Policy, Setting, run
from fastgshare.sim.policies import Grant, WindowedTokens
from fastgshare.sim.traces import parse

MS = 1_000_000


def test_a_token_is_as_long_as_the_quota_of_the_window() -> None:
    policy = WindowedTokens(40 * MS)
    instance = policy.add(30, 0.3)
    policy.request(instance, 0)
    assert policy.decide(0) == [Grant(instance, 12 * MS)]
    assert policy.decide(0) == []


def test_the_next_one_comes_when_the_window_begins_to_forget_the_last() -> None:
    policy = WindowedTokens(40 * MS)
    instance = policy.add(30, 0.3)
    policy.request(instance, 0)
    policy.decide(0)
    policy.request(instance, 15 * MS)  # what ran on for 3 ms is not charged
    assert policy.decide(15 * MS) == []
    due_ns = policy.next_ns(15 * MS)
    assert due_ns == 40 * MS + 1
    assert policy.decide(due_ns - 1) == []
    assert policy.decide(due_ns) == [Grant(instance, due_ns + 12 * MS)]


def test_what_is_returned_early_is_not_charged() -> None:
    policy = WindowedTokens(40 * MS)
    instance = policy.add(30, 0.3)
    policy.request(instance, 0)
    policy.decide(0)
    policy.request(instance, 2 * MS)
    assert [g.instance for g in policy.decide(2 * MS)] == [instance]


def test_who_waits_for_sms_waits_for_the_end_of_a_token() -> None:
    policy = WindowedTokens(40 * MS)
    first, second = policy.add(60, 0.5), policy.add(60, 0.5)
    policy.request(first, 0)
    policy.decide(0)
    policy.request(second, 5 * MS)
    assert policy.decide(5 * MS) == []
    assert policy.next_ns(5 * MS) == 20 * MS
    assert [g.instance for g in policy.decide(20 * MS)] == [second]


def test_all_who_ask_at_once_are_let_in_if_each_fits_alone() -> None:
    policy = WindowedTokens(40 * MS)
    instances = [policy.add(30, 0.5) for _ in range(4)] + [policy.add(95, 0.5)]
    for instance in instances:
        policy.request(instance, 0)
    assert len(policy.decide(0)) == 5
    assert policy.occupied(0) == 215  # as we measured it of the reference


def test_who_misses_most_of_its_quota_goes_first() -> None:
    policy = WindowedTokens(40 * MS)
    used, fresh = policy.add(60, 0.5), policy.add(60, 0.5)
    policy.request(used, 0)
    policy.decide(0)
    policy.request(used, 10 * MS)
    policy.request(fresh, 10 * MS)
    assert [g.instance for g in policy.decide(10 * MS)] == [fresh, used]


def test_nobody_asks_nothing_is_due() -> None:
    policy = WindowedTokens()
    policy.add(50, 0.5)
    assert policy.decide(0) == [] and policy.next_ns(0) is None


@pytest.mark.parametrize(("quota", "measured"), [(0.3, 0.44), (0.5, 0.65)])
def test_one_length_of_bursts_explains_what_was_measured_of_the_reference(quota: float, measured: float) -> None:
    saturated = parse("kernel burst blocks=1 us=8700\nburst\nsync\n", "saturated")
    outcome = run(Setting(saturated, 100, quota), Policy.REFERENCE, seconds=4)
    assert outcome.busy == pytest.approx(measured, abs=0.01)
