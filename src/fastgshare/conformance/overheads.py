"""What an interposer costs: nanoseconds a call, microseconds a start, on a stand-in whose calls do nothing.

Processes with and without it alternate, for the machine changes while it is measured; what is added is the difference
of the percentiles of neighbours, and of those the median.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any, Final

from fastgshare.conformance.ground import Ground, Line, Place, Probe, share
from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.errors import InstanceFailed
from fastgshare.domain.shares import Share
from fastgshare.native import library

CALLS: Final = ("cuLaunchKernel", "cuLaunchKernelEx", "cuGraphLaunch", "alloc_free_10", "alloc_free_10000")
STARTS: Final = (1, 64)
ROUNDS: Final = 15
STANDIN: Final = Device("standin", DeviceKind.STANDIN, 132, 80 * 2**30)
_CAP_BYTES: Final = 40 * 2**30
_ALONE_ROUNDS: Final = 4  # rounds of single starts for each round of calls
_CROWD_ROUNDS: Final = 5
_PROGRAM: Final = "probes/bench_hook"


@dataclass(frozen=True, slots=True)
class Cost:
    """Of a call or a start, in nanoseconds: what it takes alone, and what the interposer adds to its percentiles.

    cpu: CPU time of a start, median without and what is added; None for calls.
    """

    native_p50_ns: float
    native_p99_ns: float
    added_p50_ns: float
    added_p99_ns: float
    cpu: tuple[float, float] | None = None

    def document(self) -> dict[str, float]:
        """As JSON."""
        figures = {
            "native_p50_ns": self.native_p50_ns,
            "native_p99_ns": self.native_p99_ns,
            "added_p50_ns": self.added_p50_ns,
            "added_p99_ns": self.added_p99_ns,
        }
        if self.cpu is not None:
            figures |= {"native_cpu_p50_ns": self.cpu[0], "added_cpu_p50_ns": self.cpu[1]}
        return {name: round(value, 2) for name, value in figures.items()}


@dataclass(frozen=True, slots=True)
class _Quantiles:
    p50: float
    p99: float


class _Trials:
    """Runs the program with and without the interposer."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._core = max(os.sched_getaffinity(0))
        self._numbers = count(1)

    async def calls(self, *, hooked: bool) -> Mapping[str, _Quantiles]:
        """One process that times all calls. Raises `InstanceFailed`."""
        words = [str(library(_PROGRAM)), "calls", f"core={self._core}"]
        place = Share(100, 1.0, 1.0, _CAP_BYTES), share(1.0)[1]
        (lines,) = await self._together([place], words, hooked=hooked, from_the_start=True)
        return {str(line["call"]): _Quantiles(*line["ns"]) for line in lines}

    async def starts(self, at_once: int, *, hooked: bool) -> Sequence[Line]:
        """What each of several processes took that start at once."""
        words = [str(library(_PROGRAM)), "start"]
        words += [f"preload={self._ground.preload or library('libfasthook.so')}"] if hooked else []
        places = [share(1.0, sm=1, sm_at=i) for i in range(at_once)]
        return [lines[0] for lines in await self._together(places, words, hooked=hooked, from_the_start=False)]

    async def _together(
        self, places: Sequence[Place], words: Sequence[str], *, hooked: bool, from_the_start: bool
    ) -> list[Sequence[Line]]:
        probes = [await self._start(place, words, hooked, from_the_start) for place in places]
        for probe in probes:
            probe.say()
        for probe in probes:
            await probe.finish()
            if probe.status != 0 or not probe.lines:
                raise InstanceFailed(probe.instance_id, f"the program that is timed failed: {probe.what_went_wrong()}")
        return [probe.lines for probe in probes]

    async def _start(self, place: Place, words: Sequence[str], hooked: bool, from_the_start: bool) -> Probe:
        instance_id = f"timed-{next(self._numbers)}"
        env = self._ground.environment(place, instance_id, {"null": "1"}, alone=True)
        if not hooked or not from_the_start:
            del env["LD_PRELOAD"]
        if not hooked:
            env = {name: value for name, value in env.items() if name == "FASTGSHARE_STANDIN" or not _ours(name)}
        probe = await self._ground.start_alone(instance_id, words, env)
        if hooked:
            await self._ground.daemon.admit(instance_id, probe.process.pid, *place)
        return probe


def _ours(name: str) -> bool:
    return name.startswith("FASTGSHARE_")


async def measure(
    directory: Path, preload: Path | None, rounds: int = ROUNDS, advance: Callable[[], None] = lambda: None
) -> dict[str, Cost]:
    """Costs of an interposer (None: ours), by call, and of starts, as "startup_1" and "startup_64" (so many at once).

    advance: called after every round. Raises `InstanceFailed` if a program fails, `DaemonUnavailable` without a daemon.
    """
    native: list[Mapping[str, _Quantiles]] = []
    hooked: list[Mapping[str, _Quantiles]] = []
    starts: dict[int, tuple[list[Line], list[Line]]] = {at_once: ([], []) for at_once in STARTS}
    async with Ground(STANDIN, directory, preload) as ground:
        trials = _Trials(ground)
        for number in range(rounds):
            native.append(await trials.calls(hooked=False))
            hooked.append(await trials.calls(hooked=True))
            for at_once in [1] * _ALONE_ROUNDS + ([64] if number < _CROWD_ROUNDS else []):
                starts[at_once][0].extend(await trials.starts(at_once, hooked=False))
                starts[at_once][1].extend(await trials.starts(at_once, hooked=True))
            advance()
    costs = {call: _cost(call, native, hooked) for call in CALLS}
    return costs | {f"startup_{at_once}": _start_cost(*lines) for at_once, lines in starts.items()}


def _cost(call: str, native: Sequence[Mapping[str, _Quantiles]], hooked: Sequence[Mapping[str, _Quantiles]]) -> Cost:
    pairs = [(without[call], with_it[call]) for without, with_it in zip(native, hooked, strict=True)]
    return Cost(
        *(median(without.p50 for without, _ in pairs), median(without.p99 for without, _ in pairs)),
        *(median(w.p50 - n.p50 for n, w in pairs), median(w.p99 - n.p99 for n, w in pairs)),
    )


def _start_cost(native: Sequence[Mapping[str, Any]], hooked: Sequence[Mapping[str, Any]]) -> Cost:
    wall = [sorted(float(line["wall_ns"]) for line in lines) for lines in (native, hooked)]
    cpu = [median(float(line["cpu_ns"]) for line in lines) for lines in (native, hooked)]
    (p50, p99), (p50_with, p99_with) = [(_at(values, 0.5), _at(values, 0.99)) for values in wall]
    return Cost(p50, p99, p50_with - p50, p99_with - p99, (cpu[0], cpu[1] - cpu[0]))


def _at(ordered: Sequence[float], q: float) -> float:
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]
