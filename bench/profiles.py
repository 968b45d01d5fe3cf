"""What the profiler reaches on the stand-in, a test double: prediction from few trials of the
paper's 35, in virtual time.

Measures the full grid of every shipped trace once, then
- *any 12*: fits chance choices of 12 trials, four of them corners in every second choice, and predicts the other 23;
- *adaptive*: lets the plan choose, at most 12, for no SLO and two SLOs, and compares its choice with the full grid's.

Usage: python bench/profiles.py [--sms 80 132] [--choices 40] [--seeds 5] [--traces NAME ...]
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fastgshare.domain.functions import Slo
from fastgshare.domain.profiles import Configuration, Trial
from fastgshare.profiler.grids import paper_grid
from fastgshare.profiler.plans import best, next_trial
from fastgshare.profiler.predictors import Predictor
from fastgshare.sim.traces import names
from fastgshare.sim.trials import VirtualRunner

FEW = 12
GRID = paper_grid()
CORNERS = [p for p in GRID if p.sm in (6, 100) and p.quota in (0.2, 1)]


@dataclass(frozen=True, slots=True)
class Held:
    """Held-out points: errors as fractions, and whether the interval held."""

    errors: tuple[float, ...]
    held: tuple[bool, ...]

    def __str__(self) -> str:
        median, tail = np.quantile(self.errors, [0.5, 0.9])
        return f"{median:7.2%} {tail:7.2%} {np.mean(self.held):7.1%}"


def rps_of(trial: Trial) -> float:
    """What a trial measured."""
    if trial.figures is None:
        raise SystemExit(f"error: {trial.asked}: {trial.reason}")
    return trial.figures.rps


def held_out(predictor: Predictor, full: Mapping[Configuration, Trial]) -> Held:
    """Compare predictions with all that was measured but not shown."""
    pairs = [(predictor.capacity(c), rps_of(t)) for c, t in full.items() if c not in predictor.measured]
    errors = tuple(abs(estimate.value / rps - 1) for estimate, rps in pairs)
    return Held(errors, tuple(estimate.low <= rps <= estimate.high for estimate, rps in pairs))


def together(several: Sequence[Held]) -> Held:
    """All held-out points of several."""
    return Held(tuple(e for h in several for e in h.errors), tuple(x for h in several for x in h.held))


def choices(count: int) -> Iterator[list[Configuration]]:
    """Chance choices of 12."""
    for seed in range(count):
        chance = random.Random(seed)
        kept = CORNERS if seed % 2 else []
        yield kept + chance.sample([p for p in GRID if p not in kept], FEW - len(kept))


def adapted(full: Mapping[Configuration, Trial], slo: Slo | None, seed: int) -> list[Trial]:
    """The trials that the plan makes."""
    made: list[Trial] = []
    while (point := next_trial(GRID, made, slo=slo, budget=FEW, seed=seed)) is not None:
        made.append(full[point])
    return made


def slos(full: Mapping[Configuration, Trial]) -> tuple[Slo | None, ...]:
    """None, a tight one and a loose one: in requests as the whole device answers them alone, and windows."""
    alone_s = 1 / rps_of(full[Configuration(100, 1)])
    return None, Slo(0.02 + 3 * alone_s), Slo(0.06 + 6 * alone_s)


def report(name: str, sms: int, count: int, seeds: int) -> tuple[list[Held], list[Held]]:
    """Print the rows of a trace."""
    runner = VirtualRunner(name, sms)
    full = {point: runner.measure(runner.subject, point, seed=1) for point in GRID}
    known = Predictor.fit(list(full.values()))
    took_s = sum(trial.took_s for trial in full.values())
    chance = [held_out(Predictor.fit([full[p] for p in chosen]), full) for chosen in choices(count)]
    print(f"{name:9} {sms:4} any {FEW}            {together(chance)}", flush=True)
    planned = []
    for slo in slos(full):
        plans = [adapted(full, slo, seed) for seed in range(seeds)]
        fits = [Predictor.fit(trials) for trials in plans]
        top = best(GRID, known, slo)
        chosen = [best(GRID, fit, slo).configuration for fit in fits]
        parts = [known.rate_within(c, slo).value / c.area / top.rpr for c in chosen]
        times = [sum(t.took_s for t in trials) / took_s for trials in plans]
        held = [held_out(fit, full) for fit in fits]
        planned += held
        bound = f"{1e3 * slo.latency_s:4.0f} ms" if slo else "no SLO"
        where = f"{top.configuration.sm:g}%, {top.configuration.quota:g}"
        lengths = [len(trials) for trials in plans]
        print(
            f"{name:9} {sms:4} adaptive, {bound:7} {together(held)} {min(parts):7.1%} {max(times):6.3f} "
            f"{np.mean(times):6.3f}  {min(lengths)}-{max(lengths)}  {where}",
            flush=True,
        )
    return chance, planned


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sms", type=int, nargs="+", default=[80, 132])
    parser.add_argument("--choices", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--traces", nargs="+", default=names())
    options = parser.parse_args()
    print("on the stand-in, a test double, in virtual time; held-out points: error (median, 90th percentile), covered;")
    print("least RPR of the choice over the full grid's best; time over the full grid's (most, mean); trials; best")
    rows = [report(n, sms, options.choices, options.seeds) for sms in options.sms for n in options.traces]
    print(f"all            any {FEW}            {together([h for chance, _ in rows for h in chance])}")
    print(f"all            adaptive          {together([h for _, planned in rows for h in planned])}")


if __name__ == "__main__":
    main()
