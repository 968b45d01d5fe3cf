"""Interference: the tail of one function's latency, alone and while another floods its own share."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from statistics import fmean
from typing import Final

from fastgshare.domain.errors import FastGShareError
from fastgshare.domain.rects import Rect
from fastgshare.domain.shares import Share
from fastgshare.gpucheck.benches import Bench
from fastgshare.gpucheck.crews import Crew, Line, Place, task
from fastgshare.gpucheck.findings import Findings, Goal, NotThere, Table
from fastgshare.gpucheck.loops import percentile
from fastgshare.gpucheck.names import MPS_ALONE, SHARES, TIME_SHARING, Mode
from fastgshare.gpucheck.programs import worker_words

AIM: Final = 1.1
LOAD: Final = 0.3
"""Arrivals, as a part of what the function answers back to back when alone."""

TURNS: Final = 3
"""Alone and beside the flood take turns, so that what else the machine does meets both."""

_TO_END_S: Final = 4.0
"""Kept back for processes to end in."""

_SETTLE_S: Final = 0.2
_AROUND_S: Final = _SETTLE_S + 0.1
_CAPACITY_S: Final = 0.7
_SECONDS: Final = (0.5, 3.0)
"""Of a turn: at least, at most."""

_COLUMNS: Final = {
    "way": "the two are apart by",
    "capacity_rps": "alone back to back/s",
    "rate": "arrivals/s",
    "alone_p50_ms": "alone p50 ms",
    "alone_p99_ms": "alone p99 ms",
    "flooded_p50_ms": "flooded p50 ms",
    "flooded_p99_ms": "flooded p99 ms",
    "ratio": "p99 flooded/alone",
    "requests": "requests",
    "unanswered": "unanswered",
    "flood_rps": "flood/s",
    "why": "",
}


@dataclass(frozen=True, slots=True)
class Way:
    """How the two are kept apart; the measured one comes first."""

    name: str
    mode: Mode
    at: tuple[Place, Place]


def _halves(*, time: bool) -> tuple[Place, Place]:
    if time:
        return (
            (Share(100, 0.5, 0.5), Rect(0, 0.0, 100, 0.5)),
            (Share(100, 0.5, 0.5), Rect(0, 0.5, 100, 0.5)),
        )
    return (Share(50, 1.0, 1.0), Rect(0, 0, 50, 1.0)), (Share(50, 1.0, 1.0), Rect(50, 0, 50, 1.0))


_EVERYWHERE: Final[Place] = (Share(100, 1.0, 1.0), Rect(0, 0, 100, 1.0))

DISJOINT: Final = Way("disjoint SMs: 50% each by MPS, behind the hook", SHARES, _halves(time=False))
WAYS: Final = (
    DISJOINT,
    Way("nothing: MPS alone, 100% each", MPS_ALONE, (_EVERYWHERE, _EVERYWHERE)),
    Way("disjoint time: tokens, half of every window each", TIME_SHARING, _halves(time=True)),
)


async def work(bench: Bench, findings: Findings) -> None:
    """Every way in turn; all processes start at once."""
    measured, flood = bench.models[0], bench.models[1]
    findings.facts |= {"measured": f"{measured}, batch 1", "flood": f"{flood}, batch {bench.batches[-1]}, back to back"}
    table = findings.table(f"{measured} beside a flood of {flood}", _COLUMNS)
    words = worker_words(bench, (measured, flood))
    async with AsyncExitStack() as stack:
        crews = await asyncio.gather(*(_entered(stack, bench, way, words, table) for way in WAYS))
        ready = [(way, crew) for way, crew in zip(WAYS, crews, strict=True) if crew is not None]
        for number, (way, crew) in enumerate(ready):
            part_s = (bench.left_s - _TO_END_S) / (len(ready) - number)
            seconds = (part_s - _CAPACITY_S - _AROUND_S) / (2 * TURNS) - _AROUND_S
            seconds = min(_SECONDS[1], max(_SECONDS[0], seconds))
            table.rows.append(await _row(bench, way, crew, seconds))
            findings.goals[:] = [goal(bench, table)]
    if not any(row.get("ratio") for row in table.rows):
        raise NotThere("; ".join(str(row["why"]) for row in table.rows))


async def _entered(stack: AsyncExitStack, bench: Bench, way: Way, words: list[str], table: Table) -> Crew | None:
    try:
        return await stack.enter_async_context(Crew(bench, way.mode, way.at, words))
    except FastGShareError as error:
        table.rows.append({"way": way.name, "why": str(error)})
        return None


async def _row(bench: Bench, way: Way, crew: Crew, seconds: float) -> dict[str, object]:
    """Capacity, then in turns arrivals alone, and the same arrivals beside the flood."""
    measured, flood = bench.models[0], bench.models[1]
    (back_to_back,) = await crew.perform([task(measured, 1, _SETTLE_S, _CAPACITY_S), None])
    if back_to_back.get("status") != "ran" or not back_to_back["rps"]:
        return {"way": way.name, "why": str(back_to_back.get("why", "it answered nothing"))}
    rate = LOAD * back_to_back["rps"]
    alone: list[Line] = []
    flooded: list[Line] = []
    floods: list[Line] = []
    for turn in range(1, TURNS + 1):
        if turn > 1 and bench.left_s < 2 * (seconds + _AROUND_S) + _TO_END_S:
            break  # it is behind its time: what there is counts
        told = task(measured, 1, _SETTLE_S, seconds, rate=rate, seed=turn)
        alone += await crew.perform([told, None])
        again = task(measured, 1, _SETTLE_S, seconds, rate=rate, seed=turn)
        beside, flood_line = await crew.perform([again, task(flood, bench.batches[-1], 0.0, _SETTLE_S + seconds)])
        flooded.append(beside)
        floods.append(flood_line)
    head = {"way": way.name, "capacity_rps": round(back_to_back["rps"], 2), "rate": round(rate, 2)}
    return head | compared(alone, flooded, floods)


def compared(alone: Sequence[Line], flooded: Sequence[Line], floods: Sequence[Line]) -> dict[str, object]:
    """The rest of a row from all turns, or why there is none."""
    if failed := [line for line in (*alone, *flooded, *floods) if line.get("status") != "ran"]:
        return {"why": str(failed[0].get("why", failed[0]))}
    found: dict[str, object] = {"flood_rps": round(fmean(line["rps"] for line in floods), 2)}
    tails = []
    for name, lines in (("alone", alone), ("flooded", flooded)):
        each = sorted(ms for line in lines for ms in line["latencies_ms"])
        tails.append(percentile(each, 0.99))
        found |= {f"{name}_p50_ms": percentile(each, 0.5), f"{name}_p99_ms": tails[-1], f"{name}_ms": each}
    counts = {key: sum(line[key] for line in flooded) for key in ("requests", "unanswered")}
    return found | {"ratio": round(tails[1] / tails[0], 3) if tails[0] else None} | counts


def goal(bench: Bench, table: Table) -> Goal:
    """Of disjoint SMs alone."""
    row = next((row for row in table.rows if row["way"] == DISJOINT.name and row.get("ratio")), None)
    what, aim = "p99 beside a flood over p99 alone, disjoint SMs", f"<= {AIM}x"
    if row is None:
        return Goal(what, "not measured", aim, None)
    ratio = float(str(row["ratio"]))
    return Goal(what, f"{ratio:.2f}x", aim, None if bench.is_standin else ratio <= AIM)
