"""Which trial is made next, and what is chosen in the end."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgshare.domain.errors import InvalidValue, NotFound
from fastgshare.domain.functions import Slo
from fastgshare.domain.profiles import Configuration, Figures, Outcome, Subject, Trial
from fastgshare.profiler.grids import paper_grid
from fastgshare.profiler.plans import best, frontier, next_trial
from fastgshare.profiler.predictors import Predictor

SUBJECT = Subject("f", "digest", "a device")
GRID = paper_grid()
OUTCOMES = st.sampled_from([Outcome.MEASURED] * 6 + list(Outcome))


def saturating(c: Configuration) -> float:
    return c.quota / (0.01 + 0.2 / c.sm) * c.batch**0.4


def a_trial(point: Configuration, outcome: Outcome = Outcome.MEASURED, source: str = "trial") -> Trial:
    rps = saturating(point)
    figures = Figures(rps, 0.003 * rps) if outcome is Outcome.MEASURED else None
    return Trial(SUBJECT, point, point, outcome, figures, source=source)


def made(
    budget: int = 12, slo: Slo | None = None, seed: int = 0, grid: tuple[Configuration, ...] = GRID
) -> list[Trial]:
    trials: list[Trial] = []
    while (point := next_trial(grid, trials, slo=slo, budget=budget, seed=seed)) is not None:
        trials.append(a_trial(point))
    return trials


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_no_measured_point_again_never_beyond_the_budget_the_same_by_seed(data: st.DataObject) -> None:
    budget, seed = data.draw(st.integers(1, 14)), data.draw(st.integers(0, 5))
    slo = data.draw(st.sampled_from([None, Slo(0.1)]))
    trials: list[Trial] = []
    for _ in range(budget + 1):
        point = next_trial(GRID, trials, slo=slo, budget=budget, seed=seed)
        assert point == next_trial(GRID, list(trials), slo=slo, budget=budget, seed=seed)
        if point is None:
            break
        assert point in GRID
        assert point not in {t.given for t in trials if t.outcome is not Outcome.DEVICE_LOST}
        trials.append(a_trial(point, data.draw(OUTCOMES)))
    assert len(trials) <= budget
    assert next_trial(GRID, trials, slo=slo, budget=len(trials) or 1, seed=seed) is None


def test_it_stops_by_itself_when_the_next_would_change_no_decision() -> None:
    trials = made(budget=35)
    assert 5 <= len(trials) < 12
    predictor = Predictor.fit(trials)
    assert best(GRID, predictor).configuration.sm == 6  # where a plain function is worth most


def test_the_choice_is_the_best_of_the_full_grid_within_3_percent() -> None:
    slo = Slo(0.15)
    known = Predictor.fit([a_trial(c) for c in GRID])
    top = best(GRID, known, slo)
    chosen = best(GRID, Predictor.fit(made(slo=slo)), slo).configuration
    assert known.rate_within(chosen, slo).value / chosen.area > 0.97 * top.rpr


def test_an_slo_moves_the_choice_to_faster_shares() -> None:
    known = Predictor.fit([a_trial(c) for c in GRID])
    free, bound = best(GRID, known), best(GRID, known, Slo(0.06))
    assert bound.configuration.area > free.configuration.area
    assert bound.rps.value < known.capacity(bound.configuration).value


def test_without_a_configuration_that_keeps_the_slo_it_says_so() -> None:
    with pytest.raises(NotFound, match="f"):
        best(GRID, Predictor.fit(made()), Slo(0.0001))


def test_the_frontier_grows_in_area_and_rate_and_nothing_beats_it() -> None:
    predictor = Predictor.fit(made())
    line = frontier(GRID, predictor)
    areas, rates = [c.configuration.area for c in line], [c.rps.value for c in line]
    assert areas == sorted(areas) and rates == sorted(set(rates))
    for point in GRID:
        rate = predictor.capacity(point).value
        assert any(c.configuration.area <= point.area + 1e-9 and c.rps.value >= rate * (1 - 1e-6) for c in line)


def test_what_is_as_large_as_what_ran_out_of_memory_is_not_tried() -> None:
    grid = paper_grid((1, 8, 32))
    trials = [*made(6), a_trial(Configuration(100, 1, 8), Outcome.OUT_OF_MEMORY)]
    for _ in range(10):
        point = next_trial(grid, trials, slo=None, budget=30, seed=0)
        if point is None:
            break
        assert point.batch == 1
        trials.append(a_trial(point))
    assert best(grid, Predictor.fit(trials)).configuration.batch == 1


def test_a_lost_device_says_nothing_of_the_configuration_but_costs() -> None:
    first = next_trial(GRID, [], slo=None, budget=2, seed=0)
    assert first is not None
    lost = a_trial(first, Outcome.DEVICE_LOST)
    assert next_trial(GRID, [lost], slo=None, budget=2, seed=0) == first
    assert next_trial(GRID, [lost, lost], slo=None, budget=2, seed=0) is None


def test_what_production_saw_costs_no_trial() -> None:
    seen = [a_trial(GRID[12], source="production")] * 20
    assert next_trial(GRID, seen, slo=None, budget=1, seed=0) is not None


def test_while_all_fail_it_goes_as_far_away_as_it_can() -> None:
    trials: list[Trial] = []
    while (point := next_trial(GRID, trials, slo=None, budget=9, seed=0)) is not None:
        trials.append(a_trial(point, Outcome.CRASHED))
    assert len({t.given for t in trials}) == 9


def test_a_grid_of_one_point_takes_one_trial() -> None:
    assert [t.given for t in made(grid=(Configuration(100, 1),))] == [Configuration(100, 1)]


@pytest.mark.parametrize(("grid", "budget", "field"), [((), 3, "grid"), (GRID, 0, "budget")])
def test_nothing_to_try_is_refused(grid: tuple[Configuration, ...], budget: int, field: str) -> None:
    with pytest.raises(InvalidValue, match=field):
        next_trial(grid, [], slo=None, budget=budget, seed=0)


def test_two_subjects_are_refused() -> None:
    other = Trial(Subject("g", "d", "t"), GRID[0], GRID[0], Outcome.MEASURED, Figures(1.0))
    with pytest.raises(InvalidValue, match="2 subjects"):
        next_trial(GRID, [*made(8), other], slo=None, budget=20, seed=0)
