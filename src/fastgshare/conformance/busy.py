"""When a device was busy with a program's work, as the program's own events tell. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

Span = tuple[int, int, int]
"""Start, end, and time of work in between: CLOCK_MONOTONIC nanoseconds. Spans of one program are in order, disjoint."""


def work_in(spans: Iterable[Span], start_ns: int, end_ns: int) -> float:
    """Nanoseconds of work within [start_ns, end_ns)."""
    total = 0.0
    for start, end, work in spans:
        inside = min(end, end_ns) - max(start, start_ns)
        if inside > 0:
            total += work * inside / (end - start)
    return total


def fraction(spans: Sequence[Span], start_ns: int, end_ns: int) -> float:
    """Share of [start_ns, end_ns) in which there was work."""
    return work_in(spans, start_ns, end_ns) / max(1, end_ns - start_ns)


def fractions(spans: Sequence[Span], start_ns: int, end_ns: int, piece_ns: int) -> list[float]:
    """The same for every whole piece of [start_ns, end_ns)."""
    edges = range(start_ns, end_ns + 1, piece_ns)
    return [fraction(spans, a, b) for a, b in pairwise(edges)]


def together(programs: Sequence[Sequence[Span]], start_ns: int, end_ns: int) -> tuple[int, int]:
    """For how long more than one of the programs was at work in [start_ns, end_ns), in all and at most at a time."""
    total = longest = 0
    for start, end in _overlaps(programs):
        inside = min(end, end_ns) - max(start, start_ns)
        total += max(0, inside)
        longest = max(longest, inside)
    return total, longest


def _overlaps(programs: Sequence[Sequence[Span]]) -> Iterator[tuple[int, int]]:
    # Begins come before ends at the same instant, so that what touches is one overlap; an empty one may come of it.
    edges = sorted((at, -change) for spans in programs for a, b, _ in spans for at, change in ((a, 1), (b, -1)))
    at_work, since = 0, 0
    for at, less in edges:
        if at_work < 2 <= at_work - less:
            since = at
        elif at_work - less < 2 <= at_work:
            yield since, at
        at_work -= less
