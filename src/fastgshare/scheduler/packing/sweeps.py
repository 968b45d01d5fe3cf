"""Sweeps: the exact search for boxes, along the time of a window.

Push every piece of any packing towards earlier time and lower SMs until nothing moves: then each starts at 0 or
where something below it ends, and (unless pinned) its left edge is 0 or touches something on its left. Such normal
packings are enumerated once each, in order of (start, left); left edges are sums of widths behind a fixed edge.
What the sweep has passed over is lost, so a branch ends as soon as the free area ahead is smaller than what is left
to place. Source: normal patterns after Herz 1972 and Christofides & Whitlock 1977.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from fastgshare.scheduler.packing.grids import WINDOW, Box, Piece

_Kind = tuple[int, int, int | None]  # width, height, pinned left


class GaveUp(Exception):
    """The search has used all its nodes."""


class Sweep:
    """One search. `nodes` counts positions looked at; `max_nodes` bounds it."""

    def __init__(self, sm_count: int, pieces: Sequence[Piece], fixed: Sequence[Box], max_nodes: int) -> None:
        self.nodes = 0
        self._max_nodes = max_nodes
        self._sm_count = sm_count
        self._middle = sm_count // 2
        self._pieces = pieces
        self._fixed = sorted(fixed, key=lambda b: b.start)
        self._boxes: list[Box] = list(fixed)
        self._loose: list[bool] = [False] * len(fixed)
        counts = Counter((p.width, p.height, p.left) for p in pieces)
        self._kinds: list[_Kind] = sorted(counts, key=lambda k: (-k[0] * k[1], -k[0], k[2] or 0))
        self._counts = [counts[k] for k in self._kinds]
        self._half = self._mirrored_kind()
        self._area_left = sum(p.width * p.height for p in pieces)
        self._lefts = _normal_lefts(sm_count, pieces, fixed)
        self._free_lefts = set(_sums_of_widths(sm_count, pieces, fixed))

    def solve(self) -> list[Box] | None:
        """The boxes of the pieces in their order, or None: proven that there are none. Raises `GaveUp`."""
        if not self._level(0):
            return None
        found: dict[_Kind, list[Box]] = {}
        for box, loose in zip(self._boxes[len(self._fixed) :], self._loose[len(self._fixed) :], strict=True):
            key = (box.right - box.left, box.end - box.start, None if loose else box.left)
            found.setdefault(key, []).append(box)
        return [found[(p.width, p.height, p.left)].pop() for p in self._pieces]

    def _mirrored_kind(self) -> int | None:
        """A single piece that may be kept to the lower half of both axes, as every packing can be mirrored."""
        if self._fixed or any(k[2] is not None for k in self._kinds):
            return None
        return next((i for i, count in enumerate(self._counts) if count == 1), None)

    def _level(self, start: int) -> bool:
        """Place what is left at `start` or later."""
        if not self._area_left:
            return True
        slack = self._free_area(start) - self._area_left
        if slack < 0 or not self._heights_fit(start):
            return False
        return self._row(start, 0, slack)

    def _row(self, start: int, left: int, slack: int) -> bool:
        """Place what is left at (`start`, `left`) or behind; `slack` is the area that may still be lost."""
        self.nodes += 1
        if self.nodes > self._max_nodes:
            raise GaveUp
        lost_per_sm = self._next_edge(start) - start
        lost = 0
        for gap_left, gap_right in self._gaps(start, left):
            for position in self._lefts:
                if position < gap_left:
                    continue
                if position >= gap_right:
                    break
                if lost + (position - gap_left) * lost_per_sm > slack:
                    return False
                lost_here = lost + (position - gap_left) * lost_per_sm
                if self._try_at(start, position, gap_right, slack - lost_here):
                    return True
            lost += (gap_right - gap_left) * lost_per_sm
        return lost <= slack and self._advance(start)

    def _try_at(self, start: int, left: int, gap_right: int, slack: int) -> bool:
        supported = [b for b in self._boxes if b.end == start and b.right > left] if start else None
        if supported is not None and not supported:
            return False
        for index, (width, height, pinned) in enumerate(self._kinds):
            if not self._counts[index] or left + width > gap_right or start + height > WINDOW:
                continue
            if (pinned != left) if pinned is not None else (left not in self._free_lefts):
                continue
            if index == self._half and (2 * left > self._sm_count - width or 2 * start > WINDOW - height):
                continue
            box = Box(left, start, left + width, start + height)
            if supported is not None and not any(b.left < box.right for b in supported):
                continue
            if any(box.overlaps(f) for f in self._fixed):
                continue
            if self._try_box(index, box, pinned is None, slack):
                return True
        return False

    def _try_box(self, index: int, box: Box, loose: bool, slack: int) -> bool:
        self._counts[index] -= 1
        self._area_left -= box.area
        self._boxes.append(box)
        self._loose.append(loose)
        if not self._area_left or self._row(box.start, box.right, slack):
            return True
        self._loose.pop()
        self._boxes.pop()
        self._area_left += box.area
        self._counts[index] += 1
        return False

    def _advance(self, start: int) -> bool:
        ends = [b.end for b in self._boxes if b.end > start]
        if not ends:
            return False
        level = min(ends)
        for box, loose in zip(self._boxes, self._loose, strict=True):
            if loose and box.end == level and box.left and not self._leans(box):
                return False
        return self._level(level)

    def _leans(self, box: Box) -> bool:
        return any(b.right == box.left and b.start < box.end and box.start < b.end for b in self._boxes)

    def _free_area(self, start: int) -> int:
        taken = sum((b.right - b.left) * (b.end - max(b.start, start)) for b in self._boxes if b.end > start)
        return self._sm_count * (WINDOW - start) - taken

    def _heights_fit(self, start: int) -> bool:
        """Whether what must cover the middle SM fits there one after another, and nothing is too long."""
        middle = self._middle
        taken = sum(b.end - max(b.start, start) for b in self._boxes if b.end > start and b.left <= middle < b.right)
        for (width, height, pinned), count in zip(self._kinds, self._counts, strict=True):
            if not count:
                continue
            if start + height > WINDOW:
                return False
            first, last = (pinned, pinned) if pinned is not None else (0, self._sm_count - width)
            if last <= middle < first + width:
                taken += count * height
        return taken <= WINDOW - start

    def _next_edge(self, start: int) -> int:
        """Until when the free SMs at `start` stay unusable if nothing starts there now."""
        shortest = min(k[1] for k, count in zip(self._kinds, self._counts, strict=True) if count)
        edges = [b.end for b in self._boxes if b.end > start] + [f.start for f in self._fixed if f.start > start]
        return min([*edges, start + shortest, WINDOW])

    def _gaps(self, start: int, left: int) -> Iterator[tuple[int, int]]:
        for box in sorted(b for b in self._boxes if b.start <= start < b.end):
            if box.left > left:
                yield left, box.left
            left = max(left, box.right)
        if left < self._sm_count:
            yield left, self._sm_count


def _sums_of_widths(sm_count: int, pieces: Sequence[Piece], fixed: Sequence[Box]) -> set[int]:
    """Left edges that a piece can have whose SM range is free."""
    sums = {0} | {b.right for b in fixed} | {p.left + p.width for p in pieces if p.left is not None}
    for piece in pieces:
        if piece.left is None:
            sums |= {s + piece.width for s in sums if s + piece.width < sm_count}
    return sums


def _normal_lefts(sm_count: int, pieces: Sequence[Piece], fixed: Sequence[Box]) -> list[int]:
    return sorted(_sums_of_widths(sm_count, pieces, fixed) | {p.left for p in pieces if p.left is not None})
