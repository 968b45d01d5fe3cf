"""A clock that stands still until a test moves it."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from typing import Final

_PASSES: Final = 100
"""Turns of the event loop after which everything that does not wait for time is taken to have run."""


class FakeClock:
    """`domain.ports.Clock` in virtual time: `now` changes by `advance` alone."""

    def __init__(self, now_s: float = 0.0) -> None:
        self._now_s = now_s
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> float:
        """Virtual seconds."""
        return self._now_s

    async def sleep_until(self, when_s: float) -> None:
        """Return when the clock has been moved to `when_s`."""
        if when_s <= self._now_s:
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (when_s, next(self._order), woken))
        await woken

    async def advance(self, duration_s: float) -> None:
        """Move the clock, waking sleepers in order, each at its own time; let everything run in between."""
        until_s = self._now_s + duration_s
        await self.settle()
        while self._sleepers and self._sleepers[0][0] <= until_s:
            self._now_s, _, woken = heapq.heappop(self._sleepers)
            if not woken.done():
                woken.set_result(None)
                await self.settle()
        self._now_s = until_s
        await self.settle()

    async def settle(self) -> None:
        """Let every task run that does not wait for time or for the world outside."""
        for _ in range(_PASSES):
            await asyncio.sleep(0)
