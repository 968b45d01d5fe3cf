"""Token policies of others, for comparison. Pure: the time is an argument."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

WHOLE_DEVICE: Final = 100.0
"""All SMs, in percent."""


@dataclass(frozen=True, slots=True)
class Grant:
    """An instance may launch until then."""

    instance: int
    until_ns: int


@dataclass(slots=True)
class _Known:
    """An instance; records: [start, end) of its tokens, oldest first."""

    sm_partition: float
    quota: float
    records: deque[list[int]] = field(default_factory=deque)
    token_end_ns: int = 0


class WindowedTokens:
    """The token scheduler of the reference's lineage, as far as throughput goes.

    - An instance asks for a token when it wants to launch and has none. A token is as long as its quota of the window
      and cannot be taken back; what it launched runs on after the end, and is not charged.
    - Who has used less than its quota in the window that ends now is given one, who misses most of it first, if its
      SMs fit beside those of the tokens that are out. All who ask at once are compared with the same sum: so each may
      fit while all together do not.
    - SMs count until a token ends, not until the work behind it does.

    Time is charged as granted, from the token's start to its end or to its holder's next request, whichever is first.
    """

    def __init__(self, window_ns: int = 40_000_000) -> None:
        self.window_ns = window_ns
        self._known: list[_Known] = []
        self._ready: list[int] = []

    def add(self, sm_partition: float, quota: float) -> int:
        """Let an instance in; its number. sm_partition in percent, quota as a fraction of the window."""
        self._known.append(_Known(sm_partition, quota))
        return len(self._known) - 1

    def request(self, instance: int, now_ns: int) -> None:
        """An instance asks for a token; what was left of its last one is returned."""
        known = self._known[instance]
        known.token_end_ns = min(known.token_end_ns, now_ns)
        if known.records:
            known.records[-1][1] = min(known.records[-1][1], now_ns)
        self._ready.append(instance)

    def decide(self, now_ns: int) -> list[Grant]:
        """The tokens that are given out now."""
        occupied = self.occupied(now_ns)
        grants = []
        for instance in sorted(self._ready, key=lambda i: self._missing(i, now_ns), reverse=True):
            known = self._known[instance]
            if self._missing(instance, now_ns) > 0 and occupied + known.sm_partition <= WHOLE_DEVICE:
                grants.append(self._grant(instance, now_ns))
        return grants

    def next_ns(self, now_ns: int) -> int | None:
        """When to decide again if nobody asks before; None: then."""
        starved = [i for i in self._ready if self._missing(i, now_ns) <= 0]
        times = [self._below_quota_ns(i, now_ns) for i in starved]
        if len(starved) < len(self._ready):  # the others wait for SMs
            times += [k.token_end_ns for k in self._known if k.token_end_ns > now_ns]
        return min(times, default=None)

    def occupied(self, now_ns: int) -> float:
        """Sum of the percents of those whose tokens have not ended."""
        return sum(k.sm_partition for k in self._known if k.token_end_ns > now_ns)

    def _grant(self, instance: int, now_ns: int) -> Grant:
        known = self._known[instance]
        end_ns = now_ns + round(known.quota * self.window_ns)
        known.records.append([now_ns, end_ns])
        known.token_end_ns = end_ns
        self._ready.remove(instance)
        return Grant(instance, end_ns)

    def _missing(self, instance: int, now_ns: int) -> float:
        """How much of its quota is not used in the window that ends now, as a fraction of the quota."""
        known, since_ns = self._known[instance], now_ns - self.window_ns
        while known.records and known.records[0][1] <= since_ns:
            known.records.popleft()
        used_ns = sum(end - max(start, since_ns) for start, end in known.records)
        return 1 - used_ns / round(known.quota * self.window_ns)

    def _below_quota_ns(self, instance: int, now_ns: int) -> int:
        """When it will have used less than its quota: the window forgets its oldest records from their starts on."""
        known = self._known[instance]
        excess_ns = sum(end - max(start, now_ns - self.window_ns) for start, end in known.records)
        excess_ns -= round(known.quota * self.window_ns)
        for start, end in known.records:
            first_ns = max(start, now_ns - self.window_ns)
            if end - first_ns > excess_ns:
                return max(now_ns, first_ns + max(0, excess_ns) + self.window_ns) + 1
            excess_ns -= end - first_ns
        return now_ns + 1
