"""Rates: how many requests a second are completed while there is work."""

from __future__ import annotations

from math import exp


class CompletionRate:
    """Completions per second of busy time, weighted towards the last `memory_s` busy seconds.

    Idle time does not count: what a function can do does not fade because nobody asks for it.
    """

    def __init__(self, memory_s: float = 5.0) -> None:
        self._memory_s = memory_s
        self._weight = 0.0
        self._weighed_s = 0.0
        self._busy_s = 0.0
        self._since_s: float | None = None

    def begin(self, now_s: float) -> None:
        """Instances have work from now on; nothing happens if they had."""
        if self._since_s is None:
            self._since_s = now_s

    def end(self, now_s: float) -> None:
        """Instances have no work from now on; nothing happens if they had none."""
        self._busy_s = self._elapsed_s(now_s)
        self._since_s = None

    def record(self, count: int, now_s: float) -> None:
        """Note that `count` requests were completed at `now_s`."""
        elapsed_s = self._elapsed_s(now_s)
        self._weight = self._decayed(elapsed_s) + count
        self._weighed_s = elapsed_s

    def per_s(self, now_s: float) -> float | None:
        """Completions per second, None as long as nothing is known."""
        elapsed_s = self._elapsed_s(now_s)
        if elapsed_s <= 0 or not self._weight:
            return None
        return self._decayed(elapsed_s) / (self._memory_s * (1 - exp(-elapsed_s / self._memory_s)))

    def _elapsed_s(self, now_s: float) -> float:
        return self._busy_s if self._since_s is None else self._busy_s + max(0.0, now_s - self._since_s)

    def _decayed(self, elapsed_s: float) -> float:
        return self._weight * exp((self._weighed_s - elapsed_s) / self._memory_s)
