"""A trial of the token mechanism: the real daemon, saturated synthetic instances, and what each of them held."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.errors import InstanceFailed
from fastgshare.domain.rects import Rect
from fastgshare.domain.shares import Share
from fastgshare.manager.node import NodeDaemon
from fastgshare.manager.saturation import read_log

ABSTRACT: Final = Device("abstract", DeviceKind.ABSTRACT, sm_count=100)
_SETTLE_WINDOWS: Final = 2
_START_TIMEOUT_S: Final = 30.0

Holds = Sequence[tuple[int, int, int]]


@dataclass(frozen=True, slots=True)
class Contender:
    """One saturated instance of a trial. rect None: it has no slot of its own (forced). burst_s 0: can stop."""

    id: str
    share: Share
    rect: Rect | None
    burst_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one instance held. held: share of wall time; worst_window: largest shortfall of a window, in points."""

    id: str
    share: Share
    held: float
    worst_window: float
    longest_gap_ms: float
    killed: bool


@dataclass(frozen=True, slots=True)
class Result:
    """Figures of a trial. peak_sm_sum and share_over_100 are of the SMs of all holders at once, in percent."""

    outcomes: tuple[Outcome, ...]
    seconds: float
    window_s: float
    peak_sm_sum: float
    share_over_100: float
    grants_per_s: float
    daemon_cpu_share: float
    grant_p50_us: float
    grant_p99_us: float
    longest_gap_ms: float


@dataclass(slots=True)
class _Run:
    """One contender's process and log."""

    contender: Contender
    log: Path
    process: asyncio.subprocess.Process
    killed_ns: int = 0
    holds: list[tuple[int, int, int]] = field(default_factory=list)


async def run_trial(
    contenders: Sequence[Contender],
    seconds: float,
    directory: Path,
    *,
    kill: tuple[str, float] | None = None,
    window_s: float | None = None,
) -> Result:
    """Run saturated instances under the real daemon on an abstract device of 100 units.

    kill: (id, when_s): kill -9 that instance then. Counting starts when all are registered and have found their
    place in the window. Raises `InstanceFailed` if an instance does not start, `DaemonUnavailable` without a daemon.
    """
    daemon = NodeDaemon([ABSTRACT], directory, window_s=window_s)
    runs: list[_Run] = []
    try:
        await daemon.start()
        for contender in contenders:
            runs.append(await _start(contender, daemon, directory))
        for run in runs:
            await _ready(run)
        return await _measure(runs, seconds, daemon, kill)
    finally:
        for run in runs:
            with suppress(ProcessLookupError):
                run.process.kill()
            await run.process.wait()
        await daemon.stop()


async def _start(contender: Contender, daemon: NodeDaemon, directory: Path) -> _Run:
    log = directory / f"{contender.id}.holds"
    log.unlink(missing_ok=True)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "fastgshare.manager.saturation", "--socket", str(daemon.socket_path)),
        *("--instance", contender.id, "--burst-s", str(contender.burst_s), "--log", str(log)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    await daemon.admit(contender.id, process.pid, contender.share, contender.rect, contender.burst_s, declared=True)
    return _Run(contender, log, process)


async def _ready(run: _Run) -> None:
    assert run.process.stdout is not None
    try:
        line = await asyncio.wait_for(run.process.stdout.readline(), _START_TIMEOUT_S)
    except TimeoutError:
        line = b""
    if line.strip() != b"ready":
        raise InstanceFailed(run.contender.id, "the synthetic instance did not register with the daemon")


async def _measure(runs: list[_Run], seconds: float, daemon: NodeDaemon, kill: tuple[str, float] | None) -> Result:
    for run in runs:
        assert run.process.stdin is not None
        run.process.stdin.write(b"go\n")
    await asyncio.sleep(0.1)
    epoch_ns, window_s = await daemon.window()
    window_ns = round(window_s * 1e9)
    elapsed = (time.monotonic_ns() - epoch_ns) // window_ns
    start_ns = epoch_ns + (elapsed + _SETTLE_WINDOWS) * window_ns
    await _sleep_until(start_ns)
    before, cpu_start_ns = await daemon.status(), time.monotonic_ns()
    end_ns = start_ns + round(seconds * 1e9)
    if kill is not None:
        await _sleep_until(start_ns + round(kill[1] * 1e9))
        victim = next(run for run in runs if run.contender.id == kill[0])
        victim.process.kill()
        victim.killed_ns = time.monotonic_ns()
    await _sleep_until(end_ns)
    after, cpu_end_ns = await daemon.status(), time.monotonic_ns()
    cpu_share = (after["cpu_s"] - before["cpu_s"]) / ((cpu_end_ns - cpu_start_ns) / 1e9)
    await _stop(runs)
    for run in runs:
        run.holds = _clip(read_log(run.log), start_ns, end_ns)
    return _result(runs, start_ns, end_ns, window_ns, cpu_share)


async def _stop(runs: Iterable[_Run]) -> None:
    for run in runs:
        with suppress(ProcessLookupError):
            run.process.send_signal(signal.SIGTERM)
    for run in runs:
        try:
            await asyncio.wait_for(run.process.wait(), 5)
        except TimeoutError:
            run.process.kill()


async def _sleep_until(when_ns: int) -> None:
    await asyncio.sleep(max(0, when_ns - time.monotonic_ns()) / 1e9)


def _clip(holds: Holds, start_ns: int, end_ns: int) -> list[tuple[int, int, int]]:
    inside = [(max(a, start_ns), min(b, end_ns), latency) for a, b, latency in holds if b > start_ns and a < end_ns]
    return sorted(inside)


# --- figures ---------------------------------------------------------------------------------------------------------


def _result(runs: Sequence[_Run], start_ns: int, end_ns: int, window_ns: int, cpu_share: float) -> Result:
    seconds = (end_ns - start_ns) / 1e9
    outcomes = tuple(_outcome(run, start_ns, end_ns, window_ns) for run in runs)
    peak, over = sm_sums([(run.contender.share.sm_partition, run.holds) for run in runs], start_ns, end_ns)
    latencies = sorted(latency for run in runs for _, _, latency in run.holds)
    return Result(
        outcomes=outcomes,
        seconds=seconds,
        window_s=window_ns / 1e9,
        peak_sm_sum=peak,
        share_over_100=over,
        grants_per_s=len(latencies) / seconds,
        daemon_cpu_share=cpu_share,
        grant_p50_us=_quantile(latencies, 0.50) / 1e3,
        grant_p99_us=_quantile(latencies, 0.99) / 1e3,
        longest_gap_ms=max((o.longest_gap_ms for o in outcomes if not o.killed), default=0.0),
    )


def _outcome(run: _Run, start_ns: int, end_ns: int, window_ns: int) -> Outcome:
    last_ns = run.killed_ns or end_ns
    held = sum(b - a for a, b, _ in run.holds)
    request = run.contender.share.quota_request
    shortfalls = [
        100 * (request - held_in(run.holds, at, at + window_ns) / window_ns)
        for at in range(start_ns, last_ns - window_ns + 1, window_ns)
    ]
    edges = [start_ns, *(edge for a, b, _ in run.holds for edge in (a, b)), last_ns]
    gaps = [edges[i + 1] - edges[i] for i in range(0, len(edges) - 1, 2)]
    return Outcome(
        id=run.contender.id,
        share=run.contender.share,
        held=held / max(1, last_ns - start_ns),
        worst_window=max([0.0, *shortfalls]),
        longest_gap_ms=max(gaps, default=0) / 1e6,
        killed=bool(run.killed_ns),
    )


def held_in(holds: Holds, start_ns: int, end_ns: int) -> int:
    """Nanoseconds held within [start_ns, end_ns)."""
    return sum(max(0, min(b, end_ns) - max(a, start_ns)) for a, b, _ in holds)


def sm_sums(holders: Iterable[tuple[float, Holds]], start_ns: int, end_ns: int) -> tuple[float, float]:
    """Largest sum of SM percent held at once, and the share of time in which it was above 100."""
    edges: list[tuple[int, float]] = []
    for sm, holds in holders:
        for a, b, _ in holds:
            edges += [(a, sm), (b, -sm)]
    edges.sort()  # a return sorts before a grant at the same instant
    total = peak = 0.0
    over_ns = last_ns = 0
    for at, change in edges:
        if total > 100 + 1e-6:
            over_ns += at - last_ns
        total += change
        peak, last_ns = max(peak, total), at
    return round(peak, 6), over_ns / (end_ns - start_ns)


def _quantile(ordered: Sequence[int], q: float) -> float:
    return float(ordered[min(len(ordered) - 1, int(q * len(ordered)))]) if ordered else 0.0
