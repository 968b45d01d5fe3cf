"""Experiments: trials one after the other, each kept as soon as it has ended, until there is nothing more to learn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Protocol

from fastgshare.domain.functions import Slo
from fastgshare.domain.profiles import Configuration, Outcome, Subject, Trial
from fastgshare.profiler.ports import Profiles

_NONE: Final[Mapping[Any, Any]] = MappingProxyType({})
TRIAL: Final = "trial"
"""Source of what was measured here on purpose."""


class Runner(Protocol):
    """Runs trials."""

    async def run(self, subject: Subject, configuration: Configuration, *, seed: int) -> Trial:
        """One trial at capacity. Whatever befalls the function is its outcome, and nothing that is raised."""
        ...


Planner = Callable[[Sequence[Trial]], Configuration | None]
"""Where to go next, with these trials; None: nowhere, they are enough."""


def whole(grid: Sequence[Configuration]) -> Planner:
    """A planner for all of a grid, in its order."""

    def next_one(trials: Sequence[Trial]) -> Configuration | None:
        known = {trial.given for trial in trials}
        return next((point for point in grid if point not in known), None)

    return next_one


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an experiment is. trials: all of its subject, those from before too; new: how many of them it ran itself.

    running: the configuration under way, if one is. done: configurations with a trial; most: as many as there can be.
    """

    trials: tuple[Trial, ...]
    new: int
    done: int
    most: int
    running: Configuration | None = None

    @property
    def left_s(self) -> float | None:
        """Expected time left at most, by the mean time of a configuration's trials; None while nothing is known."""
        if not self.done:
            return None
        return sum(trial.took_s for trial in self.trials) / self.done * (self.most - self.done)


@dataclass(frozen=True, slots=True)
class Conclusion:
    """How an experiment ended. because: in words; done, new: as in `Progress`."""

    trials: tuple[Trial, ...]
    new: int
    done: int
    because: str


class Experiment:
    """A plan of trials of one subject; what `store` has of it is not measured again.

    most: configurations, those from before too. asked: by configuration, what was asked for where the device gives
    another. slo: what rates are sought for; a configuration with trials for another bound alone is measured again.
    heard: is told how far it is, before and after each trial. seed: of the first trial.
    A lost device says nothing of a configuration: it is tried again, but once in an experiment.
    """

    def __init__(
        self,
        subject: Subject,
        runner: Runner,
        store: Profiles,
        planner: Planner,
        *,
        most: int,
        asked: Mapping[Configuration, Configuration] = _NONE,
        slo: Slo | None = None,
        seed: int = 0,
        heard: Callable[[Progress], None] = lambda progress: None,
    ) -> None:
        self._subject = subject
        self._runner = runner
        self._store = store
        self._planner = planner
        self._most = most
        self._asked = asked
        self._slo = slo
        self._seed = seed
        self._heard = heard
        self._tried: set[Configuration] = set()
        self._new = 0

    async def run(self) -> Conclusion:
        """Run trials until the planner or the number of configurations says that it is enough.

        Whatever ends it, even kill -9, loses no trial but the one under way.
        """
        while True:
            trials = self._known()
            done = len({trial.given for trial in trials})
            if done >= self._most:
                return self._conclusion(trials, f"{self._most} configurations have been tried")
            point = self._planner(trials)
            if point is None:
                return self._conclusion(trials, "a further trial would change nothing")
            if point in self._tried or point in {trial.given for trial in trials}:
                return self._conclusion(trials, "the most useful trial is one that was made already")
            self._heard(self._progress(trials, point))
            await self._try(point)
            self._heard(self._progress(self._known()))

    async def _try(self, point: Configuration) -> None:
        asked, seed = self._asked.get(point, point), self._seed + self._new
        trial = await self._runner.run(self._subject, asked, seed=seed)
        self._store.add(trial)
        self._tried |= {point, trial.given}
        self._new += 1

    def _known(self) -> tuple[Trial, ...]:
        """The trials that count: those of configurations that are done."""
        found = [trial for trial in self._store.trials(self._subject) if trial.source == TRIAL]
        done = {point for point in {trial.given for trial in found} if self._is_done(point, found)} | self._tried
        return tuple(trial for trial in found if trial.given in done)

    def _is_done(self, point: Configuration, trials: Sequence[Trial]) -> bool:
        of_it = [trial for trial in trials if trial.given == point and trial.outcome is not Outcome.DEVICE_LOST]
        if all(trial.offered_rps for trial in of_it):
            return False
        if self._slo is None or not all(trial.outcome is Outcome.MEASURED for trial in of_it):
            return True
        within_s = self._slo.latency_s
        rated = [trial for trial in of_it if trial.offered_rps]
        if any(abs(trial.within_s - within_s) < 1e-9 for trial in rated):
            return True
        return bool(rated) and not any(keeps(trial, self._slo) for trial in rated)

    def _progress(self, trials: tuple[Trial, ...], running: Configuration | None = None) -> Progress:
        done = len({trial.given for trial in trials})
        return Progress(trials, self._new, done, self._most, running)

    def _conclusion(self, trials: tuple[Trial, ...], because: str) -> Conclusion:
        progress = self._progress(trials)
        return Conclusion(trials, progress.new, progress.done, because)


def keeps(trial: Trial, slo: Slo) -> bool:
    """Whether the latencies of a trial keep a promise: of its percentiles, by the first that is as strict."""
    figures = trial.figures
    if trial.outcome is not Outcome.MEASURED or figures is None:
        return False
    bounds = ((0.5, figures.p50_s), (0.95, figures.p95_s), (0.99, figures.p99_s))
    latency_s = next((found_s for fraction, found_s in bounds if slo.fraction <= fraction), figures.p99_s)
    return latency_s is not None and latency_s <= slo.latency_s
