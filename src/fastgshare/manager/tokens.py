"""Token policy: who may use the time that its owner does not need. Pure.

A placement's offsets are a timetable: every instance owns a slot in every window, and follows it without asking
anybody. What is left are the gaps of the timetable and the slots of instances that have no work. `plan_loans`
gives them away, as parts of every window, until the set of instances with work changes. Units are those of the
wire: nanoseconds within the window and milli-percent of the device's SMs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

WHOLE_DEVICE: Final = 100_000
"""All SMs of a device, in milli-percent."""

MAX_LOANS: Final = 8
"""Loans an instance's cell has room for."""

LONGEST_WINDOW_NS: Final = 2_000_000_000
"""Whatever bursts ask for, nobody waits for its slot for longer."""

BURSTS_IN_SLOT: Final = 2
"""Longest bursts that every slot has room for, where the window can be chosen."""

SHORTEST_LOAN_NS: Final = 100_000
"""Waking up for less than this costs more than it brings."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One instance as the policy sees it. slot_start_ns == slot_end_ns: it owns no slot (forced set).

    group: entries of different groups never use the device at the same time, whatever their SMs.
    """

    index: int
    sm_offset: int
    sm: int
    slot_start_ns: int
    slot_end_ns: int
    limit_ns: int
    burst_ns: int
    wanting: bool
    group: int = 0

    @property
    def slot_ns(self) -> int:
        """Length of its own slot."""
        return self.slot_end_ns - self.slot_start_ns


@dataclass(frozen=True, slots=True)
class Loan:
    """Bursts may start in [start_ns, end_ns) of every window, on SMs from sm_offset, and must end by until_ns.

    until_ns may lie in the next window, where the borrower's own slot or more free time follows.
    lenders: bit mask of the entries that own a part of it and have no work now.
    """

    start_ns: int
    end_ns: int
    until_ns: int
    sm_offset: int
    lenders: int


@dataclass(frozen=True, slots=True)
class _Taken:
    """A part of every window that is not free: a slot whose owner has work, or a loan given already."""

    start_ns: int
    end_ns: int
    lo: int
    hi: int
    owner: int
    group: int

    def bars(self, entry: Entry, lo: int) -> bool:
        """Whether an entry cannot be at work beside it on SMs from `lo`."""
        return self.owner != entry.index and (self.group != entry.group or (self.lo < lo + entry.sm and lo < self.hi))


@dataclass(frozen=True, slots=True)
class _Piece:
    """A part of every window that an entry could borrow, on SMs from `lo`; bursts have to end by until_ns."""

    start_ns: int
    end_ns: int
    until_ns: int
    lo: int

    @property
    def room_ns(self) -> int:
        """Longest burst that fits."""
        return self.until_ns - self.start_ns

    def without(self, start_ns: int, end_ns: int) -> list[_Piece]:
        """What is left when [start_ns, end_ns) is used otherwise; what comes before has to end by then."""
        if end_ns <= self.start_ns or self.end_ns <= start_ns:
            return [self]
        before = _Piece(self.start_ns, start_ns, start_ns, self.lo)
        after = _Piece(end_ns, self.end_ns, self.until_ns, self.lo)
        return [p for p in (before, after) if p.start_ns < p.end_ns]


Span = tuple[int, int]


def plan_loans(
    entries: Sequence[Entry], window_ns: int, *, pinned: bool, turn: int = 0
) -> tuple[dict[int, tuple[Loan, ...]], bool]:
    """Loans for every entry with work, by index, and whether somebody could use more than it gets.

    pinned: instances cannot leave their own SM range (CPU cores); else a loan may lie on any free SMs.
    turn: whose turn it is to choose first; advance it now and then, so that gaps go round.

    Loans never overlap each other or a slot whose owner has work, never lift an instance above its limit, and
    leave nothing idle that an instance with work and below its limit could use for its shortest useful time.
    """
    taken = [
        _Taken(e.slot_start_ns, e.slot_end_ns, *_range(e), e.index, e.group) for e in entries if e.wanting and e.slot_ns
    ]
    idle = [e for e in entries if not e.wanting and e.slot_ns]
    loans: dict[int, tuple[Loan, ...]] = {}
    hungry = False
    for entry in _in_turn(entries, turn):
        budget = entry.limit_ns - entry.slot_ns
        granted = _lend_to(entry, budget, taken, idle, window_ns, pinned) if budget >= SHORTEST_LOAN_NS else ()
        loans[entry.index] = granted
        taken += [
            _Taken(x.start_ns, x.end_ns, x.sm_offset, x.sm_offset + entry.sm, entry.index, entry.group) for x in granted
        ]
        hungry |= budget - sum(x.end_ns - x.start_ns for x in granted) >= SHORTEST_LOAN_NS
    return loans, hungry


def window_for(shares: Iterable[tuple[int, float]], base_ns: int) -> int:
    """Window in which two of every instance's longest bursts fit its slot: shares are (burst_ns, quota_request).

    With one, what a burst overruns or leaves of a slot is as long as the slot itself, and takes many windows to even
    out. Never below `base_ns`, never above the longest window, in steps of 10 ms so that small changes move nothing.
    """
    step_ns = 10_000_000
    needed = max((BURSTS_IN_SLOT * burst_ns / quota for burst_ns, quota in shares), default=0.0)
    if needed <= base_ns:
        return base_ns
    return min(LONGEST_WINDOW_NS, -(-int(needed) // step_ns) * step_ns)


def _range(entry: Entry) -> Span:
    return entry.sm_offset, entry.sm_offset + entry.sm


def _in_turn(entries: Sequence[Entry], turn: int) -> list[Entry]:
    wanting = [e for e in entries if e.wanting]
    first = turn % len(wanting) if wanting else 0
    return wanting[first:] + wanting[:first]


def _lend_to(
    entry: Entry, budget: int, taken: Sequence[_Taken], idle: Sequence[Entry], window_ns: int, pinned: bool
) -> tuple[Loan, ...]:
    """Free time for `entry` within `budget`, longest pieces first, on its own SMs where they are as good as others."""
    pieces = [p for lo in _offsets(entry, taken, pinned) for p in _free_pieces(entry, lo, taken, window_ns)]
    loans: list[Loan] = []
    while len(loans) < MAX_LOANS and budget >= max(SHORTEST_LOAN_NS, entry.burst_ns):
        usable = [p for p in pieces if p.end_ns - p.start_ns >= SHORTEST_LOAN_NS and p.room_ns >= entry.burst_ns]
        if not usable:
            break
        best = max(usable, key=lambda p: min(budget, p.end_ns - p.start_ns))  # the first of equals: own SMs
        cut = min(best.end_ns, best.start_ns + budget)
        until = best.until_ns if cut == best.end_ns else cut
        if until - best.start_ns < entry.burst_ns:
            break
        lenders = _lenders(idle, entry, best.start_ns, cut, best.lo)
        loans.append(Loan(best.start_ns, cut, until, best.lo, lenders))
        budget -= cut - best.start_ns
        pieces = [rest for p in pieces for rest in p.without(best.start_ns, cut)]
    return tuple(sorted(loans, key=lambda loan: loan.start_ns))


def _offsets(entry: Entry, taken: Sequence[_Taken], pinned: bool) -> list[int]:
    if pinned:
        return [entry.sm_offset]
    edges = {0, WHOLE_DEVICE - entry.sm} | {t.hi for t in taken} | {t.lo - entry.sm for t in taken}
    return [entry.sm_offset, *sorted(lo for lo in edges if 0 <= lo <= WHOLE_DEVICE - entry.sm)]


def _free_pieces(entry: Entry, lo: int, taken: Sequence[_Taken], window_ns: int) -> list[_Piece]:
    """Parts of the window free for `entry` on [lo, lo + sm), each with the time until which it stays free or its own.

    Looks two windows ahead, since what is free at a window's end may go on in the next.
    """
    blocked = [(t.start_ns + shift, t.end_ns + shift) for t in taken if t.bars(entry, lo) for shift in (0, window_ns)]
    own = (entry.slot_start_ns, entry.slot_end_ns)
    pieces: list[_Piece] = []
    for start, end in _gaps(blocked, 2 * window_ns):
        for part in _without(own, (start, min(end, window_ns))):
            until = end if lo == entry.sm_offset else _until_own_slot(own, part, end, window_ns)
            pieces.append(_Piece(*part, until, lo))
    return pieces


def _until_own_slot(own: Span, part: Span, end: int, window_ns: int) -> int:
    """On foreign SMs a loan has to end before the borrower's own slot begins elsewhere."""
    if own[0] == own[1]:
        return end
    following = own[0] if own[0] >= part[1] else own[0] + window_ns
    return min(end, following)


def _gaps(blocked: Iterable[Span], end: int) -> Iterable[Span]:
    at = 0
    for start, stop in sorted(blocked):
        if start > at:
            yield at, min(start, end)
        at = max(at, stop)
    if at < end:
        yield at, end


def _without(hole: Span, span: Span) -> list[Span]:
    parts = [(span[0], min(span[1], hole[0])), (max(span[0], hole[1]), span[1])] if hole[0] < hole[1] else [span]
    return [(start, end) for start, end in parts if start < end]


def _lenders(idle: Iterable[Entry], borrower: Entry, start: int, end: int, lo: int) -> int:
    mask = 0
    for owner in idle:
        slot = _Taken(owner.slot_start_ns, owner.slot_end_ns, *_range(owner), owner.index, owner.group)
        if slot.start_ns < end and start < slot.end_ns and slot.bars(borrower, lo):
            mask |= 1 << owner.index
    return mask
