"""The stages of the demo: serve, answer, calibrate the baseline, flood both ways in turn, check the quotas."""

from __future__ import annotations

import asyncio
import importlib.metadata
import math
import os
import platform
import time
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import click
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from fastgshare.cli.demo import contests
from fastgshare.cli.demo.answers import Answered, ask
from fastgshare.cli.demo.contests import Contestant, QuotaRow, Setting, Work
from fastgshare.cli.gateways import Gateway
from fastgshare.cli.output import stderr
from fastgshare.cli.platforms import RunningPlatform, running_platform
from fastgshare.domain.errors import FastGShareError
from fastgshare.domain.functions import Function
from fastgshare.domain.instances import InstanceState

READY_S: Final = 90.0
TIMELINE_WINDOWS: Final = 3
_LIBRARIES: Final = ("fastgshare", "onnxruntime", "numpy", "aiohttp")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be shown. samples: a file with an input for every function."""

    functions: Sequence[Function]
    samples: Mapping[str, Path]
    rounds: int
    round_s: float
    quota_s: float


@dataclass(frozen=True, slots=True)
class Checked:
    """Quotas beside the ledger over a time under load, and the last windows of it."""

    rows: Sequence[QuotaRow]
    seconds: float
    timeline: Mapping[str, Any]


class Stages:
    """Runs the demo and gathers its report, the document that `report.demo.demo_page` shows."""

    def __init__(self, plan: Plan, directory: Path, *, quiet: bool) -> None:
        self._plan = plan
        self._directory = directory
        self._quiet = quiet
        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, console=stderr(), transient=True, disable=quiet)

    async def run(self) -> dict[str, Any]:
        """All stages. Raises `FastGShareError` with what went wrong in one of them."""
        started_s = time.monotonic()
        with self._progress:
            async with running_platform(self._directory / "platform", "127.0.0.1", 0) as running:
                await self._deploy(running)
                answers = await self._ask(running)
                works = [Work(f, self._plan.samples[f.name].read_bytes()) for f in self._plan.functions]
                chosen = await self._calibrate(works, running)
                time_rounds, fast_rounds = await self._contest(works, chosen, running)
                quota = await self._check_quotas(works, running)
                document = self._document(running, answers, chosen, time_rounds, fast_rounds, quota)
        return {**document, "seconds": round(time.monotonic() - started_s, 1)}

    # --- stages ------------------------------------------------------------------------------------------------------

    async def _deploy(self, running: RunningPlatform) -> None:
        names = [f.name for f in self._plan.functions]
        with self._bar("starting instances", len(names)) as advance:
            await running.platform.deploy_all(self._plan.functions)
            for name in names:
                status = await running.controller.settled(name, READY_S)
                if status.problem or not status.available:
                    raise FastGShareError(f"{name} did not become ready: {status.problem or 'no instance'}")
                advance()

    async def _ask(self, running: RunningPlatform) -> dict[str, Answered]:
        gateway = Gateway(running.server.url)
        answers = {}
        for name, sample in self._plan.samples.items():
            answers[name] = await asyncio.to_thread(ask, gateway, name, sample)
            if not self._quiet:
                found = answers[name]
                self._progress.stop()
                click.echo(f"{name}: {found.input} -> {found.answer}  ({found.latency_ms:.0f} ms)")
                self._progress.start()
        return answers

    async def _calibrate(self, works: Sequence[Work], running: RunningPlatform) -> dict[str, Setting]:
        steps = len(works) * contests.TRIALS
        with self._bar("finding the baseline's best threads", steps) as advance:
            return {w.function.name: await contests.best_setting(w, running.device, advance) for w in works}

    async def _contest(
        self, works: Sequence[Work], chosen: Mapping[str, Setting], running: RunningPlatform
    ) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
        """Both ways in turn, the first of a round alternating, so that a drift of the machine hits both."""
        on_shares = _on_shares(works, running)
        rounds: tuple[list[dict[str, float]], list[dict[str, float]]] = ([], [])
        with self._bar("sharing in time, and on shares, in turn", 2 * self._plan.rounds) as advance:
            async with contests.time_sharing(works, chosen, running.device, self._directory / "baseline") as in_turn:
                for round_number in range(self._plan.rounds):
                    order = (0, 1) if round_number % 2 == 0 else (1, 0)
                    for way in order:
                        contestants = (in_turn, on_shares)[way]
                        rounds[way].append(await contests.flood(contestants, self._plan.round_s))
                        advance()
        return rounds

    async def _check_quotas(self, works: Sequence[Work], running: RunningPlatform) -> Checked:
        shares = {_instance_of(running, w.function.name): w.function.share for w in works}
        with self._bar("checking quotas against the ledger", 1) as advance:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(contests.flood(_on_shares(works, running), self._plan.quota_s + 1))
                await asyncio.sleep(contests.SETTLE_S)
                before, start_s = await running.daemon.totals(), time.monotonic()
                await asyncio.sleep(self._plan.quota_s + 0.5)
                after, end_s = await running.daemon.totals(), time.monotonic()
                timeline = await _timeline(running)
            advance()
        return Checked(contests.quota_rows(before, after, shares), end_s - start_s, timeline)

    @contextmanager
    def _bar(self, description: str, total: int) -> Any:
        task = self._progress.add_task(description, total=total)
        yield lambda: self._progress.advance(task)
        self._progress.remove_task(task)

    # --- the report --------------------------------------------------------------------------------------------------

    def _document(
        self,
        running: RunningPlatform,
        answers: Mapping[str, Answered],
        chosen: Mapping[str, Setting],
        time_rounds: Sequence[Mapping[str, float]],
        fast_rounds: Sequence[Mapping[str, float]],
        quota: Checked,
    ) -> dict[str, Any]:
        alone, shared = contests.medians(time_rounds), contests.medians(fast_rounds)
        ratios = {name: shared[name] / alone[name] for name in alone}
        return {
            "throughput": {
                "time_sharing_rps": alone,
                "fast_rps": shared,
                "ratio": math.prod(ratios.values()) ** (1 / len(ratios)),
                "ratios": ratios,
                "rounds": self._plan.rounds,
                "round_s": self._plan.round_s,
                "baseline": {name: asdict(setting) for name, setting in chosen.items()},
                "time_sharing_rounds": list(time_rounds),
                "fast_rounds": list(fast_rounds),
            },
            "quota": {
                "max_error_pp": max((row.error_pp for row in quota.rows if row.backlogged), default=None),
                "seconds": quota.seconds,
                "instances": [_quota_document(row) for row in quota.rows],
            },
            "answers": {name: asdict(answered) for name, answered in answers.items()},
            "device": {
                "id": running.device.id,
                "kind": str(running.device.kind),
                "sm_count": running.device.sm_count,
                "sm_ids": list(running.device.sm_ids),
            },
            "placements": [
                {"instance_id": status.id, **asdict(status.placement.rect)} for status in running.cluster.observe()
            ],
            "timeline": dict(quota.timeline),
            "machine": {"system": platform.platform(), "cores": os.cpu_count()},
            "versions": {
                "python": platform.python_version(),
                **{name: importlib.metadata.version(name) for name in _LIBRARIES},
            },
        }


def _instance_of(running: RunningPlatform, name: str) -> str:
    return next(s.id for s in running.cluster.observe() if s.function_name == name and s.state is InstanceState.READY)


def _on_shares(works: Sequence[Work], running: RunningPlatform) -> list[Contestant]:
    return [Contestant(w, _instance_of(running, w.function.name), running.cluster) for w in works]


def _quota_document(row: QuotaRow) -> dict[str, Any]:
    share = row.share
    return {
        "id": row.id,
        "request": share.quota_request,
        "limit": share.quota_limit,
        "received": row.received,
        "error_pp": row.error_pp,
        "backlogged": row.backlogged,
        "demand": row.demand,
        "lent": row.lent,
    }


async def _timeline(running: RunningPlatform) -> dict[str, Any]:
    """The last few windows as the instances' pages tell them, from the start of the first."""
    (epoch_ns, window_s), holds = await running.daemon.window(), await running.daemon.holds()
    epoch_s = epoch_ns / 1e9
    last_s = max((end for found in holds.values() for _, end, _ in found), default=epoch_s)
    start_s = epoch_s + ((last_s - epoch_s) // window_s - TIMELINE_WINDOWS) * window_s
    rows = [
        {
            "instance": name,
            "holds": [
                [max(0.0, a - start_s), b - start_s, "loan" if loan else "own"] for a, b, loan in found if b > start_s
            ],
        }
        for name, found in holds.items()
    ]
    return {"window_s": window_s, "rows": rows}
