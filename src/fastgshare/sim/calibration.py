"""Fitting the traces to the published sets that are for it, and to no others: a small deterministic search."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from fastgshare.sim.experiments import Policy, Setting, run
from fastgshare.sim.published import CALIBRATION, SMS, Point
from fastgshare.sim.traces import Scales, Trace, load

FITTED: Final = {"resnet50": ("device", "host"), "rnnt": ("device", "bandwidth", "host")}
"""Network -> which of its scales are fitted. The others stay 1: the published sets do not tell them apart."""

FACTORS: Final = (1.5, 1.2, 1.1, 1.05, 1.02, 1.01, 1.005)
SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Fit:
    """What was found. error: root of the mean squared logarithm of modelled over published."""

    network: str
    scales: Scales
    error: float
    runs: int


def setting_of(trace: Trace, point: Point) -> Setting:
    """How a published point is modelled."""
    return Setting(trace, point.sm_partition, point.quota, point.replicas, SMS)


def policy_of(point: Point) -> Policy:
    """How a point that calibrates came about: no tokens; partitions, or turns on the whole device."""
    return Policy.PARTITIONS if point.partitioned else Policy.TURNS


def fit(network: str, advance: Callable[[], None] = lambda: None) -> Fit:
    """Search the scales of a network's trace, one by one in ever smaller steps, from 1 on.

    `advance` is called after every run.
    """
    points = [p for p in CALIBRATION if p.network == network]
    known: dict[Scales, float] = {}

    def error(scales: Scales) -> float:
        if scales not in known:
            known[scales] = _error(network, scales, points, advance)
        return known[scales]

    best = Scales()
    for factor in FACTORS:
        best = _descend(best, FITTED[network], factor, error)
    return Fit(network, best, error(best), len(known) * len(points))


def _descend(start: Scales, names: Sequence[str], factor: float, error: Callable[[Scales], float]) -> Scales:
    """Steps of one size, as long as one of them helps."""
    best = start
    while True:
        steps = [_step(best, name, by) for name in names for by in (factor, 1 / factor)]
        nearest = min(steps, key=error)
        if error(nearest) >= error(best):
            return best
        best = nearest


def _step(scales: Scales, name: str, by: float) -> Scales:
    return replace(scales, **{name: float(f"{getattr(scales, name) * by:.4g}")})


def _error(network: str, scales: Scales, points: Sequence[Point], advance: Callable[[], None]) -> float:
    trace = load(network, scales)
    total = 0.0
    for point in points:
        rps = run(setting_of(trace, point), policy_of(point), seconds=SECONDS).rps
        total += math.log(max(rps, 1e-9) / point.rps) ** 2
        advance()
    return math.sqrt(total / len(points))
