"""The same functions under the same saturating load: sharing in time alone, and on their shares."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Final

from fastgshare.cluster.local import LocalCluster
from fastgshare.domain.devices import Device
from fastgshare.domain.errors import FastGShareError
from fastgshare.domain.functions import Function
from fastgshare.domain.instances import Instance
from fastgshare.domain.ledger import LedgerEntry
from fastgshare.domain.ports import Cluster
from fastgshare.domain.rects import Placement, Rect
from fastgshare.domain.requests import Request
from fastgshare.domain.shares import Share
from fastgshare.manager.node import NodeDaemon

OUTSTANDING: Final = 2
"""Batches that an instance always has: one to work on, one that waits. It is what the dispatcher keeps, too."""

SETTLE_S: Final = 0.5
TRIALS: Final = 3
"""Rounds in which the baseline's settings are tried."""

_TRIAL_S: Final = 0.8
_TRIAL_SETTLE_S: Final = 0.2
_TIMEOUT_S: Final = 60.0
_request_ids = count(1)


@dataclass(frozen=True, slots=True)
class Work:
    """A function and the request it is flooded with."""

    function: Function
    sample: bytes


@dataclass(frozen=True, slots=True)
class Contestant:
    """An instance that works on `work`."""

    work: Work
    instance_id: str
    cluster: Cluster


@dataclass(frozen=True, slots=True)
class Setting:
    """How a network is run on the whole device: threads, and whether they wait busily for each other."""

    threads: int
    spin: bool


@dataclass(frozen=True, slots=True)
class QuotaRow:
    """What an instance received of its device's time, and for how much of the time it had work.

    error_pp: how far outside of its share, in percentage points.
    """

    id: str
    share: Share
    received: float
    error_pp: float
    backlogged: bool
    demand: float
    lent: float


async def flood(contestants: Sequence[Contestant], seconds: float, *, settle_s: float = SETTLE_S) -> dict[str, float]:
    """Requests per second that every function answers while all of them have more than they can do."""
    start_s = time.monotonic() + settle_s
    end_s = start_s + seconds
    async with asyncio.TaskGroup() as tasks:
        lanes = {
            c.work.function.name: [tasks.create_task(_keep_busy(c, start_s, end_s)) for _ in range(OUTSTANDING)]
            for c in contestants
        }
    return {name: sum(lane.result() for lane in found) / seconds for name, found in lanes.items()}


async def _keep_busy(contestant: Contestant, start_s: float, end_s: float) -> float:
    """Requests answered between two times; a batch that is at work at either counts by its part inside."""
    done = 0.0
    function = contestant.work.function
    last_s = time.monotonic()
    while last_s < end_s:
        batch = [_request(contestant.work) for _ in range(function.batch.max_size)]
        replies = await contestant.cluster.send(contestant.instance_id, batch)
        now_s = time.monotonic()
        wrong = next((r for r in replies if r.status != 200), None)
        if wrong is not None:
            raise FastGShareError(f"{function.name} answered {wrong.status}: {wrong.body.decode(errors='replace')}")
        inside_s = min(now_s, end_s) - max(last_s, start_s)
        if inside_s > 0:
            done += len(replies) * inside_s / (now_s - last_s)
        last_s = now_s
    return done


def _request(work: Work) -> Request:
    now_s = time.monotonic()
    return Request(next(_request_ids), work.function.name, work.sample, now_s, now_s + _TIMEOUT_S)


# --- sharing in time alone -------------------------------------------------------------------------------------------


def settings(device: Device) -> list[Setting]:
    """What is tried for the baseline: one thread, and all cores with threads that sleep or wait busily."""
    if device.sm_count == 1:
        return [Setting(1, False)]
    return [Setting(1, False), Setting(device.sm_count, False), Setting(device.sm_count, True)]


async def best_setting(work: Work, device: Device, told: Callable[[], None]) -> Setting:
    """The setting with which a function alone on the whole device answers most: the best median of rounds in turn."""
    rates: dict[Setting, list[float]] = {setting: [] for setting in settings(device)}
    async with AsyncExitStack() as stack:
        contestants = {}
        for setting in rates:
            cluster = LocalCluster([device], threads=setting.threads, spin=setting.spin)
            await stack.enter_async_context(cluster)
            instance = _on_the_whole_device(work.function, device, Rect(0, 0, 100, 1))
            await cluster.start(instance)
            contestants[setting] = Contestant(work, instance.id, cluster)
        for _ in range(TRIALS):
            for setting, contestant in contestants.items():
                rate = await flood([contestant], _TRIAL_S, settle_s=_TRIAL_SETTLE_S)
                rates[setting].append(rate[work.function.name])
            told()
    return max(rates, key=lambda setting: statistics.median(rates[setting]))


@asynccontextmanager
async def time_sharing(
    works: Sequence[Work], chosen: Mapping[str, Setting], device: Device, directory: Path
) -> AsyncIterator[list[Contestant]]:
    """Every function on the whole device in turn: same models, batches and tokens; equal quotas, idle time is lent."""
    quota = 1 / len(works)
    async with AsyncExitStack() as stack:
        daemon = NodeDaemon([device], directory)
        stack.push_async_callback(daemon.stop)
        await daemon.start()
        contestants = []
        for position, work in enumerate(works):
            setting = chosen[work.function.name]
            cluster = LocalCluster([device], daemon=daemon, threads=setting.threads, spin=setting.spin)
            await stack.enter_async_context(cluster)
            rect = Rect(0, position * quota, 100, quota)
            instance = _on_the_whole_device(work.function, device, rect)
            await cluster.start(instance)
            contestants.append(Contestant(work, instance.id, cluster))
        yield contestants


def _on_the_whole_device(function: Function, device: Device, rect: Rect) -> Instance:
    share = Share(100, rect.quota, 1.0, function.share.mem_bytes)
    id = f"{function.name}-time-sharing"
    return Instance(id, replace(function, share=share), Placement(id, device.id, rect))


# --- figures ---------------------------------------------------------------------------------------------------------


def medians(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Per function the median over rounds."""
    return {name: statistics.median(r[name] for r in rounds) for name in rounds[0]}


def quota_rows(
    before: Sequence[LedgerEntry], after: Sequence[LedgerEntry], shares: Mapping[str, Share]
) -> list[QuotaRow]:
    """What the ledger says of the time between two readings of its totals."""
    first = {entry.instance_id: entry for entry in before}
    rows = []
    for entry in after:
        if entry.instance_id not in shares or entry.instance_id not in first:
            continue
        then = first[entry.instance_id]
        seconds = entry.window_s - then.window_s
        received = (entry.received_s - then.received_s) / seconds
        share = shares[entry.instance_id]
        error = max(share.quota_request - received, received - share.quota_limit, 0.0)
        demand = (entry.demand_s - then.demand_s) / seconds
        lent = (entry.loan_s - then.loan_s) / seconds
        rows.append(QuotaRow(entry.instance_id, share, received, 100 * error, demand >= 0.999, demand, lent))
    return rows
