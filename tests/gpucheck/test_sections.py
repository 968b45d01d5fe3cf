"""Sections take turns, whatever happens to one of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import pytest

from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.errors import NotFound
from fastgshare.gpucheck import deadlines
from fastgshare.gpucheck.benches import Bench
from fastgshare.gpucheck.findings import Findings, NotThere, Outcome, Status
from fastgshare.gpucheck.sections import Section, run_all

Work = Callable[[Bench, Findings], Coroutine[Any, Any, None]]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(Device("standin", DeviceKind.STANDIN, 132, 2**30), tmp_path, {}, lambda text: None)


async def _run(bench: Bench, *works: Work, seconds: float = 60.0) -> tuple[list[Outcome], list[list[Status]]]:
    written: list[list[Status]] = []

    def write(outcomes: Sequence[Outcome]) -> None:
        written.append([outcome.status for outcome in outcomes])

    sections = [Section(str(number), f"Section {number}", 1, work) for number, work in enumerate(works)]
    return await run_all(bench, sections, time.monotonic() + seconds, write), written


async def _reports(bench: Bench, findings: Findings) -> None:
    findings.facts["figure"] = 1


async def _fails(bench: Bench, findings: Findings) -> None:
    findings.facts["figure"] = 2
    raise ZeroDivisionError("a slip")


async def _is_refused(bench: Bench, findings: Findings) -> None:
    raise ExceptionGroup("tasks", [NotFound("model", "x")])


async def _is_not_there(bench: Bench, findings: Findings) -> None:
    raise NotThere("no GPU has it")


async def _never_ends(bench: Bench, findings: Findings) -> None:
    findings.facts["figure"] = 3
    await asyncio.Event().wait()


async def test_every_section_is_told_as_it_went_and_the_next_one_runs(bench: Bench) -> None:
    outcomes, _ = await _run(bench, _fails, _is_not_there, _is_refused, _reports)

    assert [(outcome.status, outcome.why) for outcome in outcomes] == [
        (Status.FAILED, "ZeroDivisionError: a slip"),
        (Status.NOT_THERE, "no GPU has it"),
        (Status.FAILED, "model 'x' does not exist"),
        (Status.REPORTED, ""),
    ]
    assert outcomes[0].findings.facts == {"figure": 2}


async def test_one_that_is_over_its_time_keeps_what_it_found(bench: Bench) -> None:
    outcomes, _ = await _run(bench, _never_ends, _reports, seconds=0.2)

    assert [outcome.status for outcome in outcomes] == [Status.CUT_OFF, Status.REPORTED]
    assert outcomes[0].findings.facts == {"figure": 3}
    assert "were over" in outcomes[0].why


async def test_one_that_does_not_let_itself_be_ended_is_left_alone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadlines, "CLEANING_UP_S", 0.1)
    let_go = asyncio.Event()

    async def hangs(bench: Bench, findings: Findings) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await let_go.wait()

    outcomes, _ = await _run(bench, hangs, _reports, seconds=0.2)
    let_go.set()

    assert [outcome.status for outcome in outcomes] == [Status.CUT_OFF, Status.REPORTED]


async def test_what_is_written_is_true_at_any_moment(bench: Bench) -> None:
    _, written = await _run(bench, _reports, _fails)

    running, later = Status.RUNNING, Status.NOT_RUN
    assert written == [
        [running, later],
        [Status.REPORTED, later],
        [Status.REPORTED, running],
        [Status.REPORTED, Status.FAILED],
    ]


async def test_what_one_leaves_of_its_time_the_others_have(bench: Bench) -> None:
    given: list[float] = []

    async def notes(bench: Bench, findings: Findings) -> None:
        given.append(round(bench.share_s))

    await _run(bench, notes, notes, notes, seconds=300.0)

    assert given == [100, 150, 300]
