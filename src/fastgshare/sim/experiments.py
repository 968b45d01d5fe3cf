"""What replicas of a network get done on one device in virtual time, under one policy or another."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.shares import Share
from fastgshare.scheduler.packing import Demand, pack
from fastgshare.sim.gated import GatedReplays
from fastgshare.sim.policies import WindowedTokens
from fastgshare.sim.replays import NEVER_NS, EventKind, Stage
from fastgshare.sim.traces import Trace

WINDOW_S: Final = 0.04
SETTLE_S: Final = 1.0
SECONDS: Final = 20.0
TRIP_NS: Final = 50_000
"""A message from one process to another, which has to wake up: about 45 us on a machine of today."""

_AT_THE_GATE_ONLY: Final = 2**62


class Policy(StrEnum):
    """Who may use the device when. TURNS: one process at a time, as without MPS. PARTITIONS: SM caps alone."""

    TURNS = "turns"
    PARTITIONS = "partitions"
    REFERENCE = "reference"
    OURS = "ours"


@dataclass(frozen=True, slots=True)
class Setting:
    """Replicas of a trace, each on sm_partition percent of a device of `sms` SMs, with a quota of every window."""

    trace: Trace
    sm_partition: float
    quota: float = 1.0
    replicas: int = 1
    sms: int = 80


@dataclass(frozen=True, slots=True)
class Outcome:
    """rps: requests answered a second, all replicas together. busy: mean share of time in which one had work on the
    device. peak_sm: largest sum of percent that tokens were out for at once (0: no tokens).
    """

    rps: float
    busy: float
    peak_sm: float = 0.0


def run(setting: Setting, policy: Policy, *, seconds: float = SECONDS) -> Outcome:
    """Let replicas run for so many seconds of virtual time, after one to settle. Deterministic.

    Raises `NoPlacement` or `InvalidValue` if replicas have no place under our policy.
    """
    if policy is Policy.OURS:
        return _run_ours(setting, seconds)
    with Stage(setting.sms, turns=policy is Policy.TURNS) as stage:
        for seed in range(1, setting.replicas + 1):
            stage.add(setting.trace, setting.sm_partition, seed=seed)
        if policy is Policy.REFERENCE:
            windowed = _Windowed(stage, setting)
            return _measure(stage, setting.replicas, seconds, windowed.run, lambda: windowed.peak_sm)
        for replay in range(setting.replicas):
            stage.permit(replay, NEVER_NS)
        return _measure(stage, setting.replicas, seconds, lambda s: stage.run(stage.now_ns + round(s * 1e9)))


def _measure(
    stage: Stage,
    replicas: int,
    seconds: float,
    let_pass: Callable[[float], object],
    peak_sm: Callable[[], float] = lambda: 0.0,
) -> Outcome:
    def totals() -> tuple[int, int]:
        return sum(map(stage.requests, range(replicas))), sum(map(stage.busy_ns, range(replicas)))

    let_pass(SETTLE_S)
    requests, busy_ns = totals()
    let_pass(seconds)
    requests_then, busy_ns_then = totals()
    busy = (busy_ns_then - busy_ns) / (1e9 * seconds * replicas)
    return Outcome((requests_then - requests) / seconds, busy, peak_sm())


def _run_ours(setting: Setting, seconds: float) -> Outcome:
    device = Device("standin", DeviceKind.STANDIN, setting.sms)
    gated = GatedReplays(device, WINDOW_S)
    try:
        share = _our_share(setting)
        demands = [Demand.new(f"replica-{i}", share) for i in range(setting.replicas)]
        placed = pack(device, demands, window_s=WINDOW_S)
        for seed, demand in enumerate(demands, 1):
            gated.add(setting.trace, share, placed.rect_of(demand.instance_id), seed=seed)
        return _measure(gated.stage, setting.replicas, seconds, gated.run, lambda: gated.peak_sm)
    finally:
        gated.close()


def _our_share(setting: Setting) -> Share:
    """It asks for the quota if all fit beside each other, else for an equal part of it; it may use the quota."""
    columns = int(100 // setting.sm_partition)
    rows = -(-setting.replicas // columns)
    return Share(setting.sm_partition, setting.quota / rows, setting.quota)


class _Windowed:
    """Replays under the token scheduler of the reference's lineage, and the messages between them."""

    def __init__(self, stage: Stage, setting: Setting) -> None:
        self.peak_sm = 0.0
        self._stage = stage
        self._policy = WindowedTokens(round(WINDOW_S * 1e9))
        self._asking: set[int] = set()
        self._letters: list[tuple[int, int, Callable[[], None]]] = []
        self._sent = 0
        for replay in range(setting.replicas):
            self._policy.add(setting.sm_partition, setting.quota)
            stage.watch(replay, _AT_THE_GATE_ONLY)

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end_ns = self._stage.now_ns + round(seconds * 1e9)
        while self._stage.now_ns < end_ns:
            due_ns = [self._policy.next_ns(self._stage.now_ns), *(when for when, _, _ in self._letters[:1])]
            event = self._stage.run(min([end_ns, *(at for at in due_ns if at is not None)]))
            if event.kind is EventKind.WANTS:
                self._asking.add(event.replay)
            if event.replay in self._asking and not self._stage.busy(event.replay):
                self._asking.discard(event.replay)
                self._ask(event.replay)
            self._deliver()

    def _ask(self, replay: int) -> None:
        self._send(lambda: self._policy.request(replay, self._stage.now_ns))

    def _deliver(self) -> None:
        while self._letters and self._letters[0][0] <= self._stage.now_ns:
            heapq.heappop(self._letters)[2]()
        for grant in self._policy.decide(self._stage.now_ns):
            self._answer(grant.instance, grant.until_ns)
        self.peak_sm = max(self.peak_sm, self._policy.occupied(self._stage.now_ns))

    def _answer(self, replay: int, until_ns: int) -> None:
        self._send(lambda: self._stage.permit(replay, until_ns))

    def _send(self, letter: Callable[[], None]) -> None:
        self._sent += 1
        heapq.heappush(self._letters, (self._stage.now_ns + TRIP_NS, self._sent, letter))
