from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastgshare.runtime.bursts import Bursts, kind_of

lengths = st.lists(st.floats(1e-4, 1.0), min_size=1, max_size=100)


@given(lengths)
def test_an_estimate_lies_within_what_was_seen(taken: list[float]) -> None:
    bursts = Bursts()
    for burst_s in taken:
        bursts.record(("m", 4), burst_s)
    recent = taken[-32:]
    assert min(recent) <= bursts.estimate(("m", 4)) <= max(recent)
    longer = sum(burst_s > bursts.estimate(("m", 4)) for burst_s in recent)
    assert longer <= max(1, 0.1 * len(recent))


def test_the_one_that_took_longest_is_left_out_of_three() -> None:
    bursts = Bursts()
    for burst_s in (0.5, 0.011, 0.010):
        bursts.record(("m", 4), burst_s)
    assert bursts.estimate(("m", 4)) == 0.011


def test_what_happened_once_is_not_what_is_expected() -> None:
    bursts = Bursts()
    for burst_s in [0.010] * 15 + [0.500] + [0.010] * 15:
        bursts.record(("m", 4), burst_s)
    assert bursts.estimate(("m", 4)) == 0.010


def test_a_larger_input_of_a_known_model_is_expected_to_take_longer() -> None:
    bursts = Bursts()
    bursts.record(kind_of("m", 1000), 0.010)
    assert bursts.estimate(kind_of("m", 4000)) == pytest.approx(0.040)
    assert bursts.estimate(kind_of("m", 10)) == 0.010


def test_an_unknown_kind_is_expected_to_take_as_long_as_the_longest() -> None:
    bursts = Bursts()
    assert bursts.estimate(("m", 4)) == 0.001
    bursts.record(("m", 4), 0.5)
    assert bursts.estimate(("other", 4)) == 0.5


@given(lengths)
def test_news_are_told_when_the_longest_burst_grows_notably(taken: list[float]) -> None:
    bursts, told = Bursts(), 0.0
    for burst_s in taken:
        bursts.record(("m", 4), burst_s)
        news = bursts.news()
        if news is not None:
            assert news > told * 1.1
            told = news
    assert bursts.longest_s <= told * 1.1


def test_a_floor_holds_until_a_burst_is_longer() -> None:
    bursts = Bursts(floor_s=0.2)
    assert bursts.longest_s == 0.2
    bursts.record(("m", 4), 0.1)
    assert (bursts.longest_s, bursts.estimate(("m", 4))) == (0.2, 0.1)
    bursts.record(("m", 4), 0.3)
    assert bursts.longest_s == 0.3


def test_what_is_forgotten_is_gone() -> None:
    bursts = Bursts()
    bursts.record(("m", 4), 0.3)
    bursts.forget()
    assert (bursts.longest_s, bursts.news()) == (0.0, None)
