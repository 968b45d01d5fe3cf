"""The open questions: asked of the stand-in for real, and what is made of answers that a GPU might give."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.errors import FastGShareError, NotFound, PartitionerUnavailable
from fastgshare.gpucheck import questioning
from fastgshare.gpucheck.benches import Bench
from fastgshare.gpucheck.findings import Findings, NotThere
from fastgshare.gpucheck.questions import faults, green_places, percentages, places, static_partitions, switching
from fastgshare.gpucheck.questions.answers import Answer, Question, ask, ranges
from fastgshare.gpucheck.questions.green_places import Part
from fastgshare.gpucheck.questions.percentages import Seen

LONG_S = 60.0
DOUBLE = "The stand-in, a test double: "


@pytest.fixture
def bench() -> Iterator[Bench]:
    """On a stand-in; at the end nothing runs that was told of its directory."""
    with tempfile.TemporaryDirectory(prefix="fgq-") as directory:
        device = Device("standin", DeviceKind.STANDIN, 132, 2**30)
        made = Bench(device, Path(directory), os.environ, lambda text: None)
        made.begin("questions", LONG_S)
        yield made
        assert _running(directory) == []


def _running(directory: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if os.fsencode(directory) in (path / "environ").read_bytes():
                found.append((path / "cmdline").read_text())
        except OSError:
            continue
    return [words for words in found if words]


async def _ask(question: Question, bench: Bench) -> Answer:
    answer = await ask(question, bench, LONG_S)
    assert answer.missing == ""
    assert answer.found.startswith(DOUBLE)
    return answer


# --- the stand-in ----------------------------------------------------------------------------------------------------


async def test_the_grid_of_the_percentage(bench: Bench) -> None:
    answer = await _ask(percentages, bench)

    each = answer.details["each"]
    assert (answer.details["percentages"], each["1"], each["25"], each["100"]) == (100, 2, 33, 132)
    assert "the stand-in does not model which SMs" in answer.found


async def test_green_contexts_in_two_processes(bench: Bench) -> None:
    answer = await _ask(green_places, bench)

    assert [(row["way"], row["parts"], row["told"]) for row in answer.details["processes"]] == [
        ("without MPS", 8, 0),
        ("under one MPS server", 8, 0),
    ]
    assert "the stand-in does not model which SMs" in answer.found


async def test_what_green_contexts_cost(bench: Bench) -> None:
    rows = (await _ask(switching, bench)).details["costs"]

    assert [row["way"] for row in rows] == ["without MPS", "under an MPS server"]
    assert all(row[key] > 0 for row in rows for key in ("create_p50_us", "end_p50_us", "launch_on_another_p50_us"))


async def test_static_partitions_are_refused_in_the_programs_own_words(bench: Bench) -> None:
    answer = await _ask(static_partitions, bench)

    assert list(answer.details["refusals"]) == ["-f -S", "-d -S", "-S"]
    assert "static partitioning is not supported by the stand-in's MPS" in answer.found


async def test_a_fault_stays_in_its_server_and_that_comes_back(bench: Bench) -> None:
    answer = await _ask(faults, bench)

    hit = [(row["group"], row["hit"]) for row in answer.details["processes"]]
    crew = [(faults.FAULTY, True)] * 2 + [(faults.OTHER, False)] * 2 + [(faults.NONE, False)]
    assert hit == crew
    assert {row.get("error") for row in answer.details["processes"][:2]} == {"LAUNCH_FAILED (719)"}
    assert answer.details["fault"]["error"] == "ILLEGAL_ADDRESS (700)"
    back = answer.details["recovery"]
    assert back["back_after_ms"] > 0 and back["same_server"] and not back["helped"]


async def test_a_server_that_does_not_get_well_is_restarted(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is in fault for as long as one of those that it had is there, on the stand-in at least."""
    monkeypatch.setattr(faults, "_HEALS_WITHIN_S", 0.2)
    async with places.mps(bench) as control:
        env = bench.of_programs() | control.environment()
        async with places.places(env, "seen", "again=1") as stays:
            await stays.line()
            servers = control.shell.servers()
            fault = await places.say(env, "fault")
            back = await faults._recovery(control, env, fault["at_ns"], servers)

    assert back["helped"] and not back["same_server"] and back["back_after_ms"] > 200
    assert any("MPS_SERVER_NOT_READY (807)" in why for why in back["refusals"])


async def test_where_no_second_server_can_be_the_rest_is_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    first, opened = places.mps, []

    def one_alone(on: Bench) -> Any:
        opened.append(on)
        if len(opened) > 1:
            raise PartitionerUnavailable("one server at a time")
        return first(on)

    monkeypatch.setattr(faults, "mps", one_alone)
    answer = await _ask(faults, bench)

    assert "another MPS server: not known (one server at a time)" in answer.found
    assert [row["hit"] for row in answer.details["processes"]] == [True, True, False]


async def test_where_there_is_no_mps_it_is_said_and_what_needs_none_is_answered(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*given: object) -> Path:
        raise NotFound("program", "nvidia-cuda-mps-control")

    monkeypatch.setattr(places, "find_control", none)
    monkeypatch.setattr(static_partitions, "find_control", none)
    answers = {question: await ask(question, bench, LONG_S) for question in questioning.ALL}

    for needs_mps in (percentages, static_partitions, faults):
        assert answers[needs_mps].missing == "program 'nvidia-cuda-mps-control' does not exist"
    for partly in (green_places, switching):
        assert "MPS server: not known (program 'nvidia-cuda-mps-control' does not exist)" in answers[partly].found


CONTROL = """
    import os, pathlib, signal, sys, time
    pipes = pathlib.Path(os.environ["CUDA_MPS_PIPE_DIRECTORY"])
    table, pid = pipes / "table", pipes / "nvidia-cuda-mps-control.pid"
    if "-S" in sys.argv:
        if {refused!r} in sys.argv:
            print("no", sys.argv[1]); sys.exit(1)
        if "-d" in sys.argv and os.fork():
            sys.exit(0)
        table.write_text("")
        pid.write_text(str(os.getpid()))
        (pipes / "control").touch()
        time.sleep(60)
    for line in sys.stdin:
        match line.split():
            case ["sm_partition", "add", device, chunks]:
                name = f"{{device}}/D{{chunks}}/AA"
                table.write_text(table.read_text() + name + "\\n")
                print(f"Partition {{name}} created")
            case ["sm_partition", "rm", device, name]:
                print("Partition is in use")
            case ["lspart"]:
                print(table.read_text())
            case ["quit"]:
                os.kill(int(pid.read_text()), signal.SIGTERM)
"""


async def test_a_partition_that_no_process_can_be_in_is_told_with_all_steps(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = _control(bench, "")
    monkeypatch.setattr(static_partitions, "find_control", lambda device, env: program)
    monkeypatch.setattr(places, "library", lambda name: "/bin/false")

    answer = await _ask(static_partitions, bench)

    assert "no process can be in a partition: `places seen again=1` ended early" in answer.found
    assert answer.details["steps"][0]["said"] == "Partition standin/D2/AA created"


def _control(bench: Bench, refused: str) -> Path:
    program = bench.folder() / "nvidia-cuda-mps-control"
    program.write_text(f"#!{sys.executable}\n" + textwrap.dedent(CONTROL.format(refused=refused)))
    program.chmod(0o755)
    return program


@pytest.mark.parametrize("refused", ["", "-f"])
async def test_where_static_partitions_are_they_are_tried(
    refused: str, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a control program of ours, in the foreground and in the background; on the stand-in it divides nothing."""
    program = _control(bench, refused)
    monkeypatch.setattr(static_partitions, "find_control", lambda device, env: program)

    answer = await _ask(static_partitions, bench)

    said = {row["step"]: row.get("said") for row in answer.details["steps"]}
    assert said["sm_partition add standin 2"] == "Partition standin/D2/AA created"
    assert said["sm_partition rm standin D2/AA"] == "Partition is in use"
    assert answer.found == (
        f"{DOUBLE}a partition cannot be taken away while a process is in it, and it kept its 132 SMs; "
        "one of 132 SMs can be added meanwhile."
    )


# --- whatever happens ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Asks:
    """A question that does something else."""

    does: Any
    QUESTION: str = "Why?"
    LIMIT_S: float = LONG_S

    async def answer(self, bench: Bench) -> Answer:
        found: Answer = await self.does(bench)
        return found


async def _answers(bench: Bench) -> Answer:
    return Answer("Why?", "so.", {"causes": [{"cause": "x", "weight_kg": 1}], "number": 2})


async def _slips(bench: Bench) -> Answer:
    async with asyncio.TaskGroup() as group:
        group.create_task(_fails())
    raise AssertionError("not reached")


async def _fails() -> None:
    raise ZeroDivisionError("a slip")


async def _hangs(bench: Bench) -> Answer:
    async with (
        places.mps(bench) as control,
        places.places(bench.of_programs() | control.environment(), "green", "sms=16") as run,
    ):
        while True:
            await run.line(LONG_S)


async def test_one_that_hangs_is_cut_off_with_all_that_it_started(bench: Bench) -> None:
    answer = await ask(_Asks(_hangs), bench, 0.5)

    assert (answer.found, answer.missing) == ("", "cut off: its 0 s were over")
    assert _running(str(bench.directory)) == []


def test_all_of_them_end_within_a_minute() -> None:
    assert sum(question.LIMIT_S for question in questioning.ALL) <= 60


async def test_whatever_one_does_the_next_one_is_asked(bench: Bench) -> None:
    findings = Findings()
    await questioning.work(bench, findings, [_Asks(_slips), _Asks(_answers)])

    answers, causes = findings.tables
    assert [(row["found"], row["missing"]) for row in answers.rows] == [
        ("", "ZeroDivisionError: a slip"),
        (f"{DOUBLE}so.", ""),
    ]
    assert answers.rows[1]["details"] == {"number": 2}
    assert (causes.title, causes.columns) == ("Why? Causes", {"cause": "cause", "weight_kg": "weight kg"})


async def test_a_long_table_is_for_the_json_alone(bench: Bench) -> None:
    async def answers(on: Bench) -> Answer:
        return Answer("Why?", "so.", {"short": [{"n": 1}] * 40, "long": [{"n": 1}] * 41})

    findings = Findings()
    await questioning.work(bench, findings, [_Asks(answers)])

    assert [(table.title, table.shown) for table in findings.tables[1:]] == [("Why? Short", True), ("Why? Long", False)]


def test_the_page_tells_every_question_and_its_time() -> None:
    page = (Path(__file__).parents[2] / "docs" / "questions.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| ") and line.endswith(" s |")]

    asked = [(row.split(" | ")[0].removeprefix("| "), row.split(" | ")[-1].removesuffix(" |")) for row in rows]
    assert asked == [(question.QUESTION, f"{question.LIMIT_S:g} s") for question in questioning.ALL]


async def test_without_a_single_answer_the_section_says_why(bench: Bench) -> None:
    with pytest.raises(NotThere, match=r"Why\? ZeroDivisionError: a slip"):
        await questioning.work(bench, Findings(), [_Asks(_slips)])


async def test_without_time_none_is_asked(bench: Bench) -> None:
    bench.ends_s = time.monotonic()
    with pytest.raises(NotThere, match="no time was left"):
        await questioning.work(bench, Findings(), [_Asks(_answers)])


async def test_a_program_that_fails_says_in_which_call(bench: Bench) -> None:
    env = bench.of_programs()
    with pytest.raises(places.PlacesFailed, match=r"cuDevSmResourceSplitByCount: INVALID_RESOURCE_CONFIGURATION \(915"):
        await places.say(env, "green", "sms=1000")
    with pytest.raises(places.PlacesFailed, match="ended early: usage: places"):
        await places.say(env, "dance")
    with pytest.raises(places.PlacesFailed, match=r"said nothing for 0\.2 s"):
        async with places.places(env, "ticks", "ms=60000") as run:
            await run.line()
            await run.line(0.2)


# --- what is made of answers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("numbers", "text"), [([], ""), ([7], "7"), ([2, 0, 1, 5, 1], "0-2, 5"), ([9, 8, 3], "3, 8-9")]
)
def test_numbers_as_ranges(numbers: list[int], text: str) -> None:
    assert ranges(numbers) == text


def test_a_grid_has_a_row_for_every_step() -> None:
    found = [
        Seen(3, 2, frozenset({0, 1})),
        Seen(1, 2, frozenset({4, 5})),
        Seen(7, 10, frozenset(range(10))),
        Seen(13, 18, frozenset(range(20)), 132),
    ]
    answer = percentages.grid(found, {50: "no time was left"})

    assert answer.found == (
        "4 percentages give 3 steps, 2 to 18 SMs, 8 apart; "
        "blocks ran on exactly as many SMs as the process is told of in 3 of 4 processes."
    )
    assert answer.details["steps"] == [
        {"sms": 2, "percent": "1, 3", "ran_on_sms": "2", "different_sets": 2, "which_sms": "0-1, 4-5"},
        {"sms": 10, "percent": "7", "ran_on_sms": "10", "different_sets": 1, "which_sms": "0-9"},
        {"sms": 18, "percent": "13", "ran_on_sms": "20", "different_sets": 1, "which_sms": "0-19"},
    ]
    assert answer.details["problems"] == {"50": "no time was left"}
    assert answer.details["sm_numbers"] == [132]


def test_no_process_that_could_look_is_no_grid() -> None:
    with pytest.raises(FastGShareError, match="no process of 1 could look: refused"):
        percentages.grid([], {5: "refused"})


def _parts(*firsts: int) -> list[Part]:
    return [Part(16, frozenset(range(first, first + 16))) for first in firsts]


def test_parts_are_compared_one_by_one() -> None:
    compared = green_places.compared(_parts(0, 16, 32, 48), _parts(0, 24, 64, 48), _parts(0, 16, 80))

    assert compared == {"parts": 4, "told": 4, "same": 2, "overlapping": 1, "apart": 1, "as_when_alone": 2}


@pytest.mark.parametrize(
    ("other", "verdict"),
    [(_parts(0, 16), "yes, 2 of 2"), (_parts(0, 32), "some, 1 of 2"), (_parts(32, 48), "no, 0 of 2")],
)
def test_whether_two_processes_have_the_same_sms(other: list[Part], verdict: str) -> None:
    answer = green_places.same(_parts(0, 16), {"without MPS": [_parts(0, 16), other], "with MPS": "it is not here"})

    assert f"without MPS: {verdict} parts are on the same SMs" in answer.found
    assert answer.found.endswith("with MPS: not known (it is not here).")
    assert not answer.details["parts_share_sms"]


def test_parts_of_one_process_that_share_sms_are_told() -> None:
    assert green_places.same(_parts(0, 8), {}).details["parts_share_sms"]


def test_a_partition_is_found_in_what_is_said() -> None:
    said = "chunks: 2/16\nPartition GPU-1-2/Dx4A/BB= created"
    assert static_partitions.partition_id("GPU-1-2", said) == "GPU-1-2/Dx4A/BB="
    assert static_partitions.partition_id("GPU-1-2", "Invalid command") == ""


@pytest.mark.parametrize(
    ("after", "gone", "beside", "expected"),
    [
        (
            {"sms": 24, "seen": [0, 1, 2]},
            True,
            None,
            "can be taken away while a process is in it, and it had 16 SMs before and 24 after, on 2 of the same; "
            "none can be added",
        ),
        (None, True, None, "and the process failed then"),
        ({"sms": 16, "seen": [1, 0]}, False, {"sms": 32, "seen": []}, "it kept its 16 SMs; one of 32 SMs can be added"),
    ],
)
def test_what_became_of_a_partition(after: Any, gone: bool, beside: Any, expected: str) -> None:
    before = {"sms": 16, "seen": [0, 1]}
    assert expected in static_partitions.summary(before, after, gone=gone, beside=beside)


def _tick(error: int, seen_ns: int) -> dict[str, int]:
    return {"ticks": 10, "longest_ns": 2_000_000, "error": error, "seen_ns": seen_ns}


def _told(back: dict[str, Any], *errors: int) -> str:
    groups = [faults.FAULTY, faults.FAULTY, faults.OTHER, faults.OTHER, faults.NONE]
    rows = [
        faults.ended(group, _tick(error, 3_500_000), 1_000_000) for group, error in zip(groups, errors, strict=True)
    ]
    fault = {"error": 700, "at_ns": 1_000_000, "seen_ns": 1_400_000}
    return faults.spread(fault, rows, {"refusals": {}, "helped": False, "same_server": True, **back}, {}).found


def test_how_far_a_fault_spread() -> None:
    assert _told({"back_after_ms": 120.0}, 719, 719, 0, 0, 0) == (
        "with the faulty MPS server 2 of 2 others are hit, by LAUNCH_FAILED (719) within 2.5 ms; "
        "with another MPS server 0 of 2 others are hit; with no MPS 0 of 1 others are hit; "
        "a new process starts 120 ms after the fault, by itself."
    )


@pytest.mark.parametrize(
    ("back", "said"),
    [
        ({"back_after_ms": 5000.0, "helped": True}, "5000 ms after the fault, after it was restarted"),
        ({"back_after_ms": 90.0, "same_server": False}, "90 ms after the fault, in a new server"),
        ({"back_after_ms": None}, "no new process any more (restarting it did not help)"),
        ({"back_after_ms": None, "problem": "it hangs"}, "no new process any more (it hangs)"),
    ],
)
def test_how_the_server_came_back(back: dict[str, Any], said: str) -> None:
    assert said in _told(back, 719, 0, 806, 0, 0)
