"""Throughput: requests a second of equal instances, in one way of sharing the device and another."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from statistics import fmean, median
from typing import Final

from fastgshare.domain.errors import FastGShareError
from fastgshare.gpucheck.benches import Bench
from fastgshare.gpucheck.crews import LEAD_S, Crew, Line, enter_all, places, task
from fastgshare.gpucheck.deadlines import within
from fastgshare.gpucheck.findings import Findings, Goal, NotThere, Table
from fastgshare.gpucheck.gauges import COUNTERS, Gauges
from fastgshare.gpucheck.names import EXCLUSIVE, MPS_ALONE, SHARES, TIME_SHARING, Mode
from fastgshare.gpucheck.programs import worker_words

COUNTS: Final = (8, 4, 2, 1)
"""Instances side by side, the most first: crews shrink."""

MODES: Final = {TIME_SHARING: 3.0, SHARES: 4.0, MPS_ALONE: 3.0, EXCLUSIVE: 1.5}
"""In order of worth, with the parts of the time that they are given: of shares, twice as many processes start."""

AIM: Final = 3.15
_SETTLE_S: Final = 0.2
_TO_END_S: Final = 4.0
"""Kept back for processes to end in."""

_SECONDS: Final = (0.35, 0.8)
"""Of a measurement: at least, at most."""

_COLUMNS: Final = {
    "mode": "sharing",
    "model": "model",
    "batch": "batch",
    "instances": "n",
    "rps": "requests/s",
    "p50_ms": "p50 ms",
    "p99_ms": "worst p99 ms",
    **COUNTERS,
    "why": "",
}
_SUMMARY: Final = {
    "model": "model",
    "batch": "batch",
    "exclusive": "exclusive/s",
    "time sharing": "time sharing/s",
    "MPS alone": "MPS alone/s",
    "shares": "shares/s",
    "best": "best n: t.s., MPS, shares",
    "ratio": "shares/time sharing",
}


class _Pace:
    """How long measurements may take, so that `left` of them fit into so many seconds from now."""

    def __init__(self, seconds: float, left: int) -> None:
        self.left = left
        self._ends_s = time.monotonic() + seconds

    def seconds(self) -> float:
        """What counts of the next one."""
        each = (self._ends_s - time.monotonic()) / self.left - _SETTLE_S - 2 * LEAD_S
        return min(_SECONDS[1], each)


async def work(bench: Bench, findings: Findings) -> None:
    """Every mode in turn, each in its part of the time. The summary grows with the rows."""
    summary = findings.table("Best of each way of sharing", _SUMMARY)
    rows = findings.table("All measurements", _COLUMNS)
    findings.facts |= {"modes": {mode.name: mode.what for mode in MODES}}
    async with Gauges(bench) as gauges:
        for number, (mode, weight) in enumerate(MODES.items()):
            part_s = (bench.left_s - _TO_END_S) * weight / sum([*MODES.values()][number:])
            counts = (1,) if mode is EXCLUSIVE else COUNTS
            pace = _Pace(part_s - _TO_END_S, len(counts) * len(bench.models) * len(bench.batches))
            try:
                await within(part_s, _measure(bench, mode, counts, pace, rows, gauges, findings))
            except TimeoutError:
                if pace.left:
                    findings.remarks.append(f"{mode.name}: not all was measured: its {part_s:.0f} s were over")
            except FastGShareError as error:
                findings.remarks.append(f"{mode.name}: {error}")
            summarise(bench, rows, summary, findings)
        if gauges.problem:
            findings.remarks.append(f"no counters beside the figures: {gauges.problem}")
    if not rows.rows:
        raise NotThere("; ".join(findings.remarks))


async def _measure(
    bench: Bench,
    mode: Mode,
    counts: Sequence[int],
    pace: _Pace,
    rows: Table,
    gauges: Gauges,
    findings: Findings,
) -> None:
    async def each(crew: Crew) -> None:
        _note_readiness(crew, findings)
        for batch in bench.batches:
            for model in bench.models:
                seconds = pace.seconds()
                if seconds >= _SECONDS[0] or batch == 1:
                    rows.rows.append(await _one(crew, model, batch, max(_SECONDS[0], seconds), gauges))
                pace.left -= 1

    if mode is SHARES:
        await _side_by_side(bench, mode, counts, each)
    else:
        await _shrinking(bench, mode, counts, each)


Each = Callable[[Crew], Awaitable[None]]


async def _shrinking(bench: Bench, mode: Mode, counts: Sequence[int], each: Each) -> None:
    """One crew that becomes smaller: its members' SMs need not change."""
    async with Crew(bench, mode, places(mode, counts[0]), worker_words(bench)) as crew:
        for count in counts:
            await crew.shrink(count)
            await each(crew)


async def _side_by_side(bench: Bench, mode: Mode, counts: Sequence[int], each: Each) -> None:
    """A crew for every number, for a process's percentage of SMs is fixed at its start; all start at once."""
    crews = [Crew(bench, mode, places(mode, count), worker_words(bench)) for count in counts]
    async with AsyncExitStack() as stack:
        if mode.mps:
            await bench.open_mps()
        await enter_all(stack, crews)
        for crew in crews:
            await each(crew)


def _note_readiness(crew: Crew, findings: Findings) -> None:
    ready = crew.workers[0].ready
    findings.facts.setdefault("worker", {key: ready[key] for key in ready if key not in ("status", "absent")})
    for model, why in ready.get("absent", {}).items():
        remark = f"{model} was not measured: {why}"
        if remark not in findings.remarks:
            findings.remarks.append(remark)


async def _one(crew: Crew, model: str, batch: int, seconds: float, gauges: Gauges) -> dict[str, object]:
    told = task(model, batch, _SETTLE_S, seconds)
    lines = await crew.perform([told] * len(crew.workers))
    head = {"mode": crew.mode.name, "model": model, "batch": batch, "instances": len(crew.workers)}
    return head | in_sum(lines) | gauges.between(told.from_ns, told.until_ns)


def in_sum(lines: Sequence[Line]) -> dict[str, object]:
    """Instances side by side in one row: sum of rates, median of medians, worst tail; or why there is none."""
    failed = [str(line.get("why", line)) for line in lines if line.get("status") != "ran"]
    if failed:
        return {"rps": None, "why": f"{len(failed)} of {len(lines)} failed: {failed[0]}"}
    each = [{key: line[key] for key in ("rps", "requests", "p50_ms", "p99_ms")} for line in lines]
    return {
        "rps": round(sum(line["rps"] for line in each), 3),
        "p50_ms": median(line["p50_ms"] for line in each),
        "p99_ms": max(line["p99_ms"] for line in each),
        "each": each,
    }


# --- the summary -----------------------------------------------------------------------------------------------------


def best(rows: Table, mode: Mode, model: str, batch: int) -> tuple[float, int] | None:
    """The most requests a second that a mode reached, and with how many instances; None: not measured."""
    found = [
        (float(str(row["rps"])), int(str(row["instances"])))
        for row in rows.rows
        if (row["mode"], row["model"], row["batch"]) == (mode.name, model, batch) and row["rps"]
    ]
    return max(found, default=None)


def summarise(bench: Bench, rows: Table, summary: Table, findings: Findings) -> None:
    """Make the summary, the picture's bars and the goal anew from all rows."""
    summary.rows[:] = [_summary(rows, model, batch) for batch in bench.batches for model in bench.models]
    ratios = {row["model"]: float(str(row["ratio"])) for row in summary.rows if row["batch"] == 1 and row["ratio"]}
    findings.bars.clear()
    for model in ratios:
        slow, fast = best(rows, TIME_SHARING, str(model), 1), best(rows, SHARES, str(model), 1)
        findings.bars[str(model)] = (slow[0] if slow else 0.0, fast[0] if fast else 0.0)
    mean = fmean(ratios.values()) if ratios else math.nan
    figure = f"{mean:.2f}x, mean of {', '.join(map(str, ratios))}" if ratios else "not measured"
    met = None if bench.is_standin or len(ratios) < len(bench.models) else mean >= AIM
    what = "shares over time sharing, batch 1, best number of instances of each"
    findings.goals[:] = [Goal(what, figure, f">= {AIM}x", met)]


def _summary(rows: Table, model: str, batch: int) -> dict[str, object]:
    tops = {mode.name: best(rows, mode, model, batch) for mode in MODES}
    found: dict[str, object] = {"model": model, "batch": batch}
    found |= {name: top[0] if top else None for name, top in tops.items()}
    shown = [tops[mode.name] for mode in (TIME_SHARING, MPS_ALONE, SHARES)]
    found["best"] = ", ".join(str(top[1]) if top else "-" for top in shown)
    slow, fast = tops[TIME_SHARING.name], tops[SHARES.name]
    return found | {"ratio": round(fast[0] / slow[0], 3) if slow and fast else None}
