"""Sections: parts of the check, each with a part of the time; whatever happens to one, the next one runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from fastgshare.domain.errors import FastGShareError
from fastgshare.gpucheck.benches import Bench
from fastgshare.gpucheck.deadlines import within
from fastgshare.gpucheck.findings import Findings, NotThere, Outcome, Status


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the check. weight: the part of the time that it is given, beside others'. work: fills the findings."""

    name: str
    title: str
    weight: float
    work: Callable[[Bench, Findings], Coroutine[Any, Any, None]]


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
    try:
        await within(share_s, section.work(bench, outcome.findings))
        outcome.status, outcome.why = Status.REPORTED, ""
    except TimeoutError as error:
        outcome.status, outcome.why = Status.CUT_OFF, str(error)
    except NotThere as error:
        outcome.status, outcome.why = Status.NOT_THERE, str(error)
    except Exception as error:  # whatever it is, the next section runs
        outcome.status, outcome.why = Status.FAILED, _in_words(error)
    outcome.took_s = time.monotonic() - began_s
    bench.say(f"{section.title}: {outcome.status}{f' ({outcome.why})' if outcome.why else ''}, {outcome.took_s:.0f} s")


def _in_words(error: Exception) -> str:
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return str(error) if isinstance(error, FastGShareError) else f"{type(error).__name__}: {error}"
