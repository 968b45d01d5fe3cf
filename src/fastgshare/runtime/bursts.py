"""How long bursts take: estimates from the recent past (pure)."""

from __future__ import annotations

import math
from collections import deque
from typing import Final

_RECENT: Final = 32
_QUANTILE: Final = 0.9
_GROWTH: Final = 1.1
_UNKNOWN_S: Final = 0.001

Kind = tuple[str, int]
"""What a burst does (a model's reference, or the start of a request) and the class of its input's size."""


def kind_of(what: str, size: int) -> Kind:
    """The kind of a burst; sizes within half an octave are of one class."""
    return what, math.ceil(2 * math.log2(max(1, size)))


def _rank(count: int) -> int:
    """Which of so many bursts, in order of length, is the estimate (the first is 1)."""
    return count if count < 3 else min(count - 1, math.ceil(_QUANTILE * count))


class Bursts:
    """Estimates per kind of burst: the 90% quantile of the last 32, leaving out one at least once there are three.

    No maximum, because that keeps for long what the machine did once. floor_s: known beforehand (0: nothing).
    """

    def __init__(self, floor_s: float = 0.0) -> None:
        self._floor_s = floor_s
        self._recent: dict[Kind, deque[float]] = {}
        self._estimates: dict[Kind, float] = {}
        self._told_s = 0.0

    @property
    def longest_s(self) -> float:
        """The longest estimate of all kinds, in seconds, at least the floor."""
        return max(self._floor_s, *self._estimates.values(), 0.0)

    def record(self, kind: Kind, burst_s: float) -> None:
        """Learn from a burst that has ended."""
        recent = self._recent.setdefault(kind, deque(maxlen=_RECENT))
        recent.append(burst_s)
        self._estimates[kind] = sorted(recent)[_rank(len(recent)) - 1]

    def estimate(self, kind: Kind) -> float:
        """How long a burst of this kind will take, in seconds.

        Of a kind never seen: the nearest of its relatives, grown with the size; else the longest of all; else 1 ms.
        """
        known = self._estimates.get(kind)
        if known is not None:
            return known
        what, size_class = kind
        relatives = [(abs(size_class - c), c, s) for (w, c), s in self._estimates.items() if w == what]
        if not relatives:
            return self.longest_s or _UNKNOWN_S
        _, nearest, burst_s = min(relatives)
        return burst_s * max(1.0, 2 ** ((size_class - nearest) / 2))

    def news(self) -> float | None:
        """The longest burst if it has grown notably (by a tenth) since this last said so, else None."""
        longest_s = self.longest_s
        if longest_s <= self._told_s * _GROWTH:
            return None
        self._told_s = longest_s
        return longest_s

    def forget(self) -> None:
        """Drop what was learnt: the first runs of a model are not like the others."""
        self._recent.clear()
        self._estimates.clear()
        self._told_s = 0.0
