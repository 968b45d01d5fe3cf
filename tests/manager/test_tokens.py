from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from fastgshare.domain.rects import Rect
from fastgshare.manager.tokens import MAX_LOANS, SHORTEST_LOAN_NS, Entry, plan_loans, window_for
from fastgshare.testing.strategies import cut_rects

WINDOW_NS = 40_000_000


@st.composite
def entry_sets(draw: st.DrawFn) -> list[Entry]:
    """Certified sets: some of a cut device's rects, with limits, bursts and who has work."""
    rects = draw(cut_rects())
    kept = [rect for rect in rects if draw(st.booleans()) or len(rects) == 1]
    return [_entry(draw, index, rect) for index, rect in enumerate(kept)]


def _entry(draw: st.DrawFn, index: int, rect: Rect) -> Entry:
    start, end = round(rect.quota_offset * WINDOW_NS), round(rect.quota_end * WINDOW_NS)
    limit = max(end - start, round(draw(st.sampled_from([0.0, 0.5, 0.8, 1.0])) * WINDOW_NS))
    burst = draw(st.sampled_from([0, 2_000_000, 8_000_000]))
    sm_offset, sm = round(rect.sm_offset * 1000), round(rect.sm * 1000)
    return Entry(index, sm_offset, sm, start, end, limit, burst, draw(st.booleans()))


def _parts(entries: list[Entry], pinned: bool, turn: int) -> tuple[list[tuple[int, int, int, int, int]], bool]:
    """(owner, start, end, lo, hi) of all slots of those with work, and of all loans."""
    loans, hungry = plan_loans(entries, WINDOW_NS, pinned=pinned, turn=turn)
    parts = [(e.index, e.slot_start_ns, e.slot_end_ns, e.sm_offset, e.sm_offset + e.sm) for e in entries if e.wanting]
    for e in entries:
        parts += [(e.index, x.start_ns, x.end_ns, x.sm_offset, x.sm_offset + e.sm) for x in loans.get(e.index, ())]
    return parts, hungry


@given(entry_sets(), st.booleans(), st.integers(0, 7))
def test_nobody_is_given_what_somebody_else_has(entries: list[Entry], pinned: bool, turn: int) -> None:
    parts, _ = _parts(entries, pinned, turn)
    for i, (_, start, end, lo, hi) in enumerate(parts):
        assert 0 <= start <= end <= WINDOW_NS and 0 <= lo < hi <= 100_000
        for _, start2, end2, lo2, hi2 in parts[i + 1 :]:
            assert end <= start2 or end2 <= start or hi <= lo2 or hi2 <= lo


@given(entry_sets(), st.booleans(), st.integers(0, 7))
def test_nobody_is_in_two_places_or_lent_more_than_its_limit(entries: list[Entry], pinned: bool, turn: int) -> None:
    loans, _ = plan_loans(entries, WINDOW_NS, pinned=pinned, turn=turn)
    for e in entries:
        given_to = loans.get(e.index, ())
        assert len(given_to) <= MAX_LOANS
        assert e.wanting or not given_to
        assert e.slot_ns + sum(x.end_ns - x.start_ns for x in given_to) <= e.limit_ns
        spans = sorted([(x.start_ns, x.end_ns) for x in given_to] + [(e.slot_start_ns, e.slot_end_ns)])
        assert all(a[1] <= b[0] for a, b in pairwise(spans))
        assert all(x.until_ns - x.start_ns >= e.burst_ns for x in given_to)
        if pinned:
            assert all(x.sm_offset == e.sm_offset for x in given_to)


@given(entry_sets(), st.booleans(), st.integers(0, 7))
def test_bursts_of_a_borrower_end_before_an_owner_with_work_begins(
    entries: list[Entry], pinned: bool, turn: int
) -> None:
    loans, _ = plan_loans(entries, WINDOW_NS, pinned=pinned, turn=turn)
    for e in entries:
        for loan in loans.get(e.index, ()):
            for owner in entries:
                if owner.index == e.index or not owner.wanting:
                    continue
                apart = owner.sm_offset + owner.sm <= loan.sm_offset or loan.sm_offset + e.sm <= owner.sm_offset
                for shift in (0, WINDOW_NS):
                    start, end = owner.slot_start_ns + shift, owner.slot_end_ns + shift
                    assert apart or loan.until_ns <= start or end <= loan.start_ns


@given(entry_sets(), st.booleans(), st.integers(0, 7))
def test_nothing_useful_stays_idle_while_somebody_waits_below_its_limit(
    entries: list[Entry], pinned: bool, turn: int
) -> None:
    parts, _ = _parts(entries, pinned, turn)
    loans, _ = plan_loans(entries, WINDOW_NS, pinned=pinned, turn=turn)
    for e in entries:
        given_to = loans.get(e.index, ())
        left = e.limit_ns - e.slot_ns - sum(x.end_ns - x.start_ns for x in given_to)
        shortest = max(SHORTEST_LOAN_NS, e.burst_ns)
        if not e.wanting or left < shortest or len(given_to) == MAX_LOANS:
            continue
        mine = [(start, end) for owner, start, end, _, _ in parts if owner == e.index]
        offsets = {e.sm_offset} if pinned else {0, 100_000 - e.sm} | {hi for *_, hi in parts if hi + e.sm <= 100_000}
        for lo in offsets:
            blocked = mine + [(a, b) for _, a, b, lo2, hi2 in parts if lo2 < lo + e.sm and lo < hi2]
            assert _longest_gap(blocked) < shortest


def _longest_gap(blocked: list[tuple[int, int]]) -> int:
    longest = at = 0
    for start, end in sorted(blocked):
        longest, at = max(longest, start - at), max(at, end)
    return max(longest, WINDOW_NS - at)


@given(entry_sets())
def test_a_loan_names_every_owner_whose_time_it_uses(entries: list[Entry]) -> None:
    loans, _ = plan_loans(entries, WINDOW_NS, pinned=False)
    for e in entries:
        for loan in loans.get(e.index, ()):
            for owner in entries:
                in_time = owner.slot_start_ns < loan.end_ns and loan.start_ns < owner.slot_end_ns
                in_space = owner.sm_offset < loan.sm_offset + e.sm and loan.sm_offset < owner.sm_offset + owner.sm
                uses = not owner.wanting and owner.index != e.index and in_time and in_space
                assert bool(loan.lenders >> owner.index & 1) == uses


def test_gaps_go_round() -> None:
    rivals = [Entry(i, 0, 100_000, i * 5_000_000, (i + 1) * 5_000_000, WINDOW_NS, 0, True) for i in range(2)]
    first = [plan_loans(rivals, WINDOW_NS, pinned=True, turn=turn)[0] for turn in (0, 1)]
    assert first[0][0] and not first[0][1]
    assert first[1][1] and not first[1][0]


def test_the_window_grows_with_the_longest_burst() -> None:
    assert window_for([], WINDOW_NS) == WINDOW_NS
    assert window_for([(2_000_000, 0.5)], WINDOW_NS) == WINDOW_NS
    assert window_for([(60_000_001, 0.5)], WINDOW_NS) == 250_000_000
    assert window_for([(60_000_000_000, 0.1)], WINDOW_NS) == 2_000_000_000
