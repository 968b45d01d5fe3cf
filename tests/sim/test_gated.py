"""Replays under our own tokens: the real gate and timetable, and what the hook does around them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.rects import Rect
from fastgshare.domain.shares import Share
from fastgshare.sim.experiments import Policy, Setting, run
from fastgshare.sim.gated import DEPTH_NS, IDLE_NS, GatedReplays
from fastgshare.sim.traces import Trace, load, parse

DEVICE = Device("standin", DeviceKind.STANDIN, 80)
BUSY = parse("kernel k blocks=1 us=500\nrepeat 100\nk\nend\nsync\n", "busy")
"""Work that never ends, in bursts of half a millisecond."""


def _busy_share(trace: Trace, quota: float, *, beside: int = 0) -> float:
    """Share of time in which the first has work on the device; others take the rest of the window."""
    gated = GatedReplays(DEVICE)
    try:
        gated.add(trace, Share(60, quota, quota), Rect(0, 0, 60, quota), seed=1)
        for i in range(beside):
            part = (1 - quota) / beside
            gated.add(trace, Share(60, part, part), Rect(40, quota + i * part, 60, part), seed=2 + i)
        gated.run(0.4)
        before_ns = gated.stage.busy_ns(0)
        gated.run(4.0)
        assert gated.peak_sm <= 100
        return (gated.stage.busy_ns(0) - before_ns) / 4e9
    finally:
        gated.close()


@pytest.mark.parametrize("quota", [0.1, 0.3, 0.5, 0.8])
def test_a_backlogged_replay_has_its_quota_within_a_point(quota: float) -> None:
    assert _busy_share(BUSY, quota) == pytest.approx(quota, abs=0.01)


@pytest.mark.parametrize("beside", [1, 2])
def test_and_so_it_has_beside_others(beside: int) -> None:
    assert _busy_share(BUSY, 0.3, beside=beside) == pytest.approx(0.3, abs=0.01)


def test_who_has_no_work_lends_its_time() -> None:
    lazy = parse("kernel k blocks=1 us=500\nhost 1000000\nk\nsync\n", "lazy")
    gated = GatedReplays(DEVICE)
    try:
        gated.add(BUSY, Share(100, 0.3, 1.0), Rect(0, 0, 100, 0.3), seed=1)
        gated.add(lazy, Share(100, 0.7, 0.7), Rect(0, 0.3, 100, 0.7), seed=2)
        gated.run(4.0)
        assert gated.stage.busy_ns(0) > 0.9 * 4e9
        assert gated.stage.requests(1) >= 3
    finally:
        gated.close()


def test_a_token_goes_back_while_its_holder_works_on_the_host() -> None:
    half = parse("kernel k blocks=1 us=5000\nk\nsync\nhost 5000\n", "half")
    gated = GatedReplays(DEVICE)
    try:
        for i in range(2):
            gated.add(half, Share(100, 0.5, 1.0), Rect(0, i / 2, 100, 0.5), seed=1 + i)
        gated.run(4.0)
        answered = gated.stage.requests(0) + gated.stage.requests(1)
        assert answered > 1.3 * 400  # of the 400 that one alone would answer
    finally:
        gated.close()


@pytest.mark.parametrize(("sm", "replicas"), [(24.0, 9), (12.0, 9), (60.0, 3)])
def test_however_many_replicas_never_more_than_all_sms_are_held(sm: float, replicas: int) -> None:
    outcome = run(Setting(load("rnnt"), sm, 1.0, replicas), Policy.OURS, seconds=0.5)
    assert 100 - sm < outcome.peak_sm <= 100
    assert outcome.rps > 0


def test_equal_inputs_give_equal_outcomes() -> None:
    setting = Setting(load("rnnt"), 24, 1.0, 5)
    assert run(setting, Policy.OURS, seconds=1) == run(setting, Policy.OURS, seconds=1)


def test_the_twin_of_the_hook_is_as_patient_as_the_hook() -> None:
    source = (Path(__file__).parents[2] / "native" / "hook" / "pacing.h").read_text()

    def constant(name: str) -> int:
        found = re.search(rf"{name} = ([\d']+);", source)
        assert found is not None
        return int(found[1].replace("'", ""))

    assert (constant("kDepthNs"), constant("kIdleNs")) == (DEPTH_NS, IDLE_NS)
