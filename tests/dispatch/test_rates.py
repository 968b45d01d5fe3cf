from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastgshare.dispatch.rates import CompletionRate


def test_nothing_is_known_at_first() -> None:
    rate = CompletionRate()
    assert rate.per_s(0.0) is None
    rate.begin(1.0)
    assert rate.per_s(2.0) is None


@given(st.floats(0.001, 2.0), st.integers(1, 32), st.integers(20, 200))
def test_a_steady_rate_is_found(step_s: float, count: int, steps: int) -> None:
    rate = CompletionRate(memory_s=10 * step_s)
    rate.begin(0.0)
    for step in range(1, steps + 1):
        rate.record(count, step * step_s)
    assert rate.per_s(steps * step_s) == pytest.approx(count / step_s, rel=0.15)


def test_idle_time_does_not_count() -> None:
    rate = CompletionRate()
    rate.begin(0.0)
    rate.record(10, 1.0)
    before = rate.per_s(1.0)
    rate.end(1.0)
    assert rate.per_s(1000.0) == before
    rate.begin(1000.0)
    assert rate.per_s(1000.0) == before


def test_a_change_shows_within_the_memory() -> None:
    rate = CompletionRate(memory_s=1.0)
    rate.begin(0.0)
    for step in range(100):
        rate.record(10, step * 0.1)
    for step in range(100, 150):
        rate.record(1, step * 0.1)
    assert rate.per_s(14.9) == pytest.approx(10, rel=0.2)
