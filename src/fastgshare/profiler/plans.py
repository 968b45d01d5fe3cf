"""Plans: which trial to make next, and what the trials say is best. Pure; equal inputs, equal plans.

The first trials spread over the grid: corners and middle. After them each goes where an error would cost most. With
rates within the SLO normally distributed, the *expected regret* of a configuration is what it is expected to be worth
more than what would be chosen now, as a fraction; that of the choice itself is the largest of the others'. A trial is
worth its configuration's expected regret, plus a part of its capacity's uncertainty beyond `SURE`, for a scheduler also
picks smaller and larger configurations than the best. If no trial is worth `REGRET`, the next would change no decision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, log, sqrt
from statistics import NormalDist
from typing import Final

import numpy as np

from fastgshare.domain.errors import InvalidValue, NotFound
from fastgshare.domain.functions import Slo
from fastgshare.domain.profiles import Configuration, Estimate, Outcome, Trial
from fastgshare.profiler.predictors import Predictor

REGRET: Final = 0.004
"""Expected loss of RPR, as a fraction, that is not worth a trial."""

SURE: Final = 0.03
"""A relative standard deviation with which an estimate is sure enough for any decision."""

WEIGHT: Final = 0.2
"""What uncertainty beyond that is worth, beside regret."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A configuration, the highest rate within the SLO, and what it is worth: rps / (sm x quota), both as fractions."""

    configuration: Configuration
    rps: Estimate

    @property
    def rpr(self) -> float:
        """Requests a second for all of the device."""
        return self.rps.value / self.configuration.area


def next_trial(
    grid: Sequence[Configuration], trials: Sequence[Trial], *, slo: Slo | None, budget: int, seed: int
) -> Configuration | None:
    """The configuration to measure next; None: it would change no decision, or the budget is spent.

    trials: all so far, of one subject; a trial whose device was lost says nothing of its configuration, but has cost.
    budget: trials in all. seed: breaks ties. Raises `InvalidValue` for a budget below 1, an empty grid, or
    two subjects.
    """
    if budget < 1:
        raise InvalidValue("budget", budget, "at least 1 trial")
    if not grid:
        raise InvalidValue("grid", "empty", "at least one configuration")
    made = [t for t in trials if t.source == "trial"]
    untried = _untried(grid, made)
    if len(made) >= budget or not untried:
        return None
    for point in _opening(grid, seed):
        if point in untried:
            return point
    try:
        predictor = Predictor.fit(trials)
    except InvalidValue:
        if len({t.subject for t in trials}) > 1:
            raise
        return _furthest(untried, made)
    return _most_worth(grid, untried, predictor, slo, _failed(made))


def best(grid: Sequence[Configuration], predictor: Predictor, slo: Slo | None = None) -> Choice:
    """The configuration of the highest RPR within the SLO. Raises `NotFound` if none keeps it."""
    found = max(_choices(grid, predictor, slo), key=lambda c: (c.rpr, -c.configuration.area), default=None)
    if found is None:
        raise NotFound("configuration", f"within {slo} for {predictor.subject.function}")
    return found


def frontier(grid: Sequence[Configuration], predictor: Predictor, slo: Slo | None = None) -> tuple[Choice, ...]:
    """Configurations that none with as small an area beats in rate within the SLO: smallest area first."""
    found: list[Choice] = []
    for choice in sorted(_choices(grid, predictor, slo), key=lambda c: (c.configuration.area, -c.rps.value)):
        if not found or choice.rps.value > found[-1].rps.value * (1 + 1e-9):
            found.append(choice)
    return tuple(found)


def _choices(grid: Sequence[Configuration], predictor: Predictor, slo: Slo | None) -> list[Choice]:
    fits = [c for c in grid if predictor.too_large is None or c.batch < predictor.too_large]
    choices = (Choice(c, predictor.rate_within(c, slo)) for c in fits)
    return [c for c in choices if c.rps.value > 0]


# --- which trials ----------------------------------------------------------------------------------------------------


def _untried(grid: Sequence[Configuration], made: Sequence[Trial]) -> list[Configuration]:
    tried = {c for t in made if t.outcome is not Outcome.DEVICE_LOST for c in (t.asked, t.given)}
    too_large = min((t.given.batch for t in made if t.outcome is Outcome.OUT_OF_MEMORY), default=inf)
    return [c for c in dict.fromkeys(grid) if c not in tried and c.batch < too_large]


def _failed(made: Sequence[Trial]) -> frozenset[Configuration]:
    measured = {t.given for t in made if t.outcome is Outcome.MEASURED}
    return frozenset(t.given for t in made) - measured


def _opening(grid: Sequence[Configuration], seed: int) -> list[Configuration]:
    """Corners and middles of the smallest batch, then corners of the largest; the seed says which middles."""
    sms, quotas, batches = (sorted({getattr(c, what) for c in grid}) for what in ("sm", "quota", "batch"))
    chance = np.random.default_rng(seed)
    middle_sm, middle_quota = (v[(len(v) - int(chance.integers(2)) - 1) // 2] for v in (sms, quotas))
    corners = [(sms[0], quotas[-1]), (sms[-1], quotas[-1]), (sms[0], quotas[0]), (sms[-1], quotas[0])]
    middles = [(middle_sm, quotas[-1]), (sms[len(sms) // 4], middle_quota)]
    points = [Configuration(sm, quota, batches[0]) for sm, quota in corners + middles]
    if len(batches) > 1:
        points += [Configuration(sm, quota, batches[-1]) for sm, quota in corners[:2]]
    present = set(grid)
    return [point for point in dict.fromkeys(points) if point in present]


def _furthest(untried: Sequence[Configuration], made: Sequence[Trial]) -> Configuration:
    """Nothing was measured yet: as far as can be from all that failed."""

    def distance(point: Configuration) -> float:
        return min((_apart(point, t.given) for t in made), default=inf)

    return max(untried, key=distance)


def _apart(a: Configuration, b: Configuration) -> float:
    return abs(log(a.sm / b.sm)) + abs(log(a.quota / b.quota)) + abs(log(a.batch / b.batch))


def _most_worth(
    grid: Sequence[Configuration],
    untried: Sequence[Configuration],
    predictor: Predictor,
    slo: Slo | None,
    failed: frozenset[Configuration],
) -> Configuration | None:
    rated = {c: _rated(c, predictor, slo) for c in dict.fromkeys(grid) if c not in failed}
    possible = {c: r for c, r in rated.items() if r is not None}
    if not possible:
        return None
    chosen = max(possible, key=lambda c: possible[c].rpr)
    regrets = {c: _regret(possible[chosen], r) for c, r in possible.items() if c != chosen}
    regrets[chosen] = max(regrets.values(), default=0.0)

    def worth(c: Configuration) -> float:
        return regrets[c] + WEIGHT * max(0.0, possible[c].doubt - SURE)

    candidate = max((c for c in untried if c in possible), key=lambda c: (worth(c), possible[c].doubt), default=None)
    return candidate if candidate is not None and worth(candidate) > REGRET else None


@dataclass(frozen=True, slots=True)
class _Rated:
    """RPR within the SLO and its standard deviation; doubt: relative standard deviation of the capacity."""

    rpr: float
    sd: float
    doubt: float


def _rated(point: Configuration, predictor: Predictor, slo: Slo | None) -> _Rated | None:
    """What a configuration is worth; None: it surely does not keep the SLO."""
    low, high = predictor.spread_within(point, slo)
    if high <= 0:
        return None
    capacity = predictor.capacity(point)
    width = 2 * NormalDist().inv_cdf((1 + predictor.confidence) / 2)
    doubt = log(capacity.high / capacity.low) / width
    return _Rated((low + high) / 2 / point.area, (high - low) / width / point.area, doubt)


def _regret(chosen: _Rated, other: _Rated) -> float:
    """What the other is expected to be better by, if it is better, as a fraction of what is chosen."""
    sd = sqrt(chosen.sd**2 + other.sd**2) + 1e-12 * chosen.rpr
    ahead = (other.rpr - chosen.rpr) / sd
    normal = NormalDist()
    return sd * (normal.pdf(ahead) + ahead * normal.cdf(ahead)) / chosen.rpr
