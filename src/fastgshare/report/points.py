"""What is known of each configuration of a profile: measured, predicted, or why not."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from fastgshare.domain.profiles import Configuration, Estimate, Outcome, Trial

_LEAST_AREA: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Point:
    """Capacity on a configuration. rps: mean of what trials measured, None if none did; rps_error: its standard error.

    estimate: what is predicted. failed: in words, how trials went if none measured anything.
    """

    configuration: Configuration
    rps: float | None = None
    rps_error: float = 0.0
    estimate: Estimate | None = None
    failed: str = ""

    @property
    def value(self) -> float | None:
        """Requests a second: measured, else predicted, else None."""
        if self.rps is not None:
            return self.rps
        return None if self.estimate is None else self.estimate.value

    @property
    def rpr(self) -> float | None:
        """Requests a second per device that is paid for: value / (SM x quota); None where nearly nothing is."""
        area = self.configuration.area
        return None if self.value is None or area < _LEAST_AREA else self.value / area

    @property
    def interval(self) -> tuple[float, float] | None:
        """Where the truth lies: 1.96 standard errors about what was measured, or the prediction's interval."""
        if self.rps is not None:
            return self.rps - 1.96 * self.rps_error, self.rps + 1.96 * self.rps_error
        return None if self.estimate is None else (self.estimate.low, self.estimate.high)

    @property
    def extrapolated(self) -> bool:
        """Whether its value is a prediction for where no trial has been."""
        return self.rps is None and self.estimate is not None and bool(self.estimate.extrapolated)

    @property
    def words(self) -> str:
        """All of it, for a pointer that rests on it."""
        parts = [name(self.configuration)]
        if self.rps is not None:
            parts.append(f"measured {self.rps:.4g} requests/s" + (f" ± {self.rps_error:.2g}" if self.rps_error else ""))
        if self.estimate is not None:
            parts.append(describe(self.estimate))
        return "; ".join([*parts, *([self.failed] if self.failed else [])])


def points_of(trials: Iterable[Trial], estimates: Mapping[Configuration, Estimate]) -> list[Point]:
    """A point for every configuration that a trial of capacity was given, or that something is predicted of; in order.

    Trials of a load that was offered, or of a rate within a bound, say nothing of capacity.
    """
    tried: dict[Configuration, list[Trial]] = {}
    for trial in trials:
        if not trial.offered_rps and not trial.within_s:
            tried.setdefault(trial.given, []).append(trial)
    return [_point(c, tried.get(c, ()), estimates.get(c)) for c in sorted({*tried, *estimates})]


def rates_of(trials: Iterable[Trial], estimates: Mapping[Configuration, Estimate], within_s: float) -> list[Point]:
    """As `points_of`, of the highest rates at which a bound on latency held: measured where they were sought."""
    sought: dict[Configuration, list[Trial]] = {}
    for trial in trials:
        if trial.offered_rps and math.isclose(trial.within_s, within_s, rel_tol=1e-6):
            sought.setdefault(trial.given, []).append(trial)
    return [_rate(c, sought.get(c, ()), estimates.get(c)) for c in sorted({*sought, *estimates})]


def name(configuration: Configuration) -> str:
    """A configuration as people say it."""
    batch = "" if configuration.batch == 1 else f", batch {configuration.batch}"
    return f"{configuration.sm:.4g} % SMs × {100 * configuration.quota:.4g} % time{batch}"


def describe(estimate: Estimate) -> str:
    """A prediction as people say it."""
    interval = f"{estimate.low:.4g} to {estimate.high:.4g} at {100 * estimate.confidence:.3g} %"
    beyond = f", extrapolated: {estimate.extrapolated}" if estimate.extrapolated else ""
    return f"predicted {estimate.value:.4g} ({interval}{beyond})"


def _point(configuration: Configuration, trials: Sequence[Trial], estimate: Estimate | None) -> Point:
    figures = [t.figures for t in trials if t.outcome is Outcome.MEASURED and t.figures is not None]
    if not figures:
        failed = ", ".join(sorted({trial.outcome.value for trial in trials}))
        return Point(configuration, estimate=estimate, failed=failed)
    mean = math.fsum(f.rps for f in figures) / len(figures)
    error = math.sqrt(math.fsum(f.rps_error**2 for f in figures)) / len(figures)
    return Point(configuration, mean, error, estimate)


def _rate(configuration: Configuration, trials: Sequence[Trial], estimate: Estimate | None) -> Point:
    measured = [t.figures for t in trials if t.outcome is Outcome.MEASURED and t.figures is not None]
    best = max(measured, key=lambda figures: figures.rps, default=None)
    if best is None:
        return Point(configuration, estimate=estimate, failed=", ".join(sorted({t.outcome.value for t in trials})))
    return Point(configuration, best.rps, best.rps_error, estimate)
