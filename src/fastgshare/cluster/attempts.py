"""Attempts: one instance on its share, from its start to its end, and what was measured of it or why nothing was."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from typing import Any, Final

from fastgshare.cluster.devices import check_function
from fastgshare.cluster.feeds import Feed, worked_s
from fastgshare.cluster.gauges import Gauge, Use, memory_of
from fastgshare.cluster.grounds import Ground
from fastgshare.cluster.latencies import Latencies
from fastgshare.cluster.loads import Load, LoadFailed, Measured
from fastgshare.cluster.searches import Search
from fastgshare.cluster.stretches import Rate, measured, stretch_s
from fastgshare.cluster.warmups import NeverSettled, warm_up
from fastgshare.domain.errors import DaemonUnavailable, FastGShareError, InvalidValue, PartitionerUnavailable
from fastgshare.domain.functions import Slo
from fastgshare.domain.instances import Instance
from fastgshare.domain.profiles import Figures, Outcome

_STRETCHES: Final = 3
_MARGIN: Final = 1.15
"""So much longer than its stretches is the load that they are cut from: it may be faster than it was warmed up."""
_FEWEST_ANSWERS: Final = 12
"""In a stretch: with fewer, where answers fall in it decides how fast it was."""
_FEWEST_OFFERED: Final = 150
_LONGEST_FACTOR: Final = 4
"""A rate is offered for at most so many times the seconds that were asked for."""
_PATIENCE_S: Final = 30.0
_OTHERS: Final = 0.2
"""Of a CPU's cores: the load generator and the daemon use less than this."""
_MEMORY: Final = re.compile(
    r"out[ _]of[ _]memory|memoryerror|bad_alloc|mem is too small|fits into the (share|memory)", re.IGNORECASE
)
_LOST: Final = re.compile(r"\bwas lost\b|gpu is lost", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Conditions:
    """How trials are run.

    seconds: for which capacity is measured, and each rate; longer where little is answered in that time. warm_s: the
    longest warm-up. stretch_s, tolerance: of a warm-up that has settled, stretches of that length differ by no more
    than this fraction. slo: what is to hold, for which the highest rate is sought; None: capacity alone.
    rates: how many rates are tried for it. body: of all requests; None: the sample that the function brings.
    """

    seconds: float = 2.0
    warm_s: float = 8.0
    stretch_s: float = 0.5
    tolerance: float = 0.05
    slo: Slo | None = None
    rates: int = 4
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a load: how it went, what was measured, why not more, and all latencies (HdrHistogram).

    offered_rps: of an open loop; 0: as much as it could take. took_s: the first one's, with start and warm-up.
    within_s: the bound that this is the highest rate for, of those that were tried; 0: it is not.
    """

    outcome: Outcome
    figures: Figures | None = None
    reason: str = ""
    histogram: bytes = b""
    offered_rps: float = 0.0
    took_s: float = 0.0
    within_s: float = 0.0


class Failed(FastGShareError):
    """A trial has no figures; the text says why."""

    def __init__(self, outcome: Outcome, reason: str) -> None:
        super().__init__(reason)
        self.outcome = outcome


@dataclass(slots=True, eq=False)
class Attempt:
    """One instance on a ground. results: of its loads; capacity first, then at the rates that were tried."""

    instance: Instance
    ground: Ground
    conditions: Conditions
    seed: int
    results: list[Result] = field(default_factory=list)
    _offered_rps: float = 0.0
    _since_s: float = 0.0

    async def run(self) -> None:
        """Start the instance, put loads on it, end it. Whatever goes wrong with it is a result.

        Raises `InvalidValue` where there is nothing to ask it for, `DaemonUnavailable`, `PartitionerUnavailable`.
        """
        self._since_s = time.monotonic()
        try:
            await self._start()
            feed = Feed(self.ground.cluster, self.instance.id, self.instance.function, self._body())
            try:
                await self._rates(feed, await self._capacity(feed))
            finally:
                feed.close("the trial is over")
                await feed.ended()
        except Failed as error:
            self.results.append(self._failure(error))
        finally:
            await self.ground.cluster.stop(self.instance.id, drain_s=0.0)

    def _failure(self, error: Failed) -> Result:
        lost = self.ground.is_lost or _LOST.search(str(error))
        outcome = Outcome.DEVICE_LOST if lost else error.outcome
        reason = " ".join(str(error).split())
        return Result(outcome, reason=reason, offered_rps=self._offered_rps, took_s=self._took_s())

    async def _start(self) -> None:
        try:
            check_function(self.ground.device, self.instance.function)
        except InvalidValue as error:
            raise Failed(Outcome.REFUSED, str(error)) from None
        try:
            await self.ground.cluster.start(self.instance)
        except (DaemonUnavailable, PartitionerUnavailable):
            raise
        except FastGShareError as error:
            raise _failed(str(error)) from None

    def _body(self) -> bytes:
        found = self.conditions.body
        if found is None:
            found = self.ground.cluster.sample(self.instance.id)
        if found is None:
            allowed = "a file with the body of a typical request: the function brings no sample of its own"
            raise InvalidValue("input", None, allowed)
        return found

    async def _capacity(self, feed: Feed) -> float:
        """Requests a second that it can take, once it is warm."""
        warm_rps, window_s = await self._warm_up(feed), await self._window_s()
        length_s = stretch_s(self.conditions.seconds / _STRETCHES, window_s, warm_rps, _FEWEST_ANSWERS)
        load_s, load = _MARGIN * _STRETCHES * length_s + window_s, Load(self.seed)
        found, use = await self._under(feed, load, load.offline(feed, expected_rps=warm_rps, seconds=load_s), load_s)
        rate = measured([answer.done_s for answer in found.answers], length_s) or Rate(found.rps)
        await self._note(rate, Latencies(worked_s(found.answers)), use)
        return rate.rps

    async def _warm_up(self, feed: Feed) -> float:
        settings, batch = self.conditions, self.instance.function.batch.max_size
        how = {"wanted_s": settings.stretch_s, "longest_s": settings.warm_s, "tolerance": settings.tolerance}
        try:
            async with asyncio.timeout(_LONGEST_FACTOR * settings.warm_s + _PATIENCE_S):
                return await warm_up(feed, batch, self._window_s, **how)
        except TimeoutError:
            raise Failed(Outcome.UNSTABLE, "it did not settle, and at last gave no answer any more") from None
        except (NeverSettled, DaemonUnavailable) as error:
            raise Failed(Outcome.UNSTABLE, str(error)) from None
        except FastGShareError as error:
            raise _failed(str(error)) from None

    async def _rates(self, feed: Feed, capacity_rps: float) -> None:
        """Seek the highest rate at which the promise holds."""
        slo = self.conditions.slo
        if slo is None:
            return
        search = Search(capacity_rps, self.conditions.rates)
        best: int | None = None
        dice = 1.0  # with one seed, all schedules are faster or slower than asked for by about as much
        while (rps := search.next_rps()) is not None:
            holds = await self._rate(feed, rps / dice, slo)
            search.tell(self._offered_rps, holds)
            dice *= self._offered_rps / rps
            if holds and (best is None or self._offered_rps > self.results[best].offered_rps):
                best = len(self.results) - 1
        if best is not None and (figures := self.results[best].figures) is not None:
            figures = replace(figures, rps_error=search.error_rps)
            self.results[best] = replace(self.results[best], figures=figures, within_s=slo.latency_s)

    async def _rate(self, feed: Feed, rps: float, slo: Slo) -> bool:
        self._offered_rps = rps
        seconds = self.conditions.seconds
        load_s, load = min(_LONGEST_FACTOR * seconds, max(seconds, _FEWEST_OFFERED / rps)), Load(self.seed)
        test = load.server(feed, offered_rps=rps, seconds=load_s, slo=slo)
        found, use = await self._under(feed, load, test, load_s)
        self._offered_rps = found.offered_rps or rps
        waited = Latencies(answer.done_s - answer.offered_s for answer in found.answers)
        await self._note(Rate(found.rps), waited, use, found)
        return found.within(slo)

    async def _under(
        self, feed: Feed, load: Load, test: Coroutine[Any, Any, Measured], load_s: float
    ) -> tuple[Measured, Use]:
        """Run a test of LoadGen and look on. Raises `Failed`."""
        gauge = Gauge(self.ground, self.instance.id)
        feed.heard = load.hear
        await gauge.begin()
        try:
            async with asyncio.timeout(_LONGEST_FACTOR * load_s + _PATIENCE_S):
                found = await test
        except TimeoutError:
            raise Failed(Outcome.CRASHED, f"it left requests without an answer for {_PATIENCE_S:g} s") from None
        except LoadFailed as error:
            raise Failed(Outcome.UNSTABLE, str(error)) from None
        finally:
            use = await gauge.end()
        if problems := found.problems:
            raise _failed(f"{len(problems)} of {len(found.answers)} requests failed: {problems[0]}")
        return found, use

    async def _note(self, rate: Rate, latencies: Latencies, use: Use, found: Measured | None = None) -> None:
        """Keep figures: percentiles by LoadGen where it kept a schedule, for it knows when a request was due."""
        p50_s, p95_s, p99_s = (
            (found.percentile_s(percent) if found is not None else None) or latencies.percentile_s(percent)
            for percent in (50, 95, 99)
        )
        mem_bytes = await memory_of(self.ground, self.instance.id)
        used = (use.sm_utilisation, use.sm_occupancy, mem_bytes, use.received)
        figures = Figures(rate.rps, rate.error, p50_s, p95_s, p99_s, *used)
        kept = latencies.encode()
        self.results.append(Result(Outcome.MEASURED, figures, _noise(use), kept, self._offered_rps, self._took_s()))

    def _took_s(self) -> float:
        """Since the load before."""
        before_s, self._since_s = self._since_s, time.monotonic()
        return self._since_s - before_s

    async def _window_s(self) -> float:
        return (await self.ground.daemon.window(self.ground.device.id))[1]


def _noise(use: Use) -> str:
    """What is to be known of a measurement that succeeded, in words; "" if nothing."""
    if use.others is None or use.others < _OTHERS:
        return ""
    return f"other programs used {use.others:.0%} of the cores meanwhile"


def _failed(reason: str) -> Failed:
    return Failed(Outcome.OUT_OF_MEMORY if _MEMORY.search(reason) else Outcome.CRASHED, reason)
