from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.conftest import Run
from tests.standin.programs import GIB, Neighbour

from fastgshare.cli.devices import state
from fastgshare.cluster.homes import Home
from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.readings import Reading

STANDIN = Device("standin", DeviceKind.STANDIN, 132, 80 * GIB)


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


def test_the_cpu_is_there_and_shows_a_dash_for_what_it_does_not_have(run: Run) -> None:
    head, line = run("devices", "--device", "cpu").stdout.splitlines()
    assert head.split() == [
        *("DEVICE", "KIND", "SMS", "MEMORY", "GiB", "USED", "GiB", "BUSY", "%", "SMS", "USED", "%"),
        *("OCCUPANCY", "%", "POWER", "W", "TEMP", "C", "CLOCK", "MHz", "STATE"),
    ]
    name, kind, sms, *_, busy, used, occupancy, power, celsius, clock, how = line.split()
    assert (name, kind, int(sms)) == ("cpu", "CPU", len(os.sched_getaffinity(0)))
    assert 0 <= float(used) <= 100
    assert (busy, occupancy, power, celsius, clock, how) == ("-", "-", "-", "-", "-", "ok")


def test_without_a_name_the_cpu_comes_first(run: Run) -> None:
    assert json.loads(run("devices", "--json").stdout)["devices"][0]["id"] == "cpu"


def test_the_stand_in_says_that_it_is_none_and_what_runs_on_it(run: Run) -> None:
    result = run("devices", "--device", "standin")
    assert "stand-in (a test double, not a GPU)" in result.stdout
    assert (result.exit_code, result.stdout.splitlines()[1].rsplit()[-1]) == (0, "ok")
    Neighbour(Home.of(STANDIN, os.environ).state_path).take(3 * GIB)
    found = json.loads(run("devices", "--device", "standin", "--device", "standin:sms=7", "--json").stdout)
    first, second = found["devices"]
    assert (first["id"], first["kind"], first["sm_count"], first["mem_bytes"]) == ("standin", "standin", 132, 80 * GIB)
    assert (first["reading"]["mem_used_bytes"], second["reading"]["mem_used_bytes"]) == (3 * GIB, 0)
    assert not {"power_w", "temperature_c", "sm_clock_mhz"} & first["reading"].keys()


def test_a_device_that_is_not_there_is_named(run: Run) -> None:
    result = run("devices", "--device", "cuda:99")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: device: 'cuda:99' is not allowed; allowed: ")


@pytest.fixture(params=[[], ["--json"]])
def watching(request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    begin = "from fastgshare.cli import main; main()"
    command = [sys.executable, "-c", begin, "devices", "--device", "cpu", "--watch", *request.param]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        yield process
        process.kill()


def test_watching_goes_on_until_it_is_interrupted(watching: subprocess.Popen[str]) -> None:
    assert watching.stdout is not None
    lines = [watching.stdout.readline() for _ in range(2)]
    assert all("cpu" in line or line.startswith("DEVICE") for line in lines)
    watching.send_signal(signal.SIGINT)
    _, said = watching.communicate(timeout=20)
    assert (watching.returncode, said) == (0, "")


@pytest.mark.parametrize(
    ("reading", "xids", "words"),
    [
        (Reading(1.0), {}, "ok"),
        (Reading(1.0), {31: 2}, "XID 31 (a kernel used an address that is not its own), 2 times"),
        (Reading(1.0), {48: 1}, "to be reset; XID 48 (memory had an error of two bits)"),
        (Reading(1.0, problem="its counters ended"), {}, "its counters ended"),
        (Reading(1.0, lost=True, problem="the device is lost"), {79: 1}, "lost"),
    ],
)
def test_how_a_device_is_in_words(reading: Reading, xids: dict[int, int], words: str) -> None:
    assert state(reading, xids) == words
