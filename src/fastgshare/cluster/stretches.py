"""Stretches: how fast answers came, and whether that has settled. Pure."""

from __future__ import annotations

import math
import statistics
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Final

_FEWEST: Final = 3


@dataclass(frozen=True, slots=True)
class Rate:
    """Answers a second, and the standard error of that over stretches (0: not known)."""

    rps: float
    error: float = 0.0


class Count:
    """How many answers there were by when, between two of them in proportion to the time.

    So stretches whose ends lie between two answers count parts of them, instead of one too many or too few.
    done_s: when each answer came, in order.
    """

    def __init__(self, done_s: Sequence[float]) -> None:
        moments = [(when, len(list(some))) for when, some in groupby(done_s)]
        self._times = [when for when, _ in moments]
        self._counts = [0.0]
        for _, some in moments[1:]:
            self._counts.append(self._counts[-1] + some)

    @property
    def first_s(self) -> float:
        """When the first came; those of that moment are not counted: what they took began before."""
        return self._times[0] if self._times else 0.0

    @property
    def last_s(self) -> float:
        """When the last came."""
        return self._times[-1] if self._times else 0.0

    def at(self, when_s: float) -> float:
        """Answers until then."""
        place = bisect_right(self._times, when_s)
        if not 0 < place < len(self._times):
            return 0.0 if place == 0 else self._counts[-1]
        before, after = self._times[place - 1 : place + 1]
        part = (when_s - before) / (after - before)
        return self._counts[place - 1] + part * (self._counts[place] - self._counts[place - 1])

    def rates(self, length_s: float) -> list[float]:
        """The rates of as many whole stretches of a length as there are, the first one first."""
        number = int((self.last_s - self.first_s) / length_s + 1e-9)
        ends = [self.at(self.first_s + index * length_s) for index in range(number + 1)]
        return [(after - before) / length_s for before, after in pairwise(ends)]


def stretch_s(wanted_s: float, window_s: float, rps: float, fewest: float) -> float:
    """A length near the wanted one that is a whole number of windows and has enough answers in it.

    A share of a window is used once a window: parts of one would be fast or slow by where they lie.
    """
    needed_s = max(wanted_s, fewest / rps if rps > 0 else 0.0)
    return max(1, math.ceil(needed_s / window_s - 1e-9)) * window_s


def measured(done_s: Sequence[float], length_s: float) -> Rate | None:
    """The rate over stretches of a length; over three equal parts where there are not three of these.

    None where fewer than four moments had answers.
    """
    count = Count(done_s)
    span_s = count.last_s - count.first_s
    if len(set(done_s)) <= _FEWEST or span_s <= 0:
        return None
    rates = count.rates(length_s) if span_s >= _FEWEST * length_s else count.rates(span_s / _FEWEST)
    return Rate(statistics.fmean(rates), statistics.stdev(rates) / math.sqrt(len(rates)) if len(rates) > 1 else 0.0)


def settled(rates: Sequence[float], tolerance: float) -> bool:
    """Whether the last two stretches were as fast as each other, or the last two as the two before them."""
    pairs = [rates[-2:-1], rates[-1:]], [rates[-4:-2], rates[-2:]]
    return any(
        before and len(before) == len(after) and _near(statistics.fmean(before), statistics.fmean(after), tolerance)
        for before, after in pairs
    )


def _near(one: float, other: float, tolerance: float) -> bool:
    return max(one, other) > 0 and abs(one - other) <= tolerance * max(one, other)
