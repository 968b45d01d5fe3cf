"""Trials in virtual time, and what the profiler reaches on them. The stand-in is a test double."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from fastgshare.domain.errors import InvalidValue, NotFound
from fastgshare.domain.profiles import Configuration, Outcome
from fastgshare.profiler.grids import paper_grid
from fastgshare.profiler.predictors import Predictor
from fastgshare.sim.experiments import Policy, Setting, run
from fastgshare.sim.traces import load, names
from fastgshare.sim.trials import VirtualRunner

GRID = paper_grid()
QUICK = VirtualRunner("resnet50", stretch_s=0.5)


def test_the_subject_says_that_it_is_a_stand_in_and_differs_by_trace_and_sms() -> None:
    assert "stand-in" in QUICK.subject.device_type and "80" in QUICK.subject.device_type
    assert len({VirtualRunner(n, sms).subject for n in names() for sms in (80, 132)}) == 8


def test_capacity_is_what_the_twin_says_of_the_same_share() -> None:
    point = Configuration(24, 0.6)
    trial = asyncio.run(VirtualRunner("resnet50", stretch_s=4).run(QUICK.subject, point, seed=1))
    figures = trial.figures
    assert trial.outcome is Outcome.MEASURED and figures is not None
    outcome = run(Setting(load("resnet50"), 24, 0.6), Policy.OURS, seconds=16)
    assert figures.rps == pytest.approx(outcome.rps, rel=0.02)
    assert figures.sm_utilisation == pytest.approx(outcome.busy, rel=0.05)
    assert 0 < figures.rps_error < 0.05 * figures.rps
    assert figures.mem_bytes is None  # no trace says


def test_equal_seeds_give_equal_trials_and_others_do_not() -> None:
    point = Configuration(12, 0.4)
    first, again, other = (QUICK.measure(QUICK.subject, point, seed=seed) for seed in (1, 1, 2))
    assert first == again != replace(other, seed=1)


def test_in_an_open_loop_what_is_offered_is_answered_and_latency_grows_with_load() -> None:
    point, runner = Configuration(100, 0.6), VirtualRunner("resnet50", stretch_s=1.5)
    capacity = runner.measure(runner.subject, point, seed=1).figures
    assert capacity is not None
    trials = [runner.measure(runner.subject, point, seed=1, offered_rps=part * capacity.rps) for part in (0.3, 0.8)]
    calm, full = (t.figures for t in trials)
    assert calm is not None and full is not None and {t.outcome for t in trials} == {Outcome.MEASURED}
    assert calm.rps == pytest.approx(0.3 * capacity.rps, rel=0.2)
    assert full.rps == pytest.approx(0.8 * capacity.rps, rel=0.2)
    for less, more in ((calm.p50_s, full.p50_s), (calm.p95_s, full.p95_s), (calm.p99_s, full.p99_s)):
        assert less is not None and more is not None and 0.01 < less < more


def test_more_than_it_can_answer_is_unstable_and_says_why() -> None:
    trial = QUICK.measure(QUICK.subject, Configuration(12, 0.2), seed=1, offered_rps=60.0)
    assert trial.outcome is Outcome.UNSTABLE and "left over" in trial.reason


def test_predicted_latency_is_near_what_an_open_loop_shows() -> None:
    points = [Configuration(sm, quota) for sm in (6, 100) for quota in (0.2, 1)] + [Configuration(12, 0.6)]
    predictor = Predictor.fit([QUICK.measure(QUICK.subject, p, seed=1) for p in points])
    point = Configuration(50, 0.4)
    runner = VirtualRunner("resnet50", stretch_s=4, stretch_requests=40)
    rate = 0.5 * predictor.capacity(point).value
    figures = runner.measure(runner.subject, point, seed=3, offered_rps=rate).figures
    assert figures is not None and figures.p50_s is not None and figures.p95_s is not None
    assert predictor.latency(point, figures.rps, 0.5).value == pytest.approx(figures.p50_s, rel=0.3)
    assert predictor.latency(point, figures.rps, 0.95).value == pytest.approx(figures.p95_s, rel=0.3)


def test_a_trace_has_no_batches() -> None:
    trial = QUICK.measure(QUICK.subject, Configuration(12, 0.2, 4), seed=1)
    assert trial.outcome is Outcome.REFUSED and trial.figures is None and trial.reason


def test_others_subjects_and_traces_that_are_none_are_refused() -> None:
    with pytest.raises(InvalidValue, match="subject"):
        QUICK.measure(VirtualRunner("bert").subject, GRID[0], seed=1)
    with pytest.raises(NotFound, match="trace"):
        _ = VirtualRunner("nothing").subject
