"""How far does a fault spread?"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final

from fastgshare.domain.errors import FastGShareError
from fastgshare.gpucheck.benches import Bench
from fastgshare.gpucheck.questions.answers import Answer
from fastgshare.gpucheck.questions.places import Line, PlacesFailed, Run, error_name, mps, places
from fastgshare.manager.mps import MpsControl

QUESTION: Final = "How far does a fault spread?"
LIMIT_S: Final = 18.0
FAULTY: Final = "the faulty MPS server"
OTHER: Final = "another MPS server"
NONE: Final = "no MPS"
_COUNTS: Final = {FAULTY: 2, OTHER: 2, NONE: 1}
_TICKS_MS: Final = 30_000
"""Longer than this takes: they are told to end."""
_SPREADS_WITHIN_S: Final = 2.5
_HEALS_WITHIN_S: Final = 3.0
_COMES_WITHIN_S: Final = 3.0
_AGAIN_S: Final = 0.05
_WATCH_ON_S: Final = 0.3


@dataclass(slots=True)
class Crew:
    """Processes that tick. control: of their MPS server, if they have one."""

    env: Mapping[str, str]
    control: MpsControl | None
    runs: list[Run]


async def answer(bench: Bench) -> Answer:
    """Processes that tick in two MPS servers and without one; another one in the first server makes the fault."""
    absent: dict[str, str] = {}
    async with AsyncExitStack() as stack:
        crew = await _crew(stack, bench, FAULTY)
        others: dict[str, Crew] = {}
        for group in (OTHER, NONE):
            try:
                others[group] = await _crew(stack, bench, group)
            except FastGShareError as error:
                absent[group] = str(error)
        assert crew.control is not None
        servers = await asyncio.to_thread(crew.control.shell.servers)
        run = await stack.enter_async_context(places(crew.env, "fault"))
        fault = await run.line()
        rows = await _ends(FAULTY, crew, fault["at_ns"], _SPREADS_WITHIN_S)
        back = await _recovery(crew.control, crew.env, fault["at_ns"], servers)
        ends = (_ends(group, other, fault["at_ns"], _WATCH_ON_S) for group, other in others.items())
        rows += [row for group in await asyncio.gather(*ends) for row in group]
    return spread(fault, rows, back, absent)


async def _crew(stack: AsyncExitStack, bench: Bench, group: str) -> Crew:
    """A group, ticking. Raises `FastGShareError` if it cannot."""
    control = None if group == NONE else await stack.enter_async_context(mps(bench))
    env = bench.of_programs() | (control.environment() if control else {})
    words = ("ticks", f"ms={_TICKS_MS}")
    runs = [await stack.enter_async_context(places(env, *words)) for _ in range(_COUNTS[group])]
    for run in runs:
        await run.line()
    return Crew(env, control, runs)


async def _ends(group: str, crew: Crew, at_ns: int, patience_s: float) -> list[dict[str, Any]]:
    """How those of a group went: they have so long to fail by themselves, and are told to end then."""
    return await asyncio.gather(*(_end(group, run, at_ns, patience_s) for run in crew.runs))


async def _end(group: str, run: Run, at_ns: int, patience_s: float) -> dict[str, Any]:
    waits = asyncio.ensure_future(run.line(patience_s + _SPREADS_WITHIN_S))
    try:
        await asyncio.wait({waits}, timeout=patience_s)
        if not waits.done():
            run.tell()
        return ended(group, await waits, at_ns)
    except PlacesFailed as error:
        return {"group": group, "hit": True, "error": str(error)}
    finally:
        waits.cancel()


def ended(group: str, line: Line, at_ns: int) -> dict[str, Any]:
    """A row, from the last words of one that ticked. at_ns: when the fault was made."""
    row = {
        "group": group,
        "hit": line["error"] != 0,
        "ticks": line["ticks"],
        "longest_tick_ms": round(line["longest_ns"] / 1e6, 3),
    }
    after_ms = round((line["seen_ns"] - at_ns) / 1e6, 3)
    return row | ({"error": error_name(line["error"]), "after_ms": after_ms} if row["hit"] else {"on_ms": after_ms})


async def _recovery(control: MpsControl, env: Mapping[str, str], at_ns: int, servers: Sequence[int]) -> dict[str, Any]:
    """Start processes in the faulty server until one can, if need be after it was restarted."""
    refusals: Counter[str] = Counter()
    found: dict[str, Any] = {"back_after_ms": None, "helped": False, "refusals": refusals}
    came_ns = await _comes(env, refusals)
    if not came_ns:
        found["helped"] = True
        try:
            await asyncio.to_thread(control.recover)
        except FastGShareError as error:
            return found | {"problem": str(error)}
        came_ns = await _comes(env, refusals)
    if not came_ns:
        return found
    found["back_after_ms"] = round((came_ns - at_ns) / 1e6, 1)
    return found | {"same_server": list(servers) == await asyncio.to_thread(control.shell.servers)}


async def _comes(env: Mapping[str, str], refusals: Counter[str]) -> int:
    """When a process could run a kernel, in nanoseconds; 0: none could, for as long as a server may take to heal."""
    until_s = time.monotonic() + _HEALS_WITHIN_S
    while time.monotonic() < until_s:
        try:
            async with places(env, "seen") as run:
                await run.line(_COMES_WITHIN_S)
                return time.monotonic_ns()
        except PlacesFailed as error:
            refusals[str(error)] += 1
        await asyncio.sleep(_AGAIN_S)
    return 0


# --- in a sentence ---------------------------------------------------------------------------------------------------


def spread(
    fault: Line, rows: Sequence[Mapping[str, Any]], back: Mapping[str, Any], absent: Mapping[str, str]
) -> Answer:
    """From how the fault showed where it was made, how the others went, and how the server came back.

    absent: groups that could not be there -> why.
    """
    details = {
        "processes": list(rows),
        "fault": {"error": error_name(fault["error"]), "seen_after_ms": (fault["seen_ns"] - fault["at_ns"]) / 1e6},
        "recovery": {**back, "refusals": dict(back["refusals"])},
        "absent": dict(absent),
    }
    groups = [f"{group}: not known ({absent[group]})" if group in absent else _said(group, rows) for group in _COUNTS]
    return Answer(QUESTION, "; ".join([*groups, _came_back(back)]) + ".", details)


def _said(group: str, rows: Sequence[Mapping[str, Any]]) -> str:
    its = [row for row in rows if row["group"] == group]
    hit = [row for row in its if row["hit"]]
    errors = ", ".join(dict.fromkeys(str(row["error"]) for row in hit))
    latest = max((row.get("after_ms", 0.0) for row in hit), default=0.0)
    how = f", by {errors} within {latest:.1f} ms" if hit else ""
    return f"with {group} {len(hit)} of {len(its)} others are hit{how}"


def _came_back(back: Mapping[str, Any]) -> str:
    if back["back_after_ms"] is None:
        return f"the server takes no new process any more ({back.get('problem') or 'restarting it did not help'})"
    by = "after it was restarted" if back["helped"] else "by itself" if back["same_server"] else "in a new server"
    return f"a new process starts {back['back_after_ms']:.0f} ms after the fault, {by}"
