"""The stand-in's MPS, a test double: control daemons, servers, who they serve, faults, ends of all kinds."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
from tests.standin.control_daemons import Mps, control_program, eventually, is_over, lives, mps_in, with_server
from tests.standin.programs import environment, on_driver
from tests.standin.test_faults import BOOM, beside, the_rest

WAITS = BOOM + 'print("there", flush=True); input(); launch(works); print(call("cuCtxSynchronize"))'


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
        eventually(lambda: not lives(server))
        assert the_rest(process) == ["MPS_RPC_FAILURE"]
    with mps_in(mps.directory) as again:
        assert again.say("get_server_list") == []


def test_quit_waits_for_processes_or_for_so_long(mps: Mps, tmp_path: Path) -> None:
    with beside(WAITS, settings(tmp_path), mps.env) as process:
        assert mps.say("quit", "start_server -uid 7") == ["the control daemon is about to end"]
        assert on_driver('print(call("cuInit", 0))', settings(tmp_path), mps.env) == ["MPS_SERVER_NOT_READY"]
        assert mps.process.poll() is None
        mps.say("quit -t 0")
        assert mps.process.wait(20) == 0
        assert the_rest(process) == ["MPS_RPC_FAILURE"]
    assert not (mps.directory / "control").exists() and not (mps.directory / "nvidia-cuda-mps-control.pid").exists()


def test_a_daemon_that_nobody_needs_quits_at_once_and_by_a_signal(tmp_path: Path) -> None:
    for by_signal in (False, True):
        with mps_in(tmp_path / "mps") as mps:
            mps.say("start_server -uid 7")
            server = mps.server()
            if by_signal:
                mps.process.terminate()
            else:
                mps.say("quit")
            assert mps.process.wait(20) == 0
            assert not lives(server) and not (mps.directory / "control").exists()


def test_a_process_is_ended_and_the_others_go_on(mps: Mps, tmp_path: Path) -> None:
    with beside(WAITS, settings(tmp_path), mps.env) as one, beside(WAITS, settings(tmp_path), mps.env) as other:
        assert mps.say(f"terminate_client {mps.server()} {one.pid}") == []
        assert mps.say(f"get_client_list {mps.server()}") == [str(other.pid)]
        assert the_rest(one) == ["MPS_CLIENT_TERMINATED"]
        assert the_rest(other) == ["SUCCESS"]


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("terminate_client {server} {process}", "MPS_CLIENT_TERMINATED"),
        ("shutdown_server {server} -f", "MPS_RPC_FAILURE"),
    ],
)
def test_who_waits_is_told_that_it_is_served_no_more_and_its_work_is_gone(
    tmp_path: Path, command: str, answer: str
) -> None:
    waits = 'start(); alloc(1 << 30); spin(function(b"spin"), 1e9); print("there", flush=True)\n'
    waits += 'print(call("cuCtxSynchronize")); input()'
    looks = "start(); print(taken() >> 30, round(timed_ms(function(b'spin'), 50)))"
    with ExitStack() as stack:
        one, other = (stack.enter_context(mps_in(tmp_path / name)) for name in ("one", "other"))
        process = stack.enter_context(beside(waits, settings(tmp_path), one.env))
        one.say(command.format(server=one.server(), process=process.pid))
        assert process.stdout is not None and process.stdout.readline() == f"{answer}\n"
        assert on_driver(looks, settings(tmp_path), other.env) == ["0 50"]


def test_a_server_is_shut_down_when_its_processes_have_gone_or_at_once(mps: Mps, tmp_path: Path) -> None:
    with beside(WAITS, settings(tmp_path), mps.env) as process:
        server = mps.server()
        mps.say(f"shutdown_server {server}")
        assert mps.server() == server
        assert the_rest(process) == ["SUCCESS"]
    eventually(lambda: mps.say("get_server_list") == [])
    with beside(WAITS, settings(tmp_path), mps.env) as process:
        server = mps.server()
        mps.say(f"shutdown_server {server} -f")
        assert mps.say("get_server_list") == [] and not lives(server)
        assert the_rest(process) == ["MPS_RPC_FAILURE"]


def test_a_killed_process_is_missed_even_if_its_child_lives(mps: Mps, tmp_path: Path) -> None:
    forks = """
start()
import os, sys
if (child := os.fork()) == 0:
    sys.stdin.readline()
    os._exit(0)
print("there", flush=True)
os.waitpid(child, 0)
"""
    with beside(forks, settings(tmp_path), mps.env) as process:
        assert mps.say(f"get_client_list {mps.server()}") == [str(process.pid)]
        process.kill()
        eventually(lambda: mps.say(f"get_client_list {mps.server()}") == [])


def test_a_fault_is_over_when_all_who_were_there_have_been_killed(mps: Mps, tmp_path: Path) -> None:
    boom = BOOM + 'launch(boom); call("cuCtxSynchronize"); print("there", flush=True); input()'
    with beside(WAITS, settings(tmp_path), mps.env) as friend, beside(boom, settings(tmp_path), mps.env) as culprit:
        server = mps.server()
        assert mps.status() == "FAULT"
        culprit.kill()
        eventually(lambda: mps.say(f"get_client_list {server}") == [str(friend.pid)])
        assert mps.status() == "FAULT"
        friend.kill()
        eventually(lambda: mps.status() == "ACTIVE")
        assert mps.server() == server


def test_who_was_refused_may_try_again(mps: Mps, tmp_path: Path) -> None:
    boom = BOOM + 'launch(boom); call("cuCtxSynchronize"); print("there", flush=True); input()'
    again = 'print(call("cuInit", 0), flush=True); input(); start(); print(call("cuInit", 0))'
    words = [sys.executable, "-c", f"from tests.standin.calls import *\n{again}"]
    env = environment(settings(tmp_path), mps.env)
    with ExitStack() as stack:
        culprit = stack.enter_context(beside(boom, settings(tmp_path), mps.env))
        refused = stack.enter_context(
            subprocess.Popen(words, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        )
        assert refused.stdout is not None and refused.stdout.readline() == "MPS_SERVER_NOT_READY\n"
        assert the_rest(culprit) == []
        eventually(lambda: mps.status() == "ACTIVE")
        assert the_rest(refused) == ["SUCCESS"]


def test_processes_of_a_server_run_at_once_and_those_of_two_take_turns(tmp_path: Path) -> None:
    endless = 'start(); spin(function(b"spin"), 1e9); print("there", flush=True); input()'
    takes = 'start(); print(timed_ms(function(b"spin"), 50))'
    with ExitStack() as stack:
        one, other = (stack.enter_context(mps_in(tmp_path / name)) for name in ("one", "other"))
        stack.enter_context(beside(endless, settings(tmp_path), one.env))
        together, apart = (float(on_driver(takes, settings(tmp_path), mps.env)[0]) for mps in (one, other))
    assert together == pytest.approx(50, rel=0.02)
    assert apart == pytest.approx(100, rel=0.1)


def test_many_processes_come_at_once(mps: Mps, tmp_path: Path) -> None:
    forks = """
import os
start_, go = os.pipe()
children = []
for _ in range(30):
    if (child := os.fork()) == 0:
        os.close(go)
        os.read(start_, 1)
        os._exit(cuda.cuInit(0))
    children.append(child)
os.close(go)
print([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children].count(0))
"""
    assert on_driver(forks, settings(tmp_path), mps.env) == ["30"]
    assert len(mps.say("get_server_list")) == 1 and mps.status() == "ACTIVE"
    eventually(lambda: mps.say(f"get_client_list {mps.server()}") == [])


def test_a_server_has_room_for_sixty(mps: Mps) -> None:
    at = str(mps.directory / "control")
    with ExitStack() as stack:
        doors = [stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)) for _ in range(61)]
        for door in doors:
            door.connect(at)
            door.send(b"join")
        answers = [door.recv(100).split()[0] for door in doors]
        assert answers == [b"in"] * 60 + [b"out"]


@pytest.mark.parametrize("garbage", [b"\0garbage", b"join ", b"JOIN", b"do", b"\xff" * 60_000, b"x" * 100_000])
def test_garbage_costs_its_sender_the_connection_and_nobody_else_anything(mps: Mps, garbage: bytes) -> None:
    with ExitStack() as stack:
        good, bad = (stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)) for _ in range(2))
        for door in (good, bad):
            door.connect(str(mps.directory / "control"))
        good.send(b"join")
        assert good.recv(100).startswith(b"in ")
        bad.send(garbage)
        assert bad.recv(100) == b""
        assert mps.say(f"get_client_list {mps.server()}") == [str(os.getpid())]


def test_who_joins_twice_or_fails_without_having_joined_changes_nothing(mps: Mps) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as door:
        door.connect(str(mps.directory / "control"))
        door.send(b"fault")
        door.send(b"join")
        door.send(b"join")
        assert door.recv(100).startswith(b"in ")
        assert mps.say(f"get_client_list {mps.server()}") == [str(os.getpid())]
        assert mps.status() == "ACTIVE"


def test_connections_for_nothing_leave_room_for_others(mps: Mps) -> None:
    resource.prlimit(mps.process.pid, resource.RLIMIT_NOFILE, (20, 20))
    with ExitStack() as stack:
        for _ in range(40):
            door = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
            door.connect(str(mps.directory / "control"))
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
        ("quit -t -1", "quit [-t SECONDS]"),
        ("quit now", "quit [-t SECONDS]"),
        ("get_server_status 1e300", "no MPS server with PID 1e300"),
        ("get_client_list -1", "no MPS server with PID -1"),
        ("get_device_client_list 1", "no MPS server with PID 1"),
        ("set_active_thread_percentage 1 50", "no MPS server with PID 1"),
        ("get_active_thread_percentage 1", "no MPS server with PID 1"),
        ("set_default_active_thread_percentage nan", "percentage: nan is not above 0 up to 100"),
        ("set_default_device_pinned_mem_limit 1 2G", "device: 1 is not 0"),
        ("set_default_device_pinned_mem_limit 0 2T", "limit: 2T is not a number of 1 to 9 digits with M or G"),
        ("set_device_pinned_mem_limit 1 0 2G", "no MPS server with PID 1"),
        ("get_default_device_pinned_mem_limit 0", "none"),
        ("shutdown_server 1 -x", "shutdown_server PID [-f]"),
        ("ps -x", "ps [-p PID]"),
    ],
)
def test_commands_answer_in_a_sentence(mps: Mps, command: str, answer: str) -> None:
    assert mps.say(command)[0] == answer


def test_an_unknown_command_is_told_the_known_ones(mps: Mps) -> None:
    assert mps.say("dance")[0].startswith("unknown command dance; the stand-in's MPS, a test double, knows: get_")


def test_limits_hold_for_servers_and_processes_that_are_yet_to_come(tmp_path: Path) -> None:
    count = "start(); print(new(c_int, 'cuDeviceGetAttribute', 16, 0))"
    with mps_in(tmp_path / "mps", {"CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "50"}) as mps:
        assert mps.say("get_default_active_thread_percentage") == ["50.0"]
        assert on_driver(count, settings(tmp_path), mps.env) == ["66"]
        server = mps.server()
        mps.say("set_default_active_thread_percentage 25")
        assert mps.say(f"get_active_thread_percentage {server}") == ["50.0"]
        assert on_driver(count, settings(tmp_path), mps.env) == ["66"]
        mps.say(f"shutdown_server {server}")
        assert on_driver(count, settings(tmp_path), mps.env) == ["33"]


def test_more_memory_than_the_limit_is_not_to_be_had(mps: Mps, tmp_path: Path) -> None:
    takes = """
start()
print(*(call("cuMemAlloc_v2", byref(c_uint64()), c_size_t(mib << 20)) for mib in (96, 48, 32)))
"""
    assert mps.say("set_default_device_pinned_mem_limit 0 128M", "get_default_device_pinned_mem_limit 0") == ["128M"]
    assert on_driver(takes, settings(tmp_path), mps.env) == ["SUCCESS OUT_OF_MEMORY SUCCESS"]
    server = mps.server()
    mps.say(f"set_device_pinned_mem_limit {server} 0 1G")
    assert mps.say(f"get_device_pinned_mem_limit {server} 0") == ["1G"]
    assert on_driver(takes, settings(tmp_path), mps.env) == ["SUCCESS SUCCESS SUCCESS"]
    less = {"CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": "0=100M"}
    assert on_driver(takes, settings(tmp_path), mps.env | less) == ["SUCCESS OUT_OF_MEMORY OUT_OF_MEMORY"]


def test_who_comes_before_the_server_is_ready_waits_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    program = with_server(tmp_path / "bin", f"read word < {tmp_path / 'gate'}; printf R; exec cat")
    with mps_in(tmp_path / "mps", program=program) as mps, ThreadPoolExecutor(1) as beside_us:
        comes = beside_us.submit(on_driver, 'print(call("cuInit", 0))', settings(tmp_path), mps.env)
        eventually(lambda: mps.say("get_server_list") != [])
        assert mps.status() == "INITIALIZING"
        assert mps.say(f"get_client_list {mps.server()}") == []
        (tmp_path / "gate").write_text("go\n")
        assert comes.result(20) == ["SUCCESS"]
        assert mps.status() == "ACTIVE"


@pytest.mark.parametrize("script", ["exit 1", "printf R; exit 1"])
def test_a_server_that_does_not_stay_fails_who_came_for_it(tmp_path: Path, script: str) -> None:
    with mps_in(tmp_path / "mps", program=with_server(tmp_path / "bin", script)) as mps:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as door:
            door.connect(str(mps.directory / "control"))
            door.send(b"join")
            while door.recv(100):
                continue
        assert mps.say("get_server_list") == []


def test_logs_say_what_it_is_and_who_came(mps: Mps, tmp_path: Path) -> None:
    with beside(WAITS, settings(tmp_path), mps.env) as process:
        server = mps.server()
        assert the_rest(process) == ["SUCCESS"]
    control, log = (mps.directory / "log" / f"{name}.log" for name in ("control", "server"))
    eventually(lambda: f"Server {server:5}] process {process.pid} has gone\n" in log.read_text())
    assert "the stand-in's MPS, a test double" in control.read_text().splitlines()[0]
    assert "the stand-in's MPS, a test double" in log.read_text().splitlines()[0]
    assert f"server {server} is ready" in control.read_text()


def test_in_the_background_it_answers_at_once_and_what_it_left_is_taken_over(tmp_path: Path) -> None:
    env = {"CUDA_MPS_PIPE_DIRECTORY": str(tmp_path / "deep" / "pipes"), "CUDA_MPS_LOG_DIRECTORY": str(tmp_path / "log")}
    written = tmp_path / "deep" / "pipes" / "nvidia-cuda-mps-control.pid"
    for end in (signal.SIGKILL, signal.SIGTERM):
        assert control_program(("-d",), env).returncode == 0
        pid = int(written.read_text())
        try:
            assert control_program((), env, "get_server_list\n").returncode == 0
        finally:
            os.kill(pid, end)
        eventually(partial(is_over, pid))


def test_of_several_that_start_at_once_one_serves(tmp_path: Path) -> None:
    env = {"CUDA_MPS_PIPE_DIRECTORY": str(tmp_path), "CUDA_MPS_LOG_DIRECTORY": str(tmp_path)}
    with ThreadPoolExecutor(8) as pool:
        ended = sorted(done.returncode for done in pool.map(lambda _: control_program(("-d",), env), range(8)))
    assert control_program((), env, "quit\n").returncode == 0
    assert ended == [0] + [1] * 7


def test_a_second_daemon_in_a_directory_refuses(mps: Mps) -> None:
    done = control_program(("-d",), mps.env)
    assert done.returncode == 1 and "already running" in done.stderr


def test_where_something_else_listens_it_refuses(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as nvidias:
        nvidias.bind(str(tmp_path / "control"))
        nvidias.listen()
        assert control_program(("-f",), {"CUDA_MPS_PIPE_DIRECTORY": str(tmp_path)}).returncode == 1
    assert (tmp_path / "control").exists()


@pytest.mark.parametrize(
    ("word", "said"),
    [("-S", "static partitioning is not supported"), ("-x", "usage:"), ("get_server_list", "usage:")],
)
def test_what_it_does_not_have_it_says(tmp_path: Path, word: str, said: str) -> None:
    done = control_program((word,), {"CUDA_MPS_PIPE_DIRECTORY": str(tmp_path)})
    assert done.returncode == 1 and said in done.stderr and "a test double" in done.stderr


def test_commands_need_a_daemon(tmp_path: Path) -> None:
    done = control_program((), {"CUDA_MPS_PIPE_DIRECTORY": str(tmp_path)}, "ps\n")
    assert done.returncode == 1 and "Cannot find MPS control daemon" in done.stderr
