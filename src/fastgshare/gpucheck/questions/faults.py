"""How far does a fault spread?"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, Final

from fastgshare.domain.errors import FastGShareError
from fastgshare.gpucheck.benches import Bench
from fastgshare.gpucheck.questions.answers import Answer
from fastgshare.gpucheck.questions.places import Line, PlacesFailed, Run, error_name, mps, places, say
from fastgshare.manager.mps import MpsControl

QUESTION: Final = "How far does a fault spread?"
LIMIT_S: Final = 22.0
FAULTY: Final = "the faulty MPS server"
OTHER: Final = "another MPS server"
NONE: Final = "no MPS"
_CREW: Final = {FAULTY: 2, OTHER: 2, NONE: 1}
_TICKS_MS: Final = 30_000
"""Longer than this takes: they are told to end."""
_SPREADS_WITHIN_S: Final = 2.5
_HEALS_WITHIN_S: Final = 4.0
_COMES_WITHIN_S: Final = 3.0
_AGAIN_S: Final = 0.05
_WATCH_ON_S: Final = 0.3


async def answer(bench: Bench) -> Answer:
    """Processes that tick in two MPS servers and without one; another one in the first server makes the fault."""
    async with AsyncExitStack() as stack:
        controls = {group: await stack.enter_async_context(mps(bench)) for group in (FAULTY, OTHER)}
        envs = {group: bench.of_programs() for group in _CREW}
        for group, control in controls.items():
            envs[group] |= control.environment()
        runs = [
            (group, await stack.enter_async_context(places(envs[group], "ticks", f"ms={_TICKS_MS}")))
            for group, count in _CREW.items()
            for _ in range(count)
        ]
        await asyncio.gather(*(run.line() for _, run in runs))
        servers = await asyncio.to_thread(controls[FAULTY].shell.servers)
        fault = await say(envs[FAULTY], "fault")
        rows = await _ends(FAULTY, runs, fault["at_ns"], _SPREADS_WITHIN_S)
        back = await _recovery(controls[FAULTY], envs[FAULTY], fault["at_ns"], servers)
        others = await asyncio.gather(*(_ends(group, runs, fault["at_ns"], _WATCH_ON_S) for group in (OTHER, NONE)))
        rows += [row for group in others for row in group]
    return spread(fault, rows, back)


async def _ends(group: str, runs: Sequence[tuple[str, Run]], at_ns: int, patience_s: float) -> list[dict[str, Any]]:
    """How those of a group went: they have so long to fail by themselves, and are told to end then."""
    return await asyncio.gather(*(_end(group, run, at_ns, patience_s) for name, run in runs if name == group))


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
    began_s = time.monotonic()
    while not await _comes(env, refusals):
        if time.monotonic() - began_s > _HEALS_WITHIN_S:
            if found["helped"]:
                return found
            found["helped"] = True
            try:
                await asyncio.to_thread(control.recover)
            except FastGShareError as error:
                return found | {"problem": str(error)}
            began_s = time.monotonic()
        await asyncio.sleep(_AGAIN_S)
    found["back_after_ms"] = round((time.monotonic_ns() - at_ns) / 1e6, 1)
    now = await asyncio.to_thread(control.shell.servers)
    return found | {"same_server": list(servers) == list(now)}


async def _comes(env: Mapping[str, str], refusals: Counter[str]) -> bool:
    try:
        await say(env, "seen", patience_s=_COMES_WITHIN_S)
    except PlacesFailed as error:
        refusals[str(error)] += 1
        return False
    return True


# --- in a sentence ---------------------------------------------------------------------------------------------------


def spread(fault: Line, rows: Sequence[Mapping[str, Any]], back: Mapping[str, Any]) -> Answer:
    """From how the fault showed where it was made, how the others went, and how the server came back."""
    details = {
        "processes": list(rows),
        "fault": {"error": error_name(fault["error"]), "seen_after_ms": (fault["seen_ns"] - fault["at_ns"]) / 1e6},
        "recovery": {**back, "refusals": dict(back["refusals"])},
    }
    return Answer(QUESTION, "; ".join([*(_said(group, rows) for group in _CREW), _came_back(back)]) + ".", details)


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
