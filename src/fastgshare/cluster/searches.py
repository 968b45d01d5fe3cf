"""Searches: which rates to try, to find the highest that a promise holds at. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Final

_FIRST: Final = 0.75
_CLOSE: Final = 0.04
"""Of the capacity: rates nearer to each other than this are not told apart by loads of some seconds."""


@dataclass(slots=True)
class Search:
    """A bisection between no load and the capacity, at most so many rates."""

    capacity_rps: float
    left: int
    _good: float = 0.0
    _bad: float = 1.0
    _tried: bool = False

    def next_rps(self) -> float | None:
        """The rate to try now; None once it is known well enough."""
        if self.left <= 0 or self._bad - self._good <= _CLOSE or self.capacity_rps <= 0:
            return None
        part = _FIRST if not self._tried else (self._good + self._bad) / 2
        return self.capacity_rps * part

    @property
    def error_rps(self) -> float:
        """How far the highest rate that it held at may be from the highest there is: the standard error."""
        return self.capacity_rps * (self._bad - self._good) / sqrt(12)

    def tell(self, rps: float, holds: bool) -> None:
        """Whether the promise held at the rate that was tried."""
        self._tried = True
        self.left -= 1
        if holds:
            self._good = max(self._good, rps / self.capacity_rps)
        else:
            self._bad = min(self._bad, rps / self.capacity_rps)
