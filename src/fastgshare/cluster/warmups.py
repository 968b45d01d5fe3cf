"""Warm-ups: an instance is kept busy until it is as fast as it will be."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from fastgshare.cluster.feeds import Answer, Feed
from fastgshare.cluster.stretches import Count, settled, stretch_s
from fastgshare.dispatch.dispatchers import DEPTH
from fastgshare.domain.errors import FastGShareError

_FEWEST_ANSWERS: Final = 6
"""In a stretch; fewer say little about how fast it is."""
_MOST_STRETCHES: Final = 8
_SHOWN: Final = 6


class NeverSettled(FastGShareError):
    """An instance did not come to a speed of its own; the text says which speeds it had."""


class Backlog:
    """Keeps an instance's dispatcher full: for every answer there is another request, until `finish`."""

    def __init__(self, feed: Feed, batch: int) -> None:
        self.done_s: list[float] = []
        self.problem = ""
        self._feed = feed
        self._count = (DEPTH + 1) * batch
        self._next = 0
        self._open = True
        self._idle = asyncio.Event()

    def begin(self) -> None:
        """Offer the first requests."""
        self._feed.heard = self._hear
        self._offer(self._count)

    async def finish(self) -> None:
        """Offer no more; return when all is answered."""
        self._open = False
        if self._feed.waiting:
            await self._idle.wait()

    def _offer(self, count: int) -> None:
        first, self._next = self._next, self._next + count
        self._feed.offer(range(first, self._next))

    def _hear(self, answers: Sequence[Answer]) -> None:
        self.done_s += [answer.done_s for answer in answers]
        self.problem = self.problem or next((answer.problem for answer in answers if answer.problem), "")
        if self._open and not self.problem:
            self._offer(len(answers))
        elif not self._feed.waiting:
            self._idle.set()


async def warm_up(
    feed: Feed,
    batch: int,
    window_s: Callable[[], Awaitable[float]],
    *,
    wanted_s: float,
    longest_s: float,
    tolerance: float,
) -> float:
    """Work until successive stretches are equally fast; requests a second of the last. The feed is idle afterwards.

    window_s: of the device, now. wanted_s: of a stretch; it gets longer where that has few answers or is no whole
    number of windows. longest_s: of all, or eight stretches if those take longer. tolerance: a fraction.
    Raises `NeverSettled`, or `FastGShareError` with what the instance answered if that was no good answer.
    """
    backlog = Backlog(feed, batch)
    backlog.begin()
    rps = await _until_settled(backlog, window_s, wanted_s, longest_s, tolerance)
    await backlog.finish()
    return rps


async def _until_settled(
    backlog: Backlog, window_s: Callable[[], Awaitable[float]], wanted_s: float, longest_s: float, tolerance: float
) -> float:
    loop = asyncio.get_running_loop()
    began_s, rates = loop.time(), list[float]()
    length_s = wanted_s
    while loop.time() - began_s < max(longest_s, _MOST_STRETCHES * length_s):
        await asyncio.sleep(wanted_s / 2)
        if backlog.problem:
            raise FastGShareError(backlog.problem)
        count = Count(backlog.done_s)
        span_s = count.last_s - count.first_s
        if span_s <= 0:
            continue
        length_s = stretch_s(wanted_s, await window_s(), count.at(count.last_s) / span_s, _FEWEST_ANSWERS)
        rates = count.rates(length_s)
        if settled(rates, tolerance):
            return rates[-1]
    raise NeverSettled(_seen(rates, length_s, loop.time() - began_s))


def _seen(rates: Sequence[float], length_s: float, took_s: float) -> str:
    if not rates:
        return f"it had too few answers within {took_s:.1f} s to say how fast it is"
    shown = ", ".join(f"{rate:.1f}" for rate in rates[-_SHOWN:])
    return f"it was not steady after {took_s:.1f} s: {shown} requests a second in stretches of {length_s:.2g} s"
