"""Costs: what the hook adds to a call, and what that is of a whole inference."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from statistics import fmean, median, quantiles
from typing import Final

from fastgshare.conformance import overheads
from fastgshare.gpucheck.benches import Bench
from fastgshare.gpucheck.crews import Crew, Line, enter_all, places, task
from fastgshare.gpucheck.deadlines import within
from fastgshare.gpucheck.findings import Findings, Goal, NotThere
from fastgshare.gpucheck.names import EXCLUSIVE, LAUNCHES, SMALL_LAUNCHES, TIME_SHARING
from fastgshare.gpucheck.programs import worker_words

AIM: Final = 0.005
TURN_S: Final = 0.3
_SETTLE_S: Final = 0.03
_TO_END_S: Final = 4.0
"""Kept back for processes to end in."""
_ROUNDS: Final = 2
_PART_OF_CALLS: Final = 0.4
"""Of the section's time, at most, for calls on a stand-in that does nothing."""

_CALLS: Final = {
    "call": "call or start",
    "native_p50_ns": "alone p50 ns",
    "native_p99_ns": "alone p99 ns",
    "added_p50_ns": "added p50 ns",
    "added_p99_ns": "added p99 ns",
}
_PAIRS: Final = {
    "model": "model, batch 1",
    "without": "without the hook",
    "with": "with the hook",
    "unit": "",
    "cost_percent": "cost %",
    "quartiles_percent": "quartiles of the pairs %",
    "pairs": "pairs of turns",
    "why": "",
}


async def work(bench: Bench, findings: Findings) -> None:
    """Calls by the nanosecond first, then whole requests on the device in short turns."""
    calls = findings.table("Calls on a stand-in that does nothing (a test double, on any device)", _CALLS)
    try:
        costs = await within(_PART_OF_CALLS * bench.share_s, overheads.measure(bench.folder(), None, _ROUNDS))
        calls.rows += [{"call": name, **cost.document()} for name, cost in costs.items()]
    except TimeoutError:
        findings.remarks.append("calls were not timed: it took too long")
    except Exception as error:  # whatever it is, requests can be measured
        findings.remarks.append(f"calls were not timed: {error}")
    await _in_turns(bench, findings)


@dataclass(slots=True)
class Pairs:
    """Rates of a model without the hook and with it, turn by turn."""

    without: list[float] = field(default_factory=list)
    hooked: list[float] = field(default_factory=list)
    why: str = ""

    def row(self, model: str) -> dict[str, object]:
        """A line of the table: launches of small kernels as such, everything else in requests."""
        if not self.without or self.why:
            return {"model": model, "pairs": len(self.without), "why": self.why or "no turn was finished"}
        factor, unit = (SMALL_LAUNCHES, "launches/s") if model == LAUNCHES else (1, "requests/s")
        costs = [100 * (1 - w / n) for n, w in zip(self.without, self.hooked, strict=True)]
        around = quantiles(costs, n=4) if len(costs) > 1 else [costs[0]] * 3
        return {
            "model": model,
            "without": round(factor * median(self.without), 2),
            "with": round(factor * median(self.hooked), 2),
            "unit": unit,
            "cost_percent": round(100 * self.cost, 3),
            "quartiles_percent": f"{around[0]:.2f} to {around[2]:.2f}",
            "pairs": len(costs),
            "each": {"without": self.without, "with": self.hooked},
        }

    @property
    def cost(self) -> float:
        """The part of the rate that the hook costs: by the ratio of the medians."""
        return 1 - median(self.hooked) / median(self.without)


async def _in_turns(bench: Bench, findings: Findings) -> None:
    table = findings.table("The same requests in turns with and without the hook, alone on the device", _PAIRS)
    models = [LAUNCHES, *bench.models]
    words = worker_words(bench)
    crews = [Crew(bench, mode, places(mode, 1), words) for mode in (EXCLUSIVE, TIME_SHARING)]
    found = {model: Pairs() for model in models}
    async with AsyncExitStack() as stack:
        await enter_all(stack, crews)
        turn = 0
        while bench.left_s > 2 * len(models) * (TURN_S + 2 * _SETTLE_S) + _TO_END_S:
            for model in models:
                await _pair(crews if turn % 2 == 0 else crews[::-1], model, found[model])
            turn += 1
            table.rows[:] = [pairs.row(model) for model, pairs in found.items()]
            findings.goals[:] = [goal(bench, found)]
    if turn == 0:
        raise NotThere("no time was left for a single turn")


async def _pair(crews: Sequence[Crew], model: str, pairs: Pairs) -> None:
    """A turn of each. One that fails ends the model's."""
    if pairs.why:
        return
    lines: dict[bool, Line] = {}
    for crew in crews:
        (lines[crew.mode.hooked],) = await crew.perform([task(model, 1, _SETTLE_S, TURN_S)])
    if failed := [str(line.get("why")) for line in lines.values() if line.get("status") != "ran" or not line["rps"]]:
        pairs.why = failed[0]
        return
    pairs.without.append(lines[False]["rps"])
    pairs.hooked.append(lines[True]["rps"])


def goal(bench: Bench, found: dict[str, Pairs]) -> Goal:
    """The mean over models; what launches of small kernels cost is not inference."""
    costs = {model: p.cost for model, p in found.items() if model != LAUNCHES and p.without and not p.why}
    what, aim = "end-to-end cost of the hook, batch 1, mean over models", f"<= {100 * AIM:g}%"
    if not costs:
        return Goal(what, "not measured", aim, None)
    worst = max(costs, key=lambda model: costs[model])
    figure = f"{100 * fmean(costs.values()):.2f}%, worst {100 * costs[worst]:.2f}% ({worst})"
    return Goal(what, figure, aim, None if bench.is_standin else fmean(costs.values()) <= AIM)
