"""``fastgshare profile``, as people call it: on the CPU, with a function that takes no time."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Run

from fastgshare.cli.profile_shows import sentence, surface
from fastgshare.domain.functions import Slo
from fastgshare.domain.profiles import Configuration, Figures, Outcome, Subject, Trial

PROFILE = (sys.executable, "-c", "from fastgshare.cli import main; main(prog_name='fastgshare')", "profile", "echo")
HANDLER = """
def echo(request):
    return request.body

echo.sample = b"hello"

def broken(request):
    raise ValueError("no such thing")

broken.sample = b""
"""
FUNCTIONS = """
functions:
  - {name: echo, handler: handler.py:echo, share: {sm: 100, request: 1}}
  - {name: broken, handler: handler.py:broken, share: {sm: 100, request: 1}}
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with functions, whose path is short enough for sockets."""
    path = Path(tempfile.mkdtemp(prefix="fgs-", dir="/tmp"))
    (path / "handler.py").write_text(HANDLER)
    (path / "functions.yaml").write_text(FUNCTIONS)
    yield path
    shutil.rmtree(path)


def call(folder: Path) -> tuple[str, ...]:
    state = ("--state", str(folder / "state"), "--json", "--seconds", "0.2")
    return (*PROFILE, "-f", str(folder / "functions.yaml"), *state)


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def begin(folder: Path) -> tuple[subprocess.Popen[str], dict[str, Any]]:
    """A profile under way, and its first trial."""
    process = subprocess.Popen(call(folder), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, json.loads(process.stdout.readline())


def test_after_kill_9_the_same_call_goes_on_and_ctrl_c_ends_it_in_order(folder: Path) -> None:
    first, kept = begin(folder)
    first.kill()
    first.communicate()
    second, found = begin(folder)
    second.send_signal(signal.SIGINT)
    out, err = second.communicate(timeout=60)
    last = events(out)[-1]
    assert (kept["event"], found["event"], last["event"]) == ("trial", "trial", "interrupted")
    assert found["given"] != kept["given"]
    assert last["trials"] >= 2
    assert (second.returncode, err) == (1, "")
    assert not list((folder / "state" / "profiling").glob("*.sock"))


def test_a_function_that_cannot_answer_is_a_profile_of_failures(folder: Path, run: Run) -> None:
    found = run(
        *("profile", "broken", "-f", str(folder / "functions.yaml"), "--state", str(folder / "state")),
        *("--budget", "1", "--seconds", "0.2"),
    )
    assert found.exit_code == 1
    assert "crashed" in found.stdout
    assert "no such thing" in found.stderr


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("nobody",), "'nobody' does not exist"),
        (("echo", "--device", "tpu"), "device: 'tpu' is not allowed"),
        (("echo", "--batch", "0"), "0 is not in the range"),
        (("echo", "--slo-ms", "nan"), "is not a finite number"),
        (("echo", "--budget", "0"), "0 is not in the range"),
    ],
)
def test_bad_input_is_one_error(folder: Path, run: Run, arguments: tuple[str, ...], problem: str) -> None:
    name, *others = arguments
    state = ("--state", str(folder / "state"))
    found = run("profile", name, "-f", str(folder / "functions.yaml"), *others, *state)
    assert found.exit_code in (1, 2)
    assert problem in found.stderr
    assert found.stderr.count("error:") == 1


def trial(figures: Figures | None = None, **fields: Any) -> Trial:
    point = Configuration(50, 0.4)
    blank = {"subject": Subject("f", "", ""), "asked": point, "given": point, "outcome": Outcome.MEASURED}
    return Trial(**{**blank, "figures": figures, **fields})


def test_a_trial_is_a_sentence() -> None:
    assert sentence(trial(Figures(12.34, 0.5, p99_s=0.0567))) == (
        "50% SM x 0.4: 12.3 +-0.5 answers a second, 99% within 56.7 ms"
    )
    failed = trial(None, asked=Configuration(60, 0.4), outcome=Outcome.CRASHED, reason="it fell over")
    assert sentence(failed) == "50% SM x 0.4 (asked for: 60% SM): crashed: it fell over"


def test_the_surface_has_a_row_for_every_part_of_the_device() -> None:
    trials = [
        trial(Figures(10)),
        trial(Figures(7, p99_s=0.1), offered_rps=7.5),
        trial(Figures(9, p99_s=0.9), offered_rps=9),
        trial(None, given=Configuration(100, 1), outcome=Outcome.OUT_OF_MEMORY),
    ]
    found = surface(trials, Slo(0.2))
    assert [column.header for column in found.columns] == ["SM %", "QUOTA 0.4", "QUOTA 1"]
    assert [list(column.cells) for column in found.columns] == [
        ["50", "100"],
        ["10.0 / 7.0", ""],
        ["", "out of memory"],
    ]
