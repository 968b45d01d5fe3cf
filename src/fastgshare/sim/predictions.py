"""What the calibrated stand-in says of the published points, each beside what was published."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from fastgshare.sim.calibration import policy_of, setting_of
from fastgshare.sim.experiments import SECONDS, Outcome, Policy, Setting, run
from fastgshare.sim.published import CALIBRATION, POINTS, PREDICTED, REFERENCE_HELD, SMS, Point
from fastgshare.sim.traces import Trace, load, parse

GOAL: Final = 0.10
"""A model that is within so much of what was published, as a fraction, is good enough."""

BURST_NS: Final = 8_700_000
"""Bursts of the saturated instance: one length with which the reference's policy gives both of what we measured."""

MANY: Final = 9
"""Replicas of RNN-T, of which the paper says how much more they do with partitions than without."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A published point, and what the model says of it under a policy."""

    point: Point
    policy: Policy
    outcome: Outcome

    @property
    def residual(self) -> float:
        """How far the model is from what was published, as a fraction of that."""
        return self.outcome.rps / self.point.rps - 1

    @property
    def within_goal(self) -> bool:
        """Whether that is at most the goal."""
        return abs(self.residual) <= GOAL


@dataclass(frozen=True, slots=True)
class Held:
    """Share of time that a saturated instance holds under the reference's policy: as we measured it, as modelled."""

    quota: float
    measured: float
    modelled: float


@dataclass(frozen=True, slots=True)
class Gain:
    """How much more replicas of RNN-T do on a percentage of SMs each than taking turns without partitions."""

    sm_partition: float
    policy: Policy
    outcome: Outcome
    unpartitioned_rps: float

    @property
    def ratio(self) -> float:
        """Throughput over throughput."""
        return self.outcome.rps / self.unpartitioned_rps


@dataclass(frozen=True, slots=True)
class Study:
    """All that the calibrated stand-in says. predictions: under every policy that a point can be compared under."""

    traces: tuple[Trace, ...]
    calibration: tuple[Comparison, ...]
    predictions: tuple[Comparison, ...]
    held: tuple[Held, ...]
    gains: tuple[Gain, ...]

    def beyond_goal(self, policy: Policy) -> list[Comparison]:
        """The predictions under a policy that are further from what was published than the goal."""
        return [c for c in self.predictions if c.policy is policy and not c.within_goal]


def policies_of(point: Point) -> tuple[Policy, ...]:
    """What a prediction is made under. Partitions alone say something only where no quota bounds anything."""
    tokens = (Policy.REFERENCE, Policy.OURS)
    return (Policy.PARTITIONS, *tokens) if point.quota == 1 else tokens


def runs() -> int:
    """How often a study calls `advance`."""
    return len(CALIBRATION) + sum(len(policies_of(p)) for p in PREDICTED) + len(REFERENCE_HELD)


def study(advance: Callable[[], None] = lambda: None, *, seconds: float = SECONDS) -> Study:
    """Run everything, for so many seconds of virtual time each: the same each time. `advance` is called per run."""
    networks = sorted({p.network for p in POINTS})
    traces = {network: load(network) for network in networks}

    def compare(point: Point, policy: Policy) -> Comparison:
        found = Comparison(point, policy, run(setting_of(traces[point.network], point), policy, seconds=seconds))
        advance()
        return found

    calibration = tuple(compare(p, policy_of(p)) for p in CALIBRATION)
    predictions = tuple(compare(p, policy) for p in PREDICTED for policy in policies_of(p))
    held = tuple(_held(quota, measured, seconds, advance) for quota, measured in REFERENCE_HELD.items())
    return Study(tuple(traces.values()), calibration, predictions, held, tuple(_gains(calibration, predictions)))


def _held(quota: float, measured: float, seconds: float, advance: Callable[[], None]) -> Held:
    trace = parse(f"kernel burst blocks=1 us={BURST_NS / 1000:g}\nburst\nsync\n", "saturated")
    outcome = run(Setting(trace, 100, quota, sms=SMS), Policy.REFERENCE, seconds=seconds)
    found = Held(quota, measured, outcome.busy)
    advance()
    return found


def _gains(calibration: Sequence[Comparison], predictions: Iterable[Comparison]) -> Iterable[Gain]:
    def many(comparison: Comparison) -> bool:
        return comparison.point.network == "rnnt" and comparison.point.replicas == MANY

    turns = next(c for c in calibration if many(c) and c.policy is Policy.TURNS)
    for c in filter(many, predictions):
        yield Gain(c.point.sm_partition, c.policy, c.outcome, turns.outcome.rps)
