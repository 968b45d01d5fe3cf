"""The stand-in's MPS, a test double: control daemons, servers, who they serve, faults, ends of all kinds."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.standin.programs import environment, on_driver
from tests.standin.test_faults import BOOM, beside, the_rest

from fastgshare.native import library

CONTROL = library("standin/bin/nvidia-cuda-mps-control")
WAITS = BOOM + 'print("there", flush=True); input(); launch(works); print(call("cuCtxSynchronize"))'


@dataclass
class Mps:
    """A control daemon in a pipe directory of its own."""

    directory: Path
    process: subprocess.Popen[bytes]

    @property
    def env(self) -> dict[str, str]:
        return {"CUDA_MPS_PIPE_DIRECTORY": str(self.directory), "CUDA_MPS_LOG_DIRECTORY": str(self.directory / "log")}

    def say(self, *lines: str) -> list[str]:
        """Give commands; what it answers."""
        text = "".join(f"{line}\n" for line in lines)
        done = _control((), self.env, text)
        assert done.returncode == 0, done.stderr
        return done.stdout.split("\n")[:-1]

    def server(self) -> int:
        (pid,) = [line for line in self.say("get_server_list") if line]
        return int(pid)

    def status(self) -> str:
        return self.say(f"get_server_status {self.server()}")[0]


def _control(words: tuple[str, ...], env: dict[str, str], text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [CONTROL, *words], env=environment("", env), input=text, capture_output=True, text=True, timeout=20, check=False
    )


def eventually(holds: Callable[[], bool]) -> None:
    """The bound only ends a test that has failed."""
    until = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < until, "did not happen"
        time.sleep(0.01)


@contextmanager
def mps_in(directory: Path) -> Iterator[Mps]:
    directory.mkdir(exist_ok=True)
    env = environment("", {"CUDA_MPS_PIPE_DIRECTORY": str(directory), "CUDA_MPS_LOG_DIRECTORY": str(directory / "log")})
    with subprocess.Popen([CONTROL, "-f"], env=env) as process:
        try:
            eventually((directory / "nvidia-cuda-mps-control.pid").exists)
            yield Mps(directory, process)
        finally:
            process.kill()


@pytest.fixture
def mps(tmp_path: Path) -> Iterator[Mps]:
    with mps_in(tmp_path / "mps") as one:
        yield one


def settings(tmp_path: Path) -> str:
    return f"state={tmp_path / 'device'},mps=real"


def test_the_first_process_brings_a_server(mps: Mps, tmp_path: Path) -> None:
    assert mps.say("get_server_list") == []
    with beside(WAITS, settings(tmp_path), mps.env) as process:
        server = mps.server()
        assert mps.say(f"get_server_status {server}")[0] == "ACTIVE"
        assert mps.say(f"get_client_list {server}")[0] == str(process.pid)
        assert str(process.pid) in mps.say("ps")[1] and str(process.pid) in mps.say("get_device_client_list")
        assert the_rest(process) == ["SUCCESS"]
    eventually(lambda: mps.say(f"get_client_list {server}") == [])
    assert mps.server() == server


def test_processes_see_the_sms_that_they_are_left(mps: Mps, tmp_path: Path) -> None:
    count = "start(); print(new(c_int, 'cuDeviceGetAttribute', 16, 0))"
    percent = {"CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "25"}
    assert on_driver(count, settings(tmp_path), mps.env) == ["132"]
    assert on_driver(count, settings(tmp_path), mps.env | percent) == ["33"]
    assert on_driver(count, settings(tmp_path), {"CUDA_MPS_PIPE_DIRECTORY": str(tmp_path)} | percent) == ["132"]
    mps.say(f"set_active_thread_percentage {mps.server()} 10")
    assert on_driver(count, settings(tmp_path), mps.env | percent) == ["14"]


def test_a_fault_stays_in_its_server_which_takes_nobody_in_until_all_have_gone(tmp_path: Path) -> None:
    with ExitStack() as stack:
        one, other = (stack.enter_context(mps_in(tmp_path / name)) for name in ("one", "other"))
        friend = stack.enter_context(beside(WAITS, settings(tmp_path), one.env))
        stranger = stack.enter_context(beside(WAITS, settings(tmp_path), other.env))
        server = one.server()
        boom = BOOM + 'launch(boom); print(call("cuCtxSynchronize"))'
        assert on_driver(boom, settings(tmp_path), one.env) == ["ILLEGAL_ADDRESS"]
        eventually(lambda: one.status() == "FAULT")
        assert on_driver('print(call("cuInit", 0))', settings(tmp_path), one.env) == ["MPS_SERVER_NOT_READY"]
        assert the_rest(stranger) == ["SUCCESS"]
        assert the_rest(friend) == ["LAUNCH_FAILED"]
        eventually(lambda: one.status() == "ACTIVE")
        assert one.server() == server and other.status() == "ACTIVE"
        works = BOOM + 'launch(works); print(call("cuCtxSynchronize"))'
        assert on_driver(works, settings(tmp_path), one.env) == ["SUCCESS"]


def test_processes_of_a_killed_server_are_told_and_the_next_has_another(mps: Mps, tmp_path: Path) -> None:
    with beside(WAITS, settings(tmp_path), mps.env) as process:
        server = mps.server()
        os.kill(server, signal.SIGKILL)
        eventually(lambda: mps.say("get_server_list") == [])
        assert the_rest(process) == ["MPS_RPC_FAILURE"]
    with beside(WAITS, settings(tmp_path), mps.env) as process:
        assert mps.server() != server
        assert the_rest(process) == ["SUCCESS"]


def test_a_killed_control_daemon_takes_its_servers_along_and_its_directory_can_be_had(mps: Mps, tmp_path: Path) -> None:
    with beside(WAITS, settings(tmp_path), mps.env) as process:
        server = mps.server()
        mps.process.kill()
        mps.process.wait()
        eventually(lambda: not _lives(server))
        assert the_rest(process) == ["MPS_RPC_FAILURE"]
    (mps.directory / "nvidia-cuda-mps-control.pid").unlink()
    with mps_in(mps.directory) as again:
        assert again.say("get_server_list") == []


def _lives(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    return False


def test_quit_waits_for_processes_or_for_so_long(mps: Mps, tmp_path: Path) -> None:
    with beside(WAITS, settings(tmp_path), mps.env) as process:
        mps.say("quit")
        assert mps.process.poll() is None
        mps.say("quit -t 0")
        assert mps.process.wait(20) == 0
        assert the_rest(process) == ["MPS_RPC_FAILURE"]
    assert not (mps.directory / "control").exists()


def test_a_server_is_shut_down_and_a_process_is_ended(mps: Mps, tmp_path: Path) -> None:
    with beside(WAITS, settings(tmp_path), mps.env) as process:
        assert mps.say(f"terminate_client {mps.server()} {process.pid}") == []
        assert the_rest(process) == ["MPS_RPC_FAILURE"]
    with beside(WAITS, settings(tmp_path), mps.env):
        server = mps.server()
        mps.say(f"shutdown_server {server} -f")
        assert mps.say("get_server_list") == [] and not _lives(server)


def test_many_come_at_once(mps: Mps) -> None:
    at = str(mps.directory / "control")
    with ExitStack() as stack:
        doors = [stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)) for _ in range(61)]
        for door in doors:
            door.connect(at)
            door.send(b"join")
        answers = [door.recv(100).split()[0] for door in doors]
        assert answers == [b"in"] * 60 + [b"out"]


def test_garbage_costs_its_sender_the_connection(mps: Mps) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as door:
        door.connect(str(mps.directory / "control"))
        door.send(b"\0garbage")
        assert door.recv(100) == b""
    assert mps.say("get_server_list") == []


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("get_server_status 1", "no MPS server with PID 1"),
        ("get_server_status", "no MPS server with PID (none given)"),
        ("set_default_active_thread_percentage 0", "percentage: 0 is not above 0 up to 100"),
        ("set_default_active_thread_percentage 30", "30.0"),
        ("start_server", "start_server -uid USER_ID"),
        ("terminate_client 1 2", "no process 2 of MPS server 1"),
        ("quit -t soon", "quit [-t SECONDS]"),
        ("set_default_device_pinned_mem_limit 0 2G", "2G"),
    ],
)
def test_commands_answer_in_a_sentence(mps: Mps, command: str, answer: str) -> None:
    assert mps.say(command)[0] == answer


def test_an_unknown_command_is_told_the_known_ones(mps: Mps) -> None:
    assert mps.say("dance")[0].startswith("unknown command dance; the stand-in's MPS, a test double, knows: get_")


def test_a_second_daemon_in_a_directory_refuses(mps: Mps) -> None:
    done = _control(("-d",), mps.env)
    assert done.returncode == 1 and "already running" in done.stderr


@pytest.mark.parametrize(("word", "said"), [("-S", "static partitioning is not supported"), ("-x", "usage:")])
def test_what_it_does_not_have_it_says(tmp_path: Path, word: str, said: str) -> None:
    done = _control((word,), {"CUDA_MPS_PIPE_DIRECTORY": str(tmp_path)})
    assert done.returncode == 1 and said in done.stderr and "a test double" in done.stderr


def test_commands_need_a_daemon(tmp_path: Path) -> None:
    done = _control((), {"CUDA_MPS_PIPE_DIRECTORY": str(tmp_path)}, "ps\n")
    assert done.returncode == 1 and "Cannot find MPS control daemon" in done.stderr
