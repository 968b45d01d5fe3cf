"""Do equal green-context splits in two processes land on the same SMs?"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fastgshare.domain.errors import FastGShareError
from fastgshare.gpucheck.benches import Bench
from fastgshare.gpucheck.questions.answers import Answer, in_words, ranges
from fastgshare.gpucheck.questions.places import Run, mps, places

QUESTION: Final = "Do equal green-context splits in two processes land on the same SMs?"
LIMIT_S: Final = 9.0
SMS: Final = 16
"""Of every part."""


@dataclass(frozen=True, slots=True)
class Part:
    """One of the parts that a process has split the device into. seen: where blocks ran, if they tell."""

    sms: int
    seen: frozenset[int] = frozenset()


async def answer(bench: Bench) -> Answer:
    """One process; two at once without MPS, and with it."""
    env = bench.of_programs()
    (lone,) = await _split(env, 1)
    ways: dict[str, Sequence[Sequence[Part]] | str] = {"without MPS": await _or_why(env)}
    try:
        async with mps(bench) as control:
            ways["under one MPS server"] = await _or_why(env | control.environment())
    except FastGShareError as error:
        ways["under one MPS server"] = str(error)
    return same(lone, ways)


async def _or_why(env: Mapping[str, str]) -> Sequence[Sequence[Part]] | str:
    """The parts of two processes, or why they have none."""
    try:
        return await _split(env, 2)
    except (FastGShareError, ExceptionGroup) as error:
        return in_words(error)


async def _split(env: Mapping[str, str], count: int) -> list[list[Part]]:
    """The parts of processes that are there at once: none ends before all have split."""
    all_have = asyncio.Barrier(count)

    async def one() -> list[Part]:
        async with places(env, "green", f"sms={SMS}") as run:
            parts = await _parts(run)
            await all_have.wait()
            return parts

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one()) for _ in range(count)]
    return [task.result() for task in tasks]


async def _parts(run: Run) -> list[Part]:
    parts: list[Part] = []
    while (line := await run.line()).get("status") != "held":
        parts.append(Part(line["sms"], frozenset(line["seen"])))
    return parts


# --- comparing -------------------------------------------------------------------------------------------------------


def same(lone: Sequence[Part], ways: Mapping[str, Sequence[Sequence[Part]] | str]) -> Answer:
    """Compare, part by part. ways: how two processes ran -> their parts, or why there are none."""
    rows: list[dict[str, Any]] = []
    for way, parts in ways.items():
        rows.append({"way": way} | ({"why": parts} if isinstance(parts, str) else compared(parts[0], parts[1], lone)))
    details = {
        "processes": rows,
        "parts_of_one_process": [{"part": i, "sms": p.sms, "which_sms": ranges(p.seen)} for i, p in enumerate(lone)],
        "parts_share_sms": _overlap(lone),
    }
    return Answer(QUESTION, "; ".join(map(_said, rows)) + ".", details)


def compared(one: Sequence[Part], other: Sequence[Part], lone: Sequence[Part] = ()) -> dict[str, Any]:
    """How many parts of the same number are on the same SMs, in part, or apart; and beside those of a lone process."""
    pairs = [(a.seen, b.seen) for a, b in zip(one, other, strict=False)]
    told = [(a, b) for a, b in pairs if a and b]
    return {
        "parts": min(len(one), len(other)),
        "told": len(told),
        "same": sum(a == b for a, b in told),
        "overlapping": sum(a != b and bool(a & b) for a, b in told),
        "apart": sum(not a & b for a, b in told),
        "as_when_alone": sum(bool(a.seen) and a.seen == b.seen for a, b in zip(one, lone, strict=False)),
    }


def _overlap(parts: Sequence[Part]) -> bool:
    return len(frozenset().union(*(part.seen for part in parts))) < sum(len(part.seen) for part in parts)


def _said(row: Mapping[str, Any]) -> str:
    if "why" in row:
        return f"{row['way']}: not known ({row['why']})"
    if not row["told"]:
        return f"{row['way']}: {row['parts']} parts each, but the stand-in does not model which SMs"
    verdict = "yes" if row["same"] == row["told"] else "no" if not row["same"] else "some"
    return f"{row['way']}: {verdict}, {row['same']} of {row['told']} parts are on the same SMs, {row['apart']} apart"
