"""What is predicted from few trials: its error on the stand-in's traces, its intervals, and what it refuses to say."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgshare.domain.errors import InvalidValue, NotFound
from fastgshare.domain.functions import Slo
from fastgshare.domain.profiles import Configuration, Figures, Outcome, Subject, Trial
from fastgshare.profiler.grids import paper_grid
from fastgshare.profiler.predictors import Predictor
from fastgshare.profiler.queues import Service

SUBJECT = Subject("f", "digest", "a device")
GRID = paper_grid()
CORNERS = [(6, 0.2), (6, 1), (24, 0.6), (100, 0.2), (100, 1)]


def a_trial(sm: float, quota: float, rps: float, batch: int = 1, **changes: object) -> Trial:
    point = Configuration(sm, quota, batch)
    trial = Trial(SUBJECT, point, point, Outcome.MEASURED, Figures(rps, 0.003 * rps))
    return replace(trial, **changes)  # type: ignore[arg-type]


def saturating(sm: float, quota: float, batch: int = 1) -> float:
    """A function of which half the work does not get shorter with more SMs."""
    return quota / (0.01 + 0.2 / sm) * batch**0.4


def trials_of(rps: Callable[[float, float], float] = saturating) -> list[Trial]:
    return [a_trial(sm, quota, rps(sm, quota)) for sm, quota in CORNERS]


def test_a_plain_function_is_known_from_five_trials() -> None:
    predictor = Predictor.fit(trials_of())
    errors = [abs(predictor.capacity(c).value / saturating(c.sm, c.quota) - 1) for c in GRID]
    assert np.median(errors) < 0.02 and max(errors) < 0.06


def test_what_was_measured_is_what_is_said_and_intervals_hold_it() -> None:
    predictor = Predictor.fit(trials_of())
    for sm, quota in CORNERS:
        estimate = predictor.capacity(Configuration(sm, quota))
        assert estimate.value == pytest.approx(saturating(sm, quota), rel=0.02)
        assert estimate.low <= saturating(sm, quota) <= estimate.high
        assert estimate.confidence == 0.9 and estimate.extrapolated == ""


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(GRID), st.floats(1, 100)), min_size=1, max_size=8))
def test_more_sms_or_quota_is_never_slower_whatever_was_measured(seen: list[tuple[Configuration, float]]) -> None:
    predictor = Predictor.fit([a_trial(c.sm, c.quota, rps) for c, rps in seen])
    sms, quotas = (3, 6, 9, 24, 33, 55, 100), (0.13, 0.2, 0.45, 0.6, 0.77, 1)
    rates = np.array([[predictor.capacity(Configuration(sm, q)).value for q in quotas] for sm in sms])
    assert np.all(np.diff(rates, axis=0) >= -1e-9 * rates[1:])
    assert np.all(np.diff(rates, axis=1) >= -1e-9 * rates[:, 1:])
    estimate = predictor.capacity(Configuration(33, 0.45))
    assert estimate.low < estimate.value < estimate.high


def test_intervals_are_wider_where_no_trial_was_and_with_more_confidence() -> None:
    predictor, surer = Predictor.fit(trials_of()), Predictor.fit(trials_of(), confidence=0.99)

    def width(p: Predictor, sm: float, quota: float) -> float:
        estimate = p.capacity(Configuration(sm, quota))
        return math.log(estimate.high / estimate.low)

    assert width(predictor, 50, 0.4) > width(predictor, 24, 0.6)
    assert width(surer, 50, 0.4) > width(predictor, 50, 0.4)


@pytest.mark.parametrize(
    ("point", "words"),
    [
        (Configuration(3, 0.5), "sm 3 is below 6, the least of any trial"),
        (Configuration(50, 0.1), "quota 0.1 is below 0.2, the least of any trial"),
        (Configuration(50, 0.5, 8), "batch 8 is above 1, the most of any trial"),
    ],
)
def test_what_lies_beyond_all_trials_says_so(point: Configuration, words: str) -> None:
    predictor = Predictor.fit(trials_of())
    assert predictor.capacity(point).extrapolated == words
    assert predictor.latency(point, 1.0).extrapolated == words
    assert predictor.rate_within(point, Slo(1.0)).extrapolated == words


def test_larger_batches_are_never_slower_and_are_learned() -> None:
    trials = [a_trial(sm, q, saturating(sm, q, b), b) for sm, q in CORNERS[1:] for b in (1, 4, 16)]
    predictor = Predictor.fit(trials)
    rates = [predictor.capacity(Configuration(24, 0.6, b)).value for b in (1, 2, 4, 8, 16)]
    assert rates == sorted(rates)
    assert predictor.capacity(Configuration(60, 0.8, 8)).value == pytest.approx(saturating(60, 0.8, 8), rel=0.1)


def test_trials_of_two_subjects_never_mix() -> None:
    other = a_trial(50, 0.5, 10, subject=replace(SUBJECT, model_digest="another"))
    with pytest.raises(InvalidValue, match="2 subjects"):
        Predictor.fit([*trials_of(), other])
    with pytest.raises(InvalidValue, match=r"trial\.subject"):
        Predictor.fit(trials_of()).disagrees(other)


def test_without_a_measured_capacity_nothing_is_predicted() -> None:
    with pytest.raises(InvalidValue, match="at least one that measured a capacity"):
        Predictor.fit([a_trial(6, 0.2, 1, outcome=Outcome.CRASHED, figures=None)])


def test_failed_trials_are_left_out_and_named() -> None:
    failed = a_trial(50, 0.4, 1e6, outcome=Outcome.UNSTABLE, reason="it went up and down")
    predictor = Predictor.fit([*trials_of(), failed])
    assert predictor.left_out == ("50% SMs, quota 0.4, batch 1: unstable (it went up and down)",)
    assert predictor.capacity(failed.given).value == pytest.approx(saturating(50, 0.4), rel=0.06)


def test_repeated_measurements_narrow_the_interval_unless_they_disagree() -> None:
    noisy = [replace(t, figures=Figures(t.figures.rps, 0.1 * t.figures.rps)) for t in trials_of() if t.figures]
    once, often = Predictor.fit(noisy), Predictor.fit(noisy * 4)
    point = Configuration(24, 0.6)
    assert often.measured[point].error == pytest.approx(once.measured[point].error / 2)
    assert once.disagreements == often.disagreements == ()

    apart = Predictor.fit([*trials_of(), a_trial(24, 0.6, 1.3 * saturating(24, 0.6))])
    assert len(apart.disagreements) == 1 and apart.disagreements[0].startswith("24% SMs, quota 0.6, batch 1: ")
    assert apart.measured[point].error > 0.2


def test_what_production_sees_beyond_the_interval_is_flagged() -> None:
    predictor = Predictor.fit(trials_of())
    rate = saturating(50, 0.4)
    assert predictor.disagrees(a_trial(50, 0.4, rate / 2, source="production", offered_rps=rate / 2)) == ""
    assert predictor.disagrees(a_trial(50, 0.4, 2 * rate, source="production", offered_rps=2 * rate)).startswith("rps ")
    assert predictor.disagrees(a_trial(50, 0.4, rate / 2)).startswith("rps ")
    slow = a_trial(50, 0.4, rate / 2, offered_rps=rate / 2, figures=Figures(rate / 2, p95_s=9.0))
    assert predictor.disagrees(slow).startswith("p95_s 9 is outside of ")


# --- latency ---------------------------------------------------------------------------------------------------------


def test_latency_grows_with_load_and_without_end_at_capacity() -> None:
    predictor, point = Predictor.fit(trials_of()), Configuration(50, 0.4)
    capacity = predictor.capacity(point).value
    values = [predictor.latency(point, part * capacity, 0.95).value for part in (0.1, 0.4, 0.7, 0.9)]
    assert values == sorted(values) and values[0] > 1 / saturating(50, 1)
    assert predictor.latency(point, 1.01 * capacity).value == math.inf
    estimate = predictor.latency(point, capacity / 2)
    assert estimate.low < estimate.value < estimate.high


def test_the_queue_is_that_of_the_textbook_where_the_quota_is_all() -> None:
    service = Service(100.0, 1.0, 0.04)
    assert service.quantile(0, 0.99) == pytest.approx(0.01)
    # M/D/1 at half load: nobody waits with probability 1/2; P(wait <= 1 service) = e^(1/2) / 2.
    assert service.quantile(50, 0.49) == pytest.approx(0.01, rel=0.02)
    assert service.quantile(50, math.exp(0.5) / 2) == pytest.approx(0.02, rel=0.02)


def test_who_comes_outside_of_the_slot_waits_for_it() -> None:
    service = Service(10.0, 0.25, 0.04)  # needs 25 ms: two slots and a half
    assert service.quantile(0.01, 0.5) < service.quantile(0.01, 0.99)
    assert service.quantile(0.01, 0.99) < 0.025 + 3 * 0.03 + 0.03 + 0.001


def test_the_rate_within_an_slo_lies_below_the_capacity_and_is_none_for_what_is_too_slow() -> None:
    predictor, point = Predictor.fit(trials_of()), Configuration(50, 1)
    capacity = predictor.capacity(point).value
    tight, loose = (predictor.rate_within(point, Slo(bound)).value for bound in (0.03, 0.3))
    assert 0 < tight < loose < capacity
    assert predictor.latency(point, tight).value <= 0.03
    assert predictor.rate_within(point, Slo(0.001)).value == 0
    assert predictor.rate_within(point, None) == predictor.capacity(point)


def test_a_rate_that_was_measured_within_the_bound_goes_before_the_model() -> None:
    sought = a_trial(50, 1, 12.5, within_s=0.03)
    predictor = Predictor.fit([*trials_of(), sought])
    assert predictor.rate_within(sought.given, Slo(0.03)).value == pytest.approx(12.5)
    assert predictor.rate_within(sought.given, Slo(0.04)).value > 15
    assert predictor.capacity(sought.given).value > 40


def test_latencies_that_were_measured_correct_the_model() -> None:
    point = Configuration(24, 0.6)
    seen = [
        replace(t, figures=replace(t.figures, p50_s=1.3 * Service(t.figures.rps, t.given.quota, 0.04).quantile(0, 0.5)))
        for t in trials_of()
        if t.figures
    ] * 5
    plain, told = Predictor.fit(trials_of()), Predictor.fit(seen)
    ratio = told.latency(point, 5).value / plain.latency(point, 5).value
    assert 1.2 < ratio <= 1.31


@pytest.mark.parametrize(("rps", "quantile"), [(-1, 0.5), (math.inf, 0.5), (1, 0), (1, 1)])
def test_loads_and_quantiles_that_are_none_are_refused(rps: float, quantile: float) -> None:
    with pytest.raises(InvalidValue):
        Predictor.fit(trials_of()).latency(Configuration(50, 1), rps, quantile)


# --- memory ----------------------------------------------------------------------------------------------------------


def test_memory_goes_by_the_batch_and_says_where_it_guesses() -> None:
    sizes = {1: 1000, 4: 1600}
    trials = [
        a_trial(sm, q, saturating(sm, q, b), b, figures=Figures(saturating(sm, q, b), mem_bytes=size))
        for sm, q in CORNERS
        for b, size in sizes.items()
    ]
    predictor = Predictor.fit(trials)
    assert predictor.memory(Configuration(33, 0.5, 4)).value == 1600
    between = predictor.memory(Configuration(33, 0.5, 2))
    assert between.low == 1000 and 1000 < between.value < between.high == 1600 and not between.extrapolated
    beyond = predictor.memory(Configuration(33, 0.5, 8))
    assert beyond.value > 1600 and beyond.extrapolated == "batch 8 is above 4, the most of any trial"


def test_memory_that_nobody_counted_is_not_known() -> None:
    with pytest.raises(NotFound, match="memory"):
        Predictor.fit(trials_of()).memory(Configuration(50, 1))


def test_the_smallest_batch_that_ran_out_of_memory_is_known() -> None:
    failed = [a_trial(100, 1, 1, b, outcome=Outcome.OUT_OF_MEMORY, figures=None) for b in (32, 16)]
    assert Predictor.fit([*trials_of(), *failed]).too_large == 16
    assert Predictor.fit(trials_of()).too_large is None
