"""The calibrated stand-in beside what was published, in virtual time: no clock, no chance."""

from __future__ import annotations

import pytest

from fastgshare.sim import calibration
from fastgshare.sim.calibration import FITTED, fit, policy_of, setting_of
from fastgshare.sim.experiments import Policy, run
from fastgshare.sim.predictions import GOAL, MANY, Study, policies_of, runs, study
from fastgshare.sim.published import CALIBRATION, POINTS, PREDICTED
from fastgshare.sim.traces import Scales, load

BEYOND = {Policy.PARTITIONS: 0, Policy.REFERENCE: 6, Policy.OURS: 6}
"""Predictions further than the goal from what was published: known, and no more than these (decision 13)."""


@pytest.fixture(scope="module")
def found() -> Study:
    return study(seconds=4)


def test_three_published_sets_calibrate_and_no_other() -> None:
    assert len(POINTS) == len(CALIBRATION) + len(PREDICTED)
    sets = {(p.network, p.sm_partition, p.quota) for p in CALIBRATION}
    assert {s for s in sets if s[0] == "resnet50"} == {("resnet50", sm, 1.0) for sm in (6, 12, 24, 100)}
    assert {s for s in sets if s[0] == "rnnt"} == {("rnnt", 100, 1.0), ("rnnt", 24, 1.0)}
    assert [p.replicas for p in CALIBRATION if p.network == "rnnt" and p.partitioned] == [1, 3]
    assert len(PREDICTED) == 12 + 8


def test_the_model_is_within_ten_percent_of_what_it_was_fitted_to(found: Study) -> None:
    assert len(found.calibration) == len(CALIBRATION)
    assert all(abs(c.residual) <= 0.1 for c in found.calibration)


@pytest.mark.parametrize("policy", BEYOND)
def test_no_more_predictions_than_are_known_miss_the_goal(found: Study, policy: Policy) -> None:
    assert len(found.beyond_goal(policy)) <= BEYOND[policy]


def test_every_prediction_is_made_under_every_policy_that_it_can_be_compared_under(found: Study) -> None:
    made = {(c.point, c.policy) for c in found.predictions}
    assert made == {(p, policy) for p in PREDICTED for policy in policies_of(p)}


def test_the_reference_hands_out_more_sms_than_there_are_and_we_never_do(found: Study) -> None:
    peaks = {g.policy: g.outcome.peak_sm for g in found.gains if g.sm_partition == 24}
    assert peaks[Policy.REFERENCE] > 100 >= peaks[Policy.OURS]
    assert all(c.outcome.peak_sm <= 100 for c in found.predictions if c.policy is Policy.OURS)


def test_partitions_beat_turns_also_where_no_more_than_all_sms_are_held(found: Study) -> None:
    assert all(g.ratio > 1.6 for g in found.gains if g.policy is Policy.OURS)
    assert all(g.outcome.rps == pytest.approx(g.ratio * g.unpartitioned_rps) for g in found.gains)
    assert {c.point.replicas for c in found.predictions} >= {MANY}


def test_a_study_says_how_far_it_is() -> None:
    steps = []
    study(lambda: steps.append(1), seconds=0.01)
    assert len(steps) == runs()


def test_equal_runs_give_equal_figures() -> None:
    point = next(p for p in PREDICTED if p.network == "rnnt" and p.replicas == 5)
    setting = setting_of(load("rnnt"), point)
    for policy in policies_of(point):
        assert run(setting, policy, seconds=0.5) == run(setting, policy, seconds=0.5)


def test_the_fit_leads_from_nothing_to_the_shipped_scales(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "SECONDS", 4.0)
    found = fit("resnet50")
    shipped = load("resnet50").scales
    assert found.error < 0.03
    for name in FITTED["resnet50"]:
        assert getattr(found.scales, name) == pytest.approx(getattr(shipped, name), rel=0.05)


def test_what_is_not_fitted_stays_as_it_was_written() -> None:
    for network, fitted in FITTED.items():
        shipped = load(network).scales
        assert all(getattr(shipped, name) == 1 for name in Scales.__slots__ if name not in fitted)


def test_how_a_calibrating_point_came_about_is_no_policy_of_tokens() -> None:
    assert {policy_of(p) for p in CALIBRATION} == {Policy.TURNS, Policy.PARTITIONS}
    assert GOAL == 0.1
