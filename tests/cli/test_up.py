"""The whole platform as its users run it: real processes, real kills."""

from __future__ import annotations

import json
import os
import queue
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

FASTGSHARE = (sys.executable, "-c", "from fastgshare.cli import main; main(prog_name='fastgshare')")
PATIENCE_S = 60.0
HANDLER = """
import os, time

def shout(request):
    print("asked", flush=True)
    return request.body.upper()

def slow(request):
    print("begun", flush=True)
    time.sleep(1)
    return b"done"

def stuck(request):
    print("begun", flush=True)
    time.sleep(1000)

class Sleeper:
    def __init__(self, context):
        print("falling asleep", flush=True)
        time.sleep(1000)
    def __call__(self, request):
        return b""
"""
FUNCTION = """  - name: {name}
    handler: handler.py:{attribute}
    share: {{sm: {sm}, request: 0.2, limit: 0.5}}
"""


@pytest.fixture
def file(tmp_path: Path) -> Callable[..., str]:
    """Writes a functions.yaml with functions by name and attribute."""
    (tmp_path / "handler.py").write_text(HANDLER)
    sm = 100 / len(os.sched_getaffinity(0))

    def write(**functions: str) -> str:
        items = (FUNCTION.format(name=name, attribute=attribute, sm=sm) for name, attribute in functions.items())
        (tmp_path / "functions.yaml").write_text("functions:\n" + "".join(items))
        return str(tmp_path / "functions.yaml")

    return write


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    """A state directory; whatever a test that fails leaves running there is ended."""
    yield tmp_path / "state"
    for line in left(tmp_path / "state"):
        pid = line.partition(":")[0]
        if pid.isdecimal():
            os.kill(int(pid), signal.SIGKILL)


class Up:
    """A running `fastgshare up --json` and what it has said."""

    def __init__(self, process: subprocess.Popen[str], directory: Path) -> None:
        self.process = process
        self.directory = directory
        self.events: list[dict[str, Any]] = []
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()
        self.url = self.until("listening")["url"]

    def until(self, event: str, **facts: Any) -> dict[str, Any]:
        """The next event of a kind, with these facts."""
        give_up_s = time.monotonic() + PATIENCE_S
        while True:
            line = self._lines.get(timeout=max(0.0, give_up_s - time.monotonic()))
            assert line, f"it ended: {self.process.stderr.read() if self.process.stderr else ''}"
            self.events.append(json.loads(line))
            if self.events[-1]["event"] == event and facts.items() <= self.events[-1].items():
                return self.events[-1]

    def _read(self) -> None:
        assert self.process.stdout is not None
        while line := self.process.stdout.readline():
            self._lines.put(line)
        self._lines.put("")

    def run(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
        """Another verb, against this platform."""
        environment = {**os.environ, "FASTGSHARE_GATEWAY": self.url}
        command = [*FASTGSHARE, *arguments]
        return subprocess.run(command, capture_output=True, env=environment, timeout=PATIENCE_S, check=False, **options)

    def instance(self, name: str) -> dict[str, Any]:
        """The one instance of a function."""
        (status,) = [s for s in json.loads(self.run("ls", "--json").stdout) if s["name"] == name]
        (instance,) = status["fastgshare"]["instances"]
        return dict(instance)

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        """Send a signal and wait; the exit status."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)


@contextmanager
def starting(directory: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [*FASTGSHARE, "up", "--listen", "127.0.0.1:0", "--state", str(directory), "--json", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(PATIENCE_S)
                except subprocess.TimeoutExpired:
                    process.kill()


@contextmanager
def up(directory: Path, *arguments: str) -> Iterator[Up]:
    with starting(directory, *arguments) as process:
        yield Up(process, directory)


def left(directory: Path) -> list[str]:
    """Processes of this platform that still run, and sockets that are still there."""
    found = [str(path) for path in directory.rglob("*") if path.is_socket()]
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            try:
                words = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            found += [f"{folder.name}: {words}"] if str(directory) in words else []
    return found


def ended(pid: int) -> bool:
    """Whether a process ends soon."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([pidfd], [], [], PATIENCE_S)[0])
    finally:
        os.close(pidfd)


def test_it_serves_what_a_file_says_through_all_verbs(state: Path, file: Callable[..., str]) -> None:
    with up(state, "-f", file(loud="shout")) as platform:
        said = platform.until("ready")
        assert (said["functions"], said["functions_ready"]) == (1, 1)
        assert platform.run("invoke", "loud", "-d", "hello").stdout == b"HELLO"
        assert platform.run("invoke", "loud", input=b"\xffabc").stdout == b"\xffABC"
        assert b"loud  1/1" in platform.run("ls").stdout
        assert b" asked\n" in platform.run("logs", "loud").stdout

        deployed = platform.run("deploy", "-f", file(loud="shout", second="shout"))
        assert (deployed.returncode, deployed.stderr) == (0, b"")
        assert deployed.stdout == b"loud ready (1/1)\nsecond ready (1/1)\n"
        assert platform.run("scale", "second", "2").stdout == b"second ready (2/2)\n"
        many = platform.run("scale", "second", "99")
        assert many.returncode == 2
        assert b"replicas" in many.stderr

        pid = platform.instance("loud")["pid"]
        assert platform.run("rm", "loud").stdout == b"removed loud\n"
        assert platform.run("invoke", "loud", "-d", "x").stderr == b"error: function 'loud' does not exist\n"
        assert ended(pid)
        assert platform.run("scale", "second", "0").returncode == 0
        assert b"0/0" in platform.run("ls").stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_in_order_and_leaves_nothing(state: Path, file: Callable[..., str], number: signal.Signals) -> None:
    with up(state, "-f", file(loud="shout", slow="slow")) as platform:
        platform.until("ready")
        pids = [platform.instance(name)["pid"] for name in ("loud", "slow")]
        environment = {**os.environ, "FASTGSHARE_GATEWAY": platform.url}
        command = [*FASTGSHARE, "invoke", "slow", "-d", ""]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as caller:
            while b"begun" not in platform.run("logs", "slow").stdout:
                pass
            assert platform.end(number) == 0
            assert caller.communicate(timeout=PATIENCE_S)[0] == b"done"
        assert all(ended(pid) for pid in pids)
        assert left(platform.directory) == []
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", int(platform.url.rpartition(":")[2])), timeout=5).close()


def test_a_second_ctrl_c_does_not_wait_for_requests(state: Path, file: Callable[..., str]) -> None:
    with up(state, "-f", file(stuck="stuck")) as platform:
        platform.until("ready")
        command = [*FASTGSHARE, "invoke", "stuck", "-d", "", "--gateway", platform.url]
        with subprocess.Popen(command, stderr=subprocess.PIPE) as caller:
            while b"begun" not in platform.run("logs", "stuck").stdout:
                pass
            platform.process.send_signal(signal.SIGINT)
            platform.until("ending")
            assert platform.end() == 0
            assert caller.communicate(timeout=PATIENCE_S)[1].startswith(b"error: ")
        assert left(platform.directory) == []


def test_it_ends_while_an_instance_is_still_starting(state: Path, file: Callable[..., str]) -> None:
    with up(state, "-f", file(sleeper="Sleeper")) as platform:
        while b"falling asleep" not in platform.run("logs", "sleeper").stdout:
            pass
        pid = platform.instance("sleeper")["pid"]
        assert platform.end() == 0
        assert ended(pid)
        assert left(platform.directory) == []


def test_it_survives_the_deaths_of_an_instance_the_daemon_and_itself(state: Path, file: Callable[..., str]) -> None:
    with up(state, "-f", file(loud="shout")) as platform:
        platform.until("ready")
        first = platform.instance("loud")["pid"]
        os.kill(first, signal.SIGKILL)
        failed = platform.until("failed")
        assert (failed["function"], "SIGKILL" in failed["reason"]) == ("loud", True)
        assert platform.run("invoke", "loud", "-d", "a").stdout == b"A"
        assert platform.instance("loud")["pid"] != first

        (daemon,) = [int(line.split(":")[0]) for line in left(state) if "manager.daemon" in line]
        os.kill(daemon, signal.SIGKILL)
        assert platform.run("invoke", "loud", "-d", "b").stdout == b"B"
        assert platform.run("deploy", "-f", file(second="shout")).returncode == 0
        assert platform.run("invoke", "second", "-d", "c").stdout == b"C"

        pids = [platform.instance(name)["pid"] for name in ("loud", "second")]
        platform.end(signal.SIGKILL)
        assert all(ended(pid) for pid in pids)

    with up(state) as platform:
        said = platform.until("ready")
        assert (said["functions"], said["functions_ready"]) == (2, 2)
        assert platform.run("invoke", "second", "-d", "d").stdout == b"D"
        assert b"asked" in platform.run("logs", "second").stdout
        assert platform.end() == 0


def test_one_function_at_fault_does_not_keep_the_others(state: Path, file: Callable[..., str]) -> None:
    path = file(loud="shout", broken="none_such")
    with up(state, "-f", path) as platform:
        said = platform.until("ready")
        assert (said["functions"], said["functions_ready"]) == (2, 1)
        problem = next(e["problem"] for e in platform.events if e.get("name") == "broken")
        assert "none_such" in problem
        assert platform.run("invoke", "loud", "-d", "x").stdout == b"X"
        deployed = platform.run("deploy", "-f", path)
        assert (deployed.returncode, deployed.stdout) == (1, b"loud ready (1/1)\n")
        assert {line.split(b":")[1] for line in deployed.stderr.splitlines()} == {b" broken"}


def fails(directory: Path, *arguments: str) -> tuple[int, str]:
    """Exit status and the one line of an `up` that does not come up."""
    with starting(directory, *arguments) as process:
        out, err = process.communicate(timeout=PATIENCE_S)
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return process.returncode, err


def test_what_keeps_it_from_starting_is_one_clear_error(tmp_path: Path, file: Callable[..., str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, said = fails(tmp_path / "a", "--listen", f"127.0.0.1:{port}")
        assert (status, f"127.0.0.1:{port}" in said, "listens there already" in said) == (2, True, True)
    assert left(tmp_path / "a") == []

    path = file(loud="shout")
    Path(path).write_text(Path(path).read_text().replace("request", "reqest"))
    status, said = fails(tmp_path / "b", "-f", path)
    assert (status, "nearest: request" in said) == (2, True)

    for right, wrong in (("handler.py:", "gone.py:"), ("sm: ", "sm: 0.")):
        path = file(loud="shout")
        Path(path).write_text(Path(path).read_text().replace(right, wrong))
        status, said = fails(tmp_path / "b", "-f", path)
        assert (status, path in said, " of loud: " in said) == (2, True, True)
    assert not (tmp_path / "b").exists()

    status, said = fails(tmp_path / ("long" * 30))
    assert (status, "a directory whose path has at most" in said) == (2, True)

    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "functions.sqlite").write_bytes(b"not a database " * 100)
    status, said = fails(tmp_path / "c")
    assert (status, "it is not a database" in said) == (1, True)
    assert left(tmp_path / "c") == []


@pytest.mark.parametrize("address", ["8080", "127.0.0.1:", ":80", "127.0.0.1:99999", "127.0.0.1:-1", "no host:80:x"])
def test_an_address_that_is_none_is_asked_wrongly(tmp_path: Path, address: str) -> None:
    status, said = fails(tmp_path, "--listen", address)
    assert (status, "HOST:PORT" in said) == (2, True)


def test_two_on_one_state_directory_are_refused_and_the_first_goes_on(state: Path) -> None:
    with up(state) as platform:
        platform.until("ready")
        status, said = fails(state)
        assert status == 1
        assert f"in use by another platform (process {platform.process.pid})" in said
        assert platform.run("ls").returncode == 0


def test_ctrl_c_ends_following_logs_without_a_word(state: Path, file: Callable[..., str]) -> None:
    with up(state, "-f", file(loud="shout")) as platform:
        platform.until("ready")
        command = [*FASTGSHARE, "logs", "loud", "-f", "--gateway", platform.url]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as follower:
            assert follower.stdout is not None
            while "ready" not in follower.stdout.readline():
                pass
            platform.run("invoke", "loud", "-d", "x")
            while "asked" not in follower.stdout.readline():
                pass
            follower.send_signal(signal.SIGINT)
            assert follower.communicate(timeout=PATIENCE_S)[1].strip() == ""
            assert follower.returncode == 0


def test_several_devices_are_named_with_what_divides_them(state: Path) -> None:
    devices = [argument for name in ("standin:sms=8", "standin:sms=8", "cpu") for argument in ("--device", name)]
    with up(state, *devices) as platform:
        first, second, cpu = platform.events[-1]["devices"]
        assert [device["id"] for device in (first, second, cpu)] == ["standin:sms=8", "standin:sms=8#2", "cpu"]
        assert (first["partitioner"], first["guarantee"], first["sm_count"]) == ("mps", "cap", 8)
        assert "partitioner" not in cpu
        assert platform.end() == 0
        assert left(platform.directory) == []
    with up(state, "--partitioner", "none", *devices) as platform:
        assert platform.events[-1]["devices"][0]["partitioner"] == "none"


def test_a_share_is_checked_against_what_divides_the_device(tmp_path: Path, file: Callable[..., str]) -> None:
    path = file(loud="shout")
    Path(path).write_text(re.sub("sm: [0-9.]+", "sm: 40", Path(path).read_text()))
    status, said = fails(tmp_path / "a", "-f", path, "--device", "standin", "--partitioner", "none")
    assert (status, " of loud: " in said, "100: nothing divides the SMs of device standin" in said) == (2, True, True)


@pytest.mark.parametrize("name", ["cpu", "cuda:0"])
def test_a_device_is_had_once(tmp_path: Path, name: str) -> None:
    status, said = fails(tmp_path, "--device", name, "--device", "cpu", "--device", name)
    assert (status, said.startswith("error: device")) == (2, True)
