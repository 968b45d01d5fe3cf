from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastgshare.cluster.lives import IllegalState, Life
from fastgshare.domain.functions import Function
from fastgshare.domain.instances import Instance, InstanceState, InstanceStatus
from fastgshare.domain.rects import Placement, Rect
from fastgshare.domain.shares import Share

S = InstanceState
ALLOWED = {
    (S.STARTING, S.READY),
    (S.STARTING, S.DRAINING),
    (S.READY, S.DRAINING),
    (S.DRAINING, S.GONE),
    *((state, S.FAILED) for state in (S.STARTING, S.READY, S.DRAINING)),
    (S.FAILED, S.GONE),
}


def a_life() -> tuple[Life, list[InstanceStatus]]:
    told: list[InstanceStatus] = []
    function = Function("f", Share(50, 0.5, 0.5), handler="m:h")
    return Life(Instance("f-1", function, Placement("f-1", "cpu", Rect(0, 0, 50, 0.5))), told.append), told


@given(st.lists(st.sampled_from(list(S)), max_size=8))
def test_only_allowed_states_follow_and_an_illegal_one_changes_nothing(states: list[InstanceState]) -> None:
    life, told = a_life()
    for state in states:
        before, count = life.status, len(told)
        if (life.state, state) in ALLOWED:
            life.go(state, reason="why")
            assert told[count:] == [life.status]
            assert life.state is state
        else:
            with pytest.raises(IllegalState):
                life.go(state)
            assert (life.status, len(told)) == (before, count)


def test_what_is_known_of_an_instance_stays_known() -> None:
    life, _ = a_life()
    life.begin(41)
    life.go(S.READY, burst_s=0.004)
    life.go(S.DRAINING)
    assert (life.status.pid, life.status.burst_s) == (41, 0.004)
    life.go(S.GONE)
    assert (life.status.pid, life.status.burst_s) == (0, 0.004)
