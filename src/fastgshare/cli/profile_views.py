"""A subject's trials as pictures and tables show them: beside what they let us predict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Final

from fastgshare.domain.errors import InvalidValue
from fastgshare.domain.functions import Slo
from fastgshare.domain.profiles import Configuration, Estimate, Outcome, Subject, Trial
from fastgshare.profiler.predictors import Predictor
from fastgshare.report.agreements import Agreement
from fastgshare.report.latencies import QUANTILES, Curve
from fastgshare.report.points import points_of
from fastgshare.report.profiles import Profile, best_of

FOLDS: Final = 5
"""Parts that measured configurations are divided into; each is predicted from the others' trials."""

_FRACTION: Final = 0.99
_CURVES: Final = 4
_STEPS: Final = 24
_MOST_POINTS: Final = 400
"""Of a grid made of all SMs, quotas and batches that were tried; beyond it only what was tried is predicted."""


def view(subject: Subject, trials: Sequence[Trial], slo_s: float | None, *, thorough: bool) -> Profile:
    """What is known of a subject. slo_s: None takes the bound of its latest trial that had one, 0 none.

    thorough: also how well predictions agree with what was measured, and latency by load; takes seconds.
    """
    bound = _latest_bound(trials) if slo_s is None else slo_s
    predictor = _fitted(trials)
    if predictor is None:
        return Profile(subject, trials, slo_s=bound)
    grid = _grid(trials)
    slo = Slo(bound, _FRACTION) if bound else None
    capacities = {c: predictor.capacity(c) for c in grid}
    return Profile(
        subject,
        trials,
        capacities,
        _latencies(predictor, trials, capacities) if thorough else {},
        bound,
        {c: predictor.rate_within(c, slo) for c in grid} if slo else {},
        agreements(trials) if thorough else (),
        _notes(predictor),
    )


def agreements(trials: Sequence[Trial]) -> list[Agreement]:
    """Every capacity that was measured, beside what is predicted of it by trials of other configurations alone."""
    points = [p for p in points_of(trials, {}) if p.rps]
    folds = min(FOLDS, len(points))
    found = []
    for fold in range(folds):
        held_out = points[fold::folds]
        hidden = {point.configuration for point in held_out}
        predictor = _fitted([trial for trial in trials if trial.given not in hidden])
        if predictor is not None:
            found += [Agreement(p.configuration, p.rps or 0.0, predictor.capacity(p.configuration)) for p in held_out]
    return sorted(found, key=lambda agreement: agreement.configuration)


def _fitted(trials: Sequence[Trial]) -> Predictor | None:
    """A predictor; None where nothing was measured that it could learn from."""
    try:
        return Predictor.fit(trials)
    except InvalidValue:
        return None


def _grid(trials: Sequence[Trial]) -> list[Configuration]:
    """All SMs x quotas x batches that were tried, but for configurations that were tried and never gave figures."""
    given = {trial.given for trial in trials}
    axes: tuple[Callable[[Configuration], float], ...] = (lambda c: c.sm, lambda c: c.quota, lambda c: c.batch)
    sms, quotas, batches = (sorted({value(c) for c in given}) for value in axes)
    whole = [Configuration(sm, quota, int(batch)) for sm, quota, batch in product(sms, quotas, batches)]
    measured = {trial.given for trial in trials if trial.outcome is Outcome.MEASURED}
    return [c for c in (whole if len(whole) <= _MOST_POINTS else sorted(given)) if c in measured or c not in given]


def _latest_bound(trials: Sequence[Trial]) -> float:
    return next((trial.within_s for trial in reversed(trials) if trial.within_s), 0.0)


def _latencies(
    predictor: Predictor, trials: Sequence[Trial], capacities: Mapping[Configuration, Estimate]
) -> dict[Configuration, dict[float, Curve]]:
    """Curves of the configurations that were tried at the most rates; where none was, of the best one."""
    tried = Counter(t.given for t in trials if t.offered_rps and t.outcome is Outcome.MEASURED)
    best = best_of(points_of(trials, capacities))
    chosen = [c for c, _ in tried.most_common(_CURVES)] or ([best.configuration] if best else [])
    return {c: {q: _curve(predictor, c, capacities[c].value, q) for q in QUANTILES} for c in chosen if c in capacities}


def _curve(predictor: Predictor, configuration: Configuration, capacity_rps: float, quantile: float) -> Curve:
    rates = (capacity_rps * step / (_STEPS + 1) for step in range(1, _STEPS + 1))
    return [(rate, predictor.latency(configuration, rate, quantile)) for rate in rates]


def _notes(predictor: Predictor) -> list[str]:
    left_out = [f"Not used: {words}." for words in predictor.left_out]
    return [*left_out, *(f"Trials disagree: {words}." for words in predictor.disagreements)]
