"""Predictors: from few trials to any configuration, with intervals, and never beyond the trials in silence. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import exp, inf, log, sqrt
from statistics import NormalDist
from typing import Final, Self

import numpy as np

from fastgshare.domain.errors import InvalidValue, NotFound
from fastgshare.domain.functions import Slo
from fastgshare.domain.profiles import Configuration, Estimate, Figures, Outcome, Subject, Trial
from fastgshare.profiler.queues import Service
from fastgshare.profiler.surfaces import Surface, surface

WINDOW_S: Final = 0.04

SURPRISE: Final = 1.5
"""Intervals are wider by this than the surface's own: so they hold what they promise over many choices of trials on
the stand-in's traces (bench/profiles.py)."""

_LATENCY_SD: Final = 0.15
"""How far the latency model is off, as a fraction, before anything is known of it; worth so many measurements:"""

_LATENCY_WEIGHT: Final = 4.0
_ERROR: Final = 0.003
_DISAGREE: Final = 0.03
"""Measurements of one configuration that are further apart than this, and than 3 standard errors, disagree."""

_HALVINGS: Final = 9


@dataclass(frozen=True, slots=True)
class Measured:
    """What trials of one configuration say of its capacity: requests a second, and the relative standard error."""

    rps: float
    error: float


@dataclass(frozen=True, slots=True)
class Predictor:
    """What trials of one subject say of any configuration.

    measured: capacities by configuration. left_out: trials that the estimates do not rest on, in words with the reason.
    disagreements: configurations whose trials contradict each other, in words; their mean is used with an error as
    large as they are apart. too_large: smallest batch that ran out of memory; None: none did.
    """

    subject: Subject
    confidence: float
    window_s: float
    measured: Mapping[Configuration, Measured]
    left_out: tuple[str, ...]
    disagreements: tuple[str, ...]
    too_large: int | None
    _surface: Surface
    _within: Mapping[tuple[Configuration, float], Measured]
    _latency_bias: float
    _latency_sd: float
    _memory: Mapping[int, tuple[int, int]]

    @classmethod
    def fit(cls, trials: Sequence[Trial], *, confidence: float = 0.9, window_s: float = WINDOW_S) -> Self:
        """Learn from trials. window_s: of the device.

        Raises `InvalidValue` for trials of more than one subject, or if none measured a capacity.
        """
        if not 0 < confidence < 1:
            raise InvalidValue("confidence", confidence, "above 0, below 1")
        subject = _only_subject(trials)
        capacities = [t for t in trials if _measures(t) and not t.offered_rps and not t.within_s]
        if not capacities:
            raise InvalidValue("trials", len(trials), "at least one that measured a capacity")
        measured, disagreements = _combined((t.given, _figures(t)) for t in capacities)
        points = np.array([[c.sm, c.quota, c.batch] for c in measured], dtype=np.float64)
        log_rps = np.log([m.rps for m in measured.values()])
        errors = np.array([m.error for m in measured.values()])
        found = surface(points, log_rps, errors)
        bias, sd = _latency_fit(found, trials, window_s)
        return cls(
            subject,
            confidence,
            window_s,
            measured,
            tuple(_why_left_out(t) for t in trials if not _measures(t)),
            tuple(disagreements),
            min((t.given.batch for t in trials if t.outcome is Outcome.OUT_OF_MEMORY), default=None),
            found,
            _rates_within(trials),
            bias,
            sd,
            _memory_of(trials),
        )

    # --- estimates ---------------------------------------------------------------------------------------------------

    def capacity(self, configuration: Configuration) -> Estimate:
        """Requests a second that it can answer."""
        mean, sd = self._surface.at(configuration.sm, configuration.quota, configuration.batch)
        reach = self._z * SURPRISE * sqrt(sd**2 + _ERROR**2)
        return self._estimate(exp(mean), exp(mean - reach), exp(mean + reach), self.beyond(configuration))

    def latency(self, configuration: Configuration, offered_rps: float, quantile: float = 0.99) -> Estimate:
        """Seconds within which that fraction of requests is answered at an open-loop rate; infinite where the queue
        grows without end. offered_rps 0: of requests that come one after the other.

        Raises `InvalidValue` naming the field.
        """
        if not 0 <= offered_rps < inf:
            raise InvalidValue("offered_rps", offered_rps, "0 or more requests a second")
        if not 0 < quantile < 1:
            raise InvalidValue("quantile", quantile, "above 0, below 1")
        capacity = self.capacity(configuration)

        def at(rps: float, deviations: float) -> float:
            return self._latency(rps, configuration.quota, offered_rps, quantile, deviations)

        low, value, high = at(capacity.high, -self._z), at(capacity.value, 0), at(capacity.low, self._z)
        return self._estimate(value, min(low, value), max(high, value), capacity.extrapolated)

    def rate_within(self, configuration: Configuration, slo: Slo | None) -> Estimate:
        """Highest open-loop rate at which the SLO holds, 0 if at none; without an SLO, the capacity.

        What a trial measured at this bound is taken before what the model says.
        """
        capacity = self.capacity(configuration)
        if slo is None:
            return capacity
        seen = self._within.get((configuration, slo.latency_s))
        if seen is not None:
            reach = exp(self._z * seen.error)
            return self._estimate(seen.rps, seen.rps / reach, seen.rps * reach, "")
        low, value, high = (
            self._rate(configuration, rps, slo, deviations)
            for rps, deviations in ((capacity.low, self._z), (capacity.value, 0.0), (capacity.high, -self._z))
        )
        return self._estimate(value, min(low, value), max(high, value), capacity.extrapolated)

    def spread_within(self, configuration: Configuration, slo: Slo | None) -> tuple[float, float]:
        """Highest rates within the SLO if the capacity is the lowest, and the highest, of its interval.

        How far the latency model is off is left out: it is off alike everywhere, which changes no choice.
        """
        capacity = self.capacity(configuration)
        if slo is None or (configuration, slo.latency_s) in self._within:
            rate = self.rate_within(configuration, slo)
            return rate.low, rate.high
        low, high = (self._rate(configuration, rps, slo, 0.0) for rps in (capacity.low, capacity.high))
        return low, high

    def memory(self, configuration: Configuration) -> Estimate:
        """Bytes of the device's memory that it holds at most, by its batch alone.

        Raises `NotFound` if no trial counted memory.
        """
        if not self._memory:
            raise NotFound("memory", f"of {self.subject.function}: no trial counted it")
        batches = sorted(self._memory)
        least = [float(self._memory[b][0]) for b in batches]
        most = [float(self._memory[b][1]) for b in batches]
        batch, beyond = configuration.batch, _beyond("batch", configuration.batch, batches)
        value, low = float(np.interp(batch, batches, most)), float(np.interp(batch, batches, least))
        below = max((m for b, m in zip(batches, most, strict=True) if b <= batch), default=0.0)
        above = min((m for b, m in zip(batches, most, strict=True) if b >= batch), default=inf)
        if batch > batches[-1]:
            value, low, above = value * batch / batches[-1], below, value * batch / batches[-1]
        elif batch < batches[0]:
            low = value * batch / batches[0]
        return self._estimate(value, min(low, below or low), max(value, above), beyond)

    def beyond(self, configuration: Configuration) -> str:
        """In which directions no trial has been that far, in words; "" if the configuration lies among trials."""
        found = [
            _beyond(what, getattr(configuration, what), [getattr(c, what) for c in self.measured])
            for what in ("sm", "quota", "batch")
        ]
        return "; ".join(text for text in found if text)

    def disagrees(self, trial: Trial) -> str:
        """What of a trial, such as one of production, is outside of what is predicted, in words; "" if nothing.

        Raises `InvalidValue` for a trial of another subject.
        """
        if trial.subject != self.subject:
            raise InvalidValue("trial.subject", trial.subject, f"{self.subject}")
        figures = trial.figures
        if figures is None:
            return ""
        capacity = self.capacity(trial.given)
        free = trial.offered_rps > 0 or trial.within_s > 0 or trial.source == "production"
        words = [_outside("rps", figures.rps, 0.0 if free else capacity.low, capacity.high)]
        if trial.offered_rps:
            for name, quantile, seen in _percentiles(figures):
                estimate = self.latency(trial.given, trial.offered_rps, quantile)
                words.append(_outside(name, seen, estimate.low, estimate.high))
        return "; ".join(word for word in words if word)

    @property
    def _z(self) -> float:
        return NormalDist().inv_cdf((1 + self.confidence) / 2)

    def _estimate(self, value: float, low: float, high: float, extrapolated: str) -> Estimate:
        return Estimate(value, low, high, self.confidence, extrapolated)

    def _latency(self, rps: float, quota: float, offered_rps: float, quantile: float, deviations: float) -> float:
        off = exp(self._latency_bias + deviations * self._latency_sd)
        return off * Service(rps, quota, self.window_s).quantile(offered_rps, quantile)

    def _rate(self, configuration: Configuration, rps: float, slo: Slo, deviations: float) -> float:
        low, high = 0.0, rps
        if self._latency(rps, configuration.quota, 1e-6 * rps, slo.fraction, deviations) > slo.latency_s:
            return 0.0
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            kept = self._latency(rps, configuration.quota, middle, slo.fraction, deviations) <= slo.latency_s
            low, high = (middle, high) if kept else (low, middle)
        return low


# --- reading trials --------------------------------------------------------------------------------------------------


def _only_subject(trials: Sequence[Trial]) -> Subject:
    subjects = {trial.subject for trial in trials}
    if len(subjects) != 1:
        raise InvalidValue("trials", f"{len(subjects)} subjects", "trials of one subject; profiles never mix")
    return subjects.pop()


def _measures(trial: Trial) -> bool:
    return trial.outcome is Outcome.MEASURED and trial.figures is not None and trial.figures.rps > 0


def _figures(trial: Trial) -> Figures:
    assert trial.figures is not None  # `_measures` said so
    return trial.figures


def _why_left_out(trial: Trial) -> str:
    at = f"{trial.given.sm:g}% SMs, quota {trial.given.quota:g}, batch {trial.given.batch}"
    return f"{at}: {trial.outcome}" + (f" ({trial.reason})" if trial.reason else "")


def _combined(seen: Iterable[tuple[Configuration, Figures]]) -> tuple[dict[Configuration, Measured], list[str]]:
    """Repeated measurements as one, weighed by their errors."""
    by: defaultdict[Configuration, list[Figures]] = defaultdict(list)
    for configuration, figures in seen:
        by[configuration].append(figures)
    found, disagreements = {}, []
    for configuration, several in sorted(by.items()):
        rps = np.array([f.rps for f in several])
        errors = np.maximum([f.rps_error / f.rps for f in several], _ERROR)
        weights = errors**-2.0 / np.sum(errors**-2.0)
        mean = float(np.exp(weights @ np.log(rps)))
        apart = float(np.ptp(np.log(rps)))
        disagree = apart > max(_DISAGREE, 3 * float(np.sqrt(np.sum(np.sort(errors)[-2:] ** 2))))
        error = apart if disagree else float(np.sum(errors**-2.0) ** -0.5)
        found[configuration] = Measured(mean, error)
        if disagree:
            at = f"{configuration.sm:g}% SMs, quota {configuration.quota:g}, batch {configuration.batch}"
            disagreements.append(f"{at}: {', '.join(f'{r:g}' for r in rps)} rps")
    return found, disagreements


def _rates_within(trials: Sequence[Trial]) -> dict[tuple[Configuration, float], Measured]:
    by: defaultdict[float, list[tuple[Configuration, Figures]]] = defaultdict(list)
    for trial in trials:
        if _measures(trial) and trial.within_s:
            by[trial.within_s].append((trial.given, _figures(trial)))
    return {(c, bound): m for bound, seen in by.items() for c, m in _combined(seen)[0].items()}


def _percentiles(figures: Figures) -> list[tuple[str, float, float]]:
    named = (("p50_s", 0.5, figures.p50_s), ("p95_s", 0.95, figures.p95_s), ("p99_s", 0.99, figures.p99_s))
    return [(name, quantile, seen) for name, quantile, seen in named if seen]


def _latency_fit(found: Surface, trials: Sequence[Trial], window_s: float) -> tuple[float, float]:
    """By how much measured latencies are off the model: mean and standard deviation of the logarithm of their ratio."""
    ratios = []
    for trial in filter(_measures, trials):
        if trial.within_s or trial.given.batch > 1:
            continue
        rps = exp(found.at(trial.given.sm, trial.given.quota, trial.given.batch)[0])
        service = Service(rps, trial.given.quota, window_s)
        if trial.offered_rps < 0.95 * rps:
            ratios += [log(s / service.quantile(trial.offered_rps, q)) for _, q, s in _percentiles(_figures(trial))]
    weight = _LATENCY_WEIGHT + len(ratios)
    mean = sum(ratios) / weight
    square = _LATENCY_WEIGHT * _LATENCY_SD**2 + sum((r - mean) ** 2 for r in ratios)
    return mean, sqrt(square / weight)


def _memory_of(trials: Sequence[Trial]) -> dict[int, tuple[int, int]]:
    """Least and most bytes by batch; what ran out of memory held at least what was seen of it."""
    by: defaultdict[int, list[int]] = defaultdict(list)
    for trial in trials:
        if trial.figures is not None and trial.figures.mem_bytes:
            by[trial.given.batch].append(trial.figures.mem_bytes)
    return {batch: (min(sizes), max(sizes)) for batch, sizes in by.items()}


def _beyond(what: str, value: float, seen: Sequence[float]) -> str:
    tolerance = 1e-6 * abs(value)
    if value < min(seen) - tolerance:
        return f"{what} {value:g} is below {min(seen):g}, the least of any trial"
    if value > max(seen) + tolerance:
        return f"{what} {value:g} is above {max(seen):g}, the most of any trial"
    return ""


def _outside(name: str, seen: float, low: float, high: float) -> str:
    return "" if low <= seen <= high else f"{name} {seen:g} is outside of {low:g} to {high:g}"
