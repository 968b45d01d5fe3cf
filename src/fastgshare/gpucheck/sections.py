"""Sections: parts of the check, each with a part of the time; whatever happens to one, the next one runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from fastgshare.domain.errors import FastGShareError
from fastgshare.gpucheck.benches import Bench
from fastgshare.gpucheck.findings import Findings, NotThere, Outcome, Status

_CLEANING_UP_S: Final = 10.0
"""What a section that is over its time has to end what it started."""


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the check. weight: the part of the time that it is given, beside others'. work: fills the findings."""

    name: str
    title: str
    weight: float
    work: Callable[[Bench, Findings], Awaitable[None]]


async def run_all(
    bench: Bench, sections: Sequence[Section], ends_s: float, written: Callable[[Sequence[Outcome]], None]
) -> list[Outcome]:
    """Run sections in order until `ends_s` (monotonic); what one leaves of its time, the others have.

    written: told all outcomes whenever one has changed.
    """
    outcomes = [Outcome(section.name, section.title, why="it has not begun") for section in sections]
    for number, (section, outcome) in enumerate(zip(sections, outcomes, strict=True)):
        left_s = max(0.0, ends_s - time.monotonic())
        share_s = left_s * section.weight / sum(other.weight for other in sections[number:])
        outcome.status, outcome.why = Status.RUNNING, "the check ended before it did"
        written(outcomes)
        await _run_one(bench, section, outcome, share_s)
        written(outcomes)
    return outcomes


async def _run_one(bench: Bench, section: Section, outcome: Outcome, share_s: float) -> None:
    began_s = time.monotonic()
    bench.begin(section.title, share_s)
    task = asyncio.ensure_future(section.work(bench, outcome.findings))
    try:
        await asyncio.wait({task}, timeout=share_s)
        if not task.done():
            outcome.status, outcome.why = Status.CUT_OFF, f"its {share_s:.0f} s were over"
    finally:  # the whole check may have been told to end
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=_CLEANING_UP_S)
    if task.done() and outcome.status is Status.RUNNING:
        outcome.status, outcome.why = _ended(task)
    outcome.took_s = time.monotonic() - began_s
    bench.say(f"{section.title}: {outcome.status}{f' ({outcome.why})' if outcome.why else ''}, {outcome.took_s:.0f} s")


def _ended(task: asyncio.Future[None]) -> tuple[Status, str]:
    error = None if task.cancelled() else task.exception()
    if task.cancelled():
        return Status.FAILED, "it was cancelled"
    if error is None:
        return Status.REPORTED, ""
    if isinstance(error, NotThere):
        return Status.NOT_THERE, str(error)
    if isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    kind = "" if isinstance(error, FastGShareError) else f"{type(error).__name__}: "
    return Status.FAILED, f"{kind}{error}" or type(error).__name__
