from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastgshare.domain.ledger import LedgerEntry
from fastgshare.domain.readings import (
    MEANINGS,
    XIDS,
    Part,
    Reading,
    XidVerdict,
    attribute,
    describe_xid,
    growth,
    judge_xid,
)


def entry(instance_id: str, received_s: float, sm: float = 100.0, window_s: float = 1.0) -> LedgerEntry:
    return LedgerEntry(-1, 0.0, window_s, instance_id, sm, 0.5, received_s, 0.1, 0.9, 0.25)


@pytest.mark.parametrize(
    ("verdict", "numbers"),
    [
        (XidVerdict.APPLICATION, (13, 31, 43, 45, 68, 69, 94)),
        (XidVerdict.DRAIN, (46, 48, 64, 74, 95, 119, 120, 140)),
        (XidVerdict.LOST, (79,)),
        (XidVerdict.NOTICE, (63, 92, 154)),
        (XidVerdict.UNKNOWN, (0, 1, 999, 2**40)),
    ],
)
def test_what_follows_from_an_xid(verdict: XidVerdict, numbers: tuple[int, ...]) -> None:
    assert {judge_xid(number) for number in numbers} == {verdict}


def test_an_xid_in_words() -> None:
    assert describe_xid(79) == "XID 79 (the device fell off the bus)"
    assert describe_xid(999) == "XID 999"
    assert MEANINGS.keys() <= XIDS.keys()


def test_the_gravest_of_what_happened_counts() -> None:
    assert Reading(1.0).verdict is None
    assert Reading(1.0, xids=((0.5, 63),)).verdict is XidVerdict.NOTICE
    assert Reading(1.0, xids=((0.5, 999),)).verdict is XidVerdict.UNKNOWN
    assert Reading(1.0, xids=((0.5, 48), (0.6, 31))).verdict is XidVerdict.DRAIN
    assert Reading(1.0, xids=((0.5, 48), (0.6, 79))).verdict is XidVerdict.LOST
    assert Reading(1.0, lost=True).verdict is XidVerdict.LOST


def test_a_figure_of_zero_is_a_figure() -> None:
    assert not Reading(1.0, xids=((0.5, 31),), lost=True, problem="lost").has_figures
    assert Reading(1.0, sm_utilisation=0.0).has_figures
    assert Reading(1.0, sm_clock_mhz=0.0, problem="not all").has_figures


def test_use_is_divided_as_sm_seconds_were_held() -> None:
    reading = Reading(1.0, sm_utilisation=0.6, sm_occupancy=0.3)
    parts = attribute(reading, [entry("a", 0.5, sm=40), entry("b", 0.25, sm=80), entry("c", 0.2, sm=100)])
    assert parts["a"].sm_utilisation == parts["b"].sm_utilisation == pytest.approx(0.2)
    assert parts["c"] == Part(pytest.approx(0.2), pytest.approx(0.1))


def test_several_entries_of_an_instance_add_up() -> None:
    reading = Reading(1.0, sm_utilisation=0.9)
    parts = attribute(reading, [entry("a", 0.1), entry("a", 0.2), entry("b", 0.6)])
    assert parts["a"].sm_utilisation == pytest.approx(0.3)


def test_absent_stays_absent() -> None:
    assert attribute(Reading(1.0, sm_occupancy=0.4), [entry("a", 1.0)]) == {"a": Part(None, 0.4)}
    assert attribute(Reading(1.0), [entry("a", 0.0)]) == {"a": Part(None, None)}


def test_who_held_nothing_has_no_part() -> None:
    reading = Reading(1.0, sm_utilisation=0.5, sm_occupancy=0.5)
    assert attribute(reading, [entry("a", 0.0), entry("b", 0.0)]) == {"a": Part(0.0, 0.0), "b": Part(0.0, 0.0)}
    assert attribute(reading, []) == {}


@given(
    st.floats(0, 1),
    st.lists(st.builds(entry, st.sampled_from("abcd"), st.floats(0, 1e6), st.floats(1, 100)), max_size=20),
)
def test_the_parts_are_the_whole(used: float, entries: list[LedgerEntry]) -> None:
    parts = attribute(Reading(1.0, sm_utilisation=used), entries)
    assert parts.keys() == {each.instance_id for each in entries}
    values = [part.sm_utilisation for part in parts.values() if part.sm_utilisation is not None]
    assert all(0 <= value <= used * (1 + 1e-9) for value in values)
    if any(each.received_s > 0 for each in entries):
        assert sum(values) == pytest.approx(used)


def test_sums_become_what_lies_between_two_looks() -> None:
    before = [entry("a", 2.0, window_s=4.0), entry("gone", 1.0)]
    now = [entry("a", 2.5, window_s=5.0), entry("new", 0.75), entry("gone", 0.25, window_s=0.5)]
    a, new, again = growth(before, now)
    assert (a.received_s, a.window_s, a.window_start_s, a.entitled_s) == (0.5, 1.0, 4.0, 0.0)
    assert (new, again) == (now[1], now[2])
