"""A daemon on its own, and those who come by to use it: real processes, nobody's child."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import pytest

from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.errors import DaemonUnavailable, FastGShareError, InvalidValue, NoPlacement
from fastgshare.domain.rects import Rect
from fastgshare.domain.shares import Share
from fastgshare.manager.daemon import SOCKET_NAME, parse_device
from fastgshare.manager.visits import Visit

DEVICE = Device("standin", DeviceKind.STANDIN, 132, 2**30)
HALF = Share(50, 0.5, 0.8, 2**29)
FIRST, SECOND = Rect(0, 0, 50, 0.5), Rect(50, 0, 50, 0.5)


class Place:
    """A directory with a daemon on its own, and processes that only wait. All end with the test."""

    def __init__(self, directory: Path, ending: ExitStack) -> None:
        self.directory = directory
        self.socket = directory / SOCKET_NAME
        self._ending = ending

    def daemon(self, *options: str) -> subprocess.Popen[str]:
        command = ["-m", "fastgshare.manager.daemon", "--directory", str(self.directory), "--detached", *options]
        daemon = self._start([*command, "--device", json.dumps(asdict(DEVICE))])
        assert daemon.stdout is not None
        assert daemon.stdout.readline() == "daemon: ready\n"
        return daemon

    def process(self) -> subprocess.Popen[str]:
        return self._start(["-c", "import sys; sys.stdin.read()"])

    def _start(self, arguments: list[str]) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        process = subprocess.Popen([sys.executable, *arguments], stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        self._ending.callback(process.communicate)
        self._ending.callback(process.kill)
        return process


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with ExitStack() as ending:
        yield Place(tmp_path / "device", ending)


def test_who_comes_by_sees_who_is_there_and_joins_beside_them(place: Place) -> None:
    place.daemon()
    first, second = place.process(), place.process()
    with Visit(place.socket) as visit:
        assert visit.device() == DEVICE
        assert visit.present() == {}
        visit.admit("first", first.pid, HALF, FIRST, 0.002)
        assert visit.present() == {"first": (HALF, FIRST)}
        with pytest.raises(NoPlacement, match="the rect of second overlaps that of first"):
            visit.admit("second", second.pid, HALF, Rect(40, 0, 50, 0.5))
        with pytest.raises(NoPlacement, match=f"sum to {2**30 + 1} bytes of {2**30}"):
            visit.admit("second", second.pid, Share(50, 0.5, 0.5, 2**29 + 1), SECOND)
        with pytest.raises(FastGShareError, match=r"sm_partition: 0.5 is not allowed"):
            visit.admit("second", second.pid, Share(0.5, 0.5, 0.5), Rect(50, 0, 0.5, 0.5))
        visit.admit("second", second.pid, HALF, SECOND)
        seat = visit.status()["instances"]["first"]
        assert (seat["pid"], seat["burst_s"], seat["mem_bytes"], seat["mem_peak_bytes"]) == (first.pid, 0.002, 0, 0)


def test_a_resize_is_checked_as_a_whole(place: Place) -> None:
    place.daemon()
    first, second = place.process(), place.process()
    narrow, wide = Share(30, 0.5, 0.5), Share(70, 0.5, 0.5)
    with Visit(place.socket) as visit:
        visit.admit("first", first.pid, HALF, FIRST)
        visit.admit("second", second.pid, HALF, SECOND)
        with pytest.raises(NoPlacement):
            visit.place({"second": (wide, Rect(30, 0, 70, 0.5))})
        assert visit.present()["second"] == (HALF, SECOND)
        changes = {"first": (narrow, Rect(0, 0, 30, 0.5)), "second": (wide, Rect(30, 0, 70, 0.5))}
        visit.place(changes)
        assert visit.present() == changes
        visit.remove("first")
        assert set(visit.present()) == {"second"}
        assert visit.verdict("first") == ""
        assert visit.totals() == visit.windows(5) == []


def test_it_ends_by_itself_when_the_last_has_gone(place: Place) -> None:
    daemon = place.daemon("--until-empty-s", "0.1")
    process = place.process()
    with Visit(place.socket) as visit:
        visit.admit("only", process.pid, HALF, FIRST)
    os.kill(daemon.pid, signal.SIGINT)
    os.kill(daemon.pid, signal.SIGHUP)
    with Visit(place.socket) as visit:
        assert set(visit.present()) == {"only"}
    process.kill()
    assert daemon.wait(20) == 0
    with pytest.raises(DaemonUnavailable, match="no node daemon answers at"):
        Visit(place.socket)


def test_a_directory_has_one_daemon(place: Place) -> None:
    place.daemon()
    arguments = ["--directory", str(place.directory), "--device", json.dumps(asdict(DEVICE))]
    second = subprocess.run(
        [sys.executable, "-m", "fastgshare.manager.daemon", *arguments], capture_output=True, text=True, check=False
    )
    assert second.returncode == 1
    assert second.stderr == f"Error: another node daemon serves {place.directory}\n"
    with Visit(place.socket) as visit:
        assert visit.present() == {}


def test_a_visitor_is_told_when_the_daemon_goes(place: Place) -> None:
    daemon = place.daemon()
    with Visit(place.socket) as visit:
        daemon.kill()
        daemon.wait()
        with pytest.raises(DaemonUnavailable, match="does not answer"):
            visit.status()


def test_a_device_of_any_kind_is_taken_from_json() -> None:
    for kind in DeviceKind:
        device = Device("d", kind, 4, 5, (0, 1, 2, 3))
        assert parse_device(json.dumps(asdict(device))) == device
    with pytest.raises(InvalidValue, match=r"device: .* is not allowed; allowed: a JSON object with id, kind"):
        parse_device('{"id": "d", "kind": "tpu", "sm_count": 1}')
