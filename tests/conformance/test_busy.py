"""Arithmetic on when a device was busy."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastgshare.conformance.busy import Span, fraction, fractions, together, work_in


@st.composite
def programs(draw: st.DrawFn) -> list[list[Span]]:
    """A few programs, each with spans in order."""
    found = []
    for _ in range(draw(st.integers(1, 4))):
        edges = sorted(set(draw(st.lists(st.integers(0, 200), max_size=12))))
        pairs = zip(edges[::2], edges[1::2], strict=False)
        found.append([(start, end, end - start) for start, end in pairs])
    return found


def test_work_is_cut_where_the_time_ends() -> None:
    spans = [(0, 10, 10), (20, 40, 10)]  # the second is half gaps
    assert work_in(spans, 0, 100) == 20
    assert work_in(spans, 5, 30) == 10
    assert fraction(spans, 0, 40) == 0.5
    assert fractions(spans, 0, 45, 20) == [0.5, 0.5]


def test_no_time_is_no_fraction() -> None:
    assert fraction([(0, 10, 10)], 5, 5) == 0
    assert fractions([], 0, 10, 20) == []


@given(programs(), st.integers(0, 200), st.integers(0, 200))
def test_overlaps_are_what_counting_every_instant_gives(spans: list[list[Span]], a: int, b: int) -> None:
    start, end = min(a, b), max(a, b)
    busy = [sum(any(s <= at < e for s, e, _ in program) for program in spans) for at in range(start, end)]
    total, longest = together(spans, start, end)
    assert total == sum(count >= 2 for count in busy)
    assert longest == max(map(len, "".join("x" if count >= 2 else " " for count in busy).split()), default=0)


@given(programs(), st.integers(1, 50))
def test_pieces_add_up(spans: list[list[Span]], piece: int) -> None:
    for program in spans:
        pieces = fractions(program, 0, 200 // piece * piece, piece)
        assert sum(pieces) * piece == pytest.approx(work_in(program, 0, 200 // piece * piece))
