"""Trials in virtual time: a trace on a share of the stand-in, a test double, under our tokens; the same each time.

The device is the stand-in's timeline, the tokens are the real gate and timetable, the pacing is the hook's as
`GatedReplays` has it. Requests come in an open loop (`offered_rps`) or one after the other (capacity).
"""

from __future__ import annotations

import hashlib
import random
import statistics
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import sqrt
from pathlib import Path
from typing import Final

from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.errors import InvalidValue
from fastgshare.domain.profiles import Configuration, Figures, Outcome, Subject, Trial
from fastgshare.domain.rects import Rect
from fastgshare.domain.shares import Share
from fastgshare.sim.experiments import WINDOW_S
from fastgshare.sim.gated import GatedReplays, _Holder
from fastgshare.sim.traces import StepKind, Trace, load, shipped

SETTLE_S: Final = 1.0
STRETCHES: Final = 4
STRETCH_S: Final = 2.0
STRETCH_REQUESTS: Final = 12
"""A stretch goes on until so many requests were answered in it; at an offered load, four times as many."""

MOST_S: Final = 120.0
"""No trial goes on for longer than this, or at an offered load than it takes twice so many requests to come; what is
not measured by then is unstable."""


_STEP_S: Final = 0.25
_LEAST_LOOK_NS: Final = 50_000


@dataclass(frozen=True, slots=True)
class Answer:
    """A request: when it came and when it was answered, in seconds since the trial's start."""

    came_s: float
    answered_s: float

    @property
    def latency_s(self) -> float:
        """How long its sender waited."""
        return self.answered_s - self.came_s


class LoadedReplay(GatedReplays):
    """One trace on a share, one request at a time, in the order in which they come. Close it.

    arrivals: when requests come, in seconds from now, ascending; None: the next comes when the last was answered.
    answers: so far. Their ends are seen to an eighth, up or down, of the host's work before a request's first launch.
    One that finds nobody before it starts with this work, as it was written in the trace.
    """

    def __init__(
        self, trace: Trace, share: Share, *, sms: int, seed: int, arrivals: Iterator[float] | None = None
    ) -> None:
        super().__init__(Device("standin", DeviceKind.STANDIN, sms), WINDOW_S)
        self.answers: list[Answer] = []
        self._arrivals = arrivals
        self._came_ns: deque[int] = deque()
        self._shut = arrivals is not None
        self._parked: int | None = None
        self._before_ns = _host_ns_before(trace)
        self._look_ns = max(_LEAST_LOOK_NS, self._before_ns // 4)
        self._start_ns = self.now_ns
        self.add(trace, share, Rect(0, 0, share.sm_partition, share.quota_request), seed=seed)
        self._done = 0
        self._not_before_ns = 0
        self._least_ns = round((1 - trace.spread) * (trace.host_ns - self._before_ns))
        if arrivals is None:
            self._came_ns.append(self.now_ns)
        else:
            self._await_next()
        self._watch_for_ends()

    @property
    def elapsed_s(self) -> float:
        """Since the trial's start."""
        return (self.now_ns - self._start_ns) / 1e9

    @property
    def waiting(self) -> int:
        """Requests that are not answered."""
        return len(self._came_ns)

    def _watch_for_ends(self) -> None:
        """Look for requests that have ended, now and then."""
        if self.stage.requests(0) > self._done:
            self._done += 1
            self._finish()
            self._not_before_ns = self.now_ns + self._least_ns
        self._at(max(self.now_ns + self._look_ns, self._not_before_ns), 0, self._watch_for_ends)

    def _finish(self) -> None:
        came_ns = self._came_ns.popleft()
        self.answers.append(
            Answer((came_ns - self._start_ns) / 1e9, (self.now_ns - self._start_ns - self._look_ns // 2) / 1e9)
        )
        if self._arrivals is None:
            self._came_ns.append(self.now_ns - self._look_ns // 2)
        elif not self._came_ns:
            self._shut = True
            self.stage.permit(0, 0)

    def _await_next(self) -> None:
        came_s = next(self._arrivals or iter(()), None)
        if came_s is not None:
            self._at(self._start_ns + round(came_s * 1e9), 0, self._arrive)

    def _arrive(self) -> None:
        self._came_ns.append(self.now_ns)
        if len(self._came_ns) == 1:
            self._at(self.now_ns + self._before_ns, 0, self._let_in)
        self._await_next()

    def _let_in(self) -> None:
        """The host's work before the first launch of a request is done: it stands at the gate."""
        self._shut = False
        if self._parked is not None:
            parked, self._parked = self._parked, None
            super()._wants(self._holders[0], parked)

    def _wants(self, holder: _Holder, burst_ns: int) -> None:
        """A launch of a request that has not come yet wants nothing, and its holder has no use for a token."""
        if not self._shut:
            super()._wants(holder, burst_ns)
            return
        self._parked = burst_ns
        if holder.held and not self.stage.busy(0):
            self._go_on_or_release(holder)

    def _open(self, holder: _Holder) -> None:
        super()._open(holder)
        if self._shut:
            self.stage.permit(0, 0)


@dataclass(frozen=True, slots=True)
class VirtualRunner:
    """Measures configurations of a shipped trace on the stand-in with `sms` SMs. Deterministic by seed.

    trace: name or path, as `traces.load` takes it. stretch_s, stretch_requests: least length of each of the
    `STRETCHES`. Raises `NotFound` or `InvalidValue` for a trace that is none.
    """

    trace: str
    sms: int = 80
    stretch_s: float = STRETCH_S
    stretch_requests: int = STRETCH_REQUESTS

    @property
    def subject(self) -> Subject:
        """What is measured: the trace by its digest, on a device that says that it is the stand-in."""
        path = Path(self.trace) if "/" in self.trace else shipped(self.trace)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        return Subject(path.stem, digest, f"stand-in for a GPU with {self.sms} SMs (a test double)")

    async def run(self, subject: Subject, configuration: Configuration, *, seed: int) -> Trial:
        """Capacity: requests one after the other; latencies are then those of requests that wait for none."""
        return self.measure(subject, configuration, seed=seed)

    def measure(self, subject: Subject, configuration: Configuration, *, seed: int, offered_rps: float = 0.0) -> Trial:
        """One trial, at once. offered_rps: load of a Poisson process; 0: capacity.

        A batch above 1 is refused, for a trace is of one request. took_s is virtual. Raises `InvalidValue` for a
        subject other than the runner's.
        """
        if subject != self.subject:
            raise InvalidValue("subject", subject, f"{self.subject}")

        def trial(outcome: Outcome, figures: Figures | None, took_s: float = 0.0, reason: str = "") -> Trial:
            return Trial(
                subject, configuration, configuration, outcome, figures, offered_rps, 0.0, seed, 0.0, took_s, reason
            )

        if configuration.batch != 1:
            return trial(Outcome.REFUSED, None, reason="a trace is of one request at a time")
        arrivals = _poisson(offered_rps, seed) if offered_rps else None
        share = Share(configuration.sm, configuration.quota, configuration.quota)
        replay = LoadedReplay(load(self.trace), share, sms=self.sms, seed=seed, arrivals=arrivals)
        try:
            requests = self.stretch_requests * (4 if offered_rps else 1)
            most_s = max(MOST_S, 2 * STRETCHES * requests / offered_rps if offered_rps else 0.0)
            figures = _measure(replay, self.stretch_s, requests, most_s)
            if figures is None:
                return trial(Outcome.UNSTABLE, None, replay.elapsed_s, f"too few answers in {most_s:g} s")
            if offered_rps and replay.waiting > max(10.0, offered_rps * replay.elapsed_s / 20):
                return trial(Outcome.UNSTABLE, figures, replay.elapsed_s, f"{replay.waiting} requests were left over")
            return trial(Outcome.MEASURED, figures, replay.elapsed_s)
        finally:
            replay.close()


def _measure(replay: LoadedReplay, stretch_s: float, requests: int, most_s: float) -> Figures | None:
    """Let it settle, then measure stretches; None: it answers too rarely."""
    replay.run(SETTLE_S)
    while not replay.answers and replay.elapsed_s < most_s:
        replay.run(SETTLE_S)
    first, busy_ns, began_s = len(replay.answers), replay.stage.busy_ns(0), replay.elapsed_s
    bounds = [first]
    for _ in range(STRETCHES):
        end_s = replay.elapsed_s + stretch_s
        while replay.elapsed_s < end_s or len(replay.answers) < bounds[-1] + requests:
            if replay.elapsed_s >= most_s:
                return None
            replay.run(_STEP_S)
        bounds.append(len(replay.answers))
    busy = (replay.stage.busy_ns(0) - busy_ns) / 1e9 / (replay.elapsed_s - began_s)
    return _figures(replay.answers, bounds, busy)


def _figures(answers: Sequence[Answer], bounds: Sequence[int], busy: float) -> Figures:
    """Rates from answer to answer, so that they do not come in steps of one request a stretch."""
    rates = [_rate(answers, a, b) for a, b in pairwise(bounds)]
    latencies = sorted(answer.latency_s for answer in answers[bounds[0] : bounds[-1]])
    return Figures(
        rps=_rate(answers, bounds[0], bounds[-1]),
        rps_error=statistics.stdev(rates) / sqrt(len(rates)),
        p50_s=_quantile(latencies, 0.5),
        p95_s=_quantile(latencies, 0.95),
        p99_s=_quantile(latencies, 0.99),
        sm_utilisation=busy,
    )


def _rate(answers: Sequence[Answer], first: int, last: int) -> float:
    return (last - first) / (answers[last - 1].answered_s - answers[first - 1].answered_s)


def _quantile(ascending: Sequence[float], fraction: float) -> float:
    return ascending[min(len(ascending) - 1, int(fraction * len(ascending)))]


def _poisson(rps: float, seed: int) -> Iterator[float]:
    chance, now_s = random.Random(seed), 0.0
    while True:
        now_s += chance.expovariate(rps)
        yield now_s


def _host_ns_before(trace: Trace) -> int:
    """Host time of a request until its first launch."""
    first = next(i for i, step in enumerate(trace.steps) if step.kind is StepKind.LAUNCH)
    return sum(step.host_ns for step in trace.steps[: first + 1])
