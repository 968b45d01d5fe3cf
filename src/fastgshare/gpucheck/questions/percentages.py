"""What is the real grid of the MPS percentage?"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Final

from fastgshare.domain.errors import FastGShareError
from fastgshare.gpucheck.benches import Bench
from fastgshare.gpucheck.questions.answers import Answer, ranges
from fastgshare.gpucheck.questions.places import PlacesFailed, mps, say

QUESTION: Final = "What is the real grid of the MPS percentage?"
LIMIT_S: Final = 16.0
_NO_MORE_AFTER_S: Final = 10.0
"""Then no more processes are started, so that those that are there can end, and their server."""
_PERCENTAGE: Final = "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"
_MOST: Final = 16


@dataclass(frozen=True, slots=True)
class Seen:
    """Of a process at a percentage: how many SMs it is told of, and the SMs that its blocks ran on, if they tell.

    numbers: how many numbers of SMs there may be, as its blocks are told; 0: they do not tell.
    """

    percent: int
    sms: int
    seen: frozenset[int] = frozenset()
    numbers: int = 0


async def answer(bench: Bench) -> Answer:
    """A process at every percentage, several side by side; those of every fifth come first, should time run out."""
    began_s = time.monotonic()
    found: list[Seen] = []
    problems: dict[int, str] = {}
    side_by_side = asyncio.Semaphore(min(_MOST, 2 * len(os.sched_getaffinity(0))))

    async def look(percent: int, env: Mapping[str, str]) -> None:
        async with side_by_side:
            if time.monotonic() - began_s > _NO_MORE_AFTER_S:
                problems[percent] = "no time was left"
                return
            try:
                line = await say({**env, _PERCENTAGE: str(percent)}, "seen")
                found.append(Seen(percent, line["sms"], frozenset(line["seen"]), line["numbers"]))
            except PlacesFailed as error:
                problems[percent] = str(error)

    async with mps(bench) as control, asyncio.TaskGroup() as group:
        env = bench.of_programs() | control.environment()
        for percent in sorted(range(1, 101), key=lambda percent: (percent % 5 != 0, percent)):
            group.create_task(look(percent, env))
    return grid(found, problems)


def grid(found: Sequence[Seen], problems: Mapping[int, str]) -> Answer:
    """Steps, from what processes saw. Raises an error if none saw anything."""
    if not found:
        raise FastGShareError(f"no process of {len(problems)} could look: {next(iter(problems.values()), 'none was')}")
    ordered = sorted(found, key=lambda seen: (seen.sms, seen.percent))
    rows = [_row(sms, list(group)) for sms, group in groupby(ordered, key=lambda seen: seen.sms)]
    steps = [seen.sms for seen in ordered]
    details = {
        "steps": rows,
        "distinct_steps": len(rows),
        "percentages": len(found),
        "sm_numbers": sorted({seen.numbers for seen in found if seen.numbers}),
        "each": {str(seen.percent): seen.sms for seen in sorted(found, key=lambda seen: seen.percent)},
        "problems": {str(percent): why for percent, why in sorted(problems.items())},
    }
    return Answer(QUESTION, f"{_steps(sorted(set(steps)), len(found))}; {_blocks(found)}.", details)


def _row(sms: int, group: Sequence[Seen]) -> dict[str, object]:
    counts, sets = sorted({len(seen.seen) for seen in group}), {seen.seen for seen in group}
    row: dict[str, object] = {"sms": sms, "percent": ranges(seen.percent for seen in group)}
    if not any(sets):
        return row
    row["ran_on_sms"] = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    row["different_sets"] = len(sets)
    return row | {"which_sms": ranges(frozenset().union(*sets))}


def _steps(steps: Sequence[int], asked: int) -> str:
    said = f"{asked} percentages give {len(steps)} steps, {steps[0]} to {steps[-1]} SMs"
    gaps = Counter(after - before for before, after in pairwise(steps))
    if not gaps:
        return said
    (gap, _), *others = gaps.most_common()
    return f"{said}, {'mostly ' if others else ''}{gap} apart"


def _blocks(found: Sequence[Seen]) -> str:
    told = [seen for seen in found if seen.seen]
    if not told:
        return "on which SMs blocks ran is not told (the stand-in does not model which SMs)"
    as_many = sum(len(seen.seen) == seen.sms for seen in told)
    return f"blocks ran on exactly as many SMs as the process is told of in {as_many} of {len(told)} processes"
