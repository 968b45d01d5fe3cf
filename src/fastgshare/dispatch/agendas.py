"""Agendas: ids in the order of a key, from which any id may leave at any time."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heapify, heappop, heappush

_SLACK = 64
"""Entries of ids that have left which an agenda keeps before it sweeps them out."""


class Agenda:
    """Ids ordered by a key, smallest first; ids with equal keys in the order in which they came.

    Adding, leaving and taking the first cost O(log n) at most; an id that leaves is swept out later.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, int]] = []
        self._present: dict[int, tuple[float, int, int]] = {}
        self._sequence = 0

    def __len__(self) -> int:
        return len(self._present)

    def __contains__(self, id: int) -> bool:
        return id in self._present

    def __iter__(self) -> Iterator[int]:
        """The ids that are present, in the order in which they came."""
        return iter(self._present)

    def add(self, id: int, key: float) -> None:
        """Put an id that is not present in its place."""
        self._sequence += 1
        entry = (key, self._sequence, id)
        self._present[id] = entry
        heappush(self._heap, entry)

    def discard(self, id: int) -> None:
        """Let an id leave; nothing happens if it is not present."""
        if self._present.pop(id, None) is not None and len(self._heap) > 2 * len(self._present) + _SLACK:
            self._heap = list(self._present.values())
            heapify(self._heap)

    def first(self) -> tuple[float, int] | None:
        """Key and id of the first, None if nothing is there."""
        heap = self._heap
        while heap:
            entry = heap[0]
            if self._present.get(entry[2]) is entry:
                return entry[0], entry[2]
            heappop(heap)
        return None
