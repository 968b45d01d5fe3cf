"""Programs on shares of the stand-in for a GPU, and what becomes of them when parts are killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.hosts import QUARTER, Host, eventually, running_host, state_of

from fastgshare.cluster.devices import find_device
from fastgshare.cluster.gpus import NoGpu, find_gpus, mps_runs
from fastgshare.cluster.homes import Home, runtime_directory
from fastgshare.cluster.launches import CannotRun, Launch, find_program
from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.errors import InvalidValue
from fastgshare.native import library
from fastgshare.spec.devices import parse_device
from fastgshare.state.errors import StateUnavailable

PROGRAM = (sys.executable, str(Path(__file__).with_name("device_program.py")))
MPS = Path(__file__).parents[1] / "manager" / "scripted_mps.py"
STANDIN = ("run", "--device", "standin", "--share")
OUT_OF_MEMORY = 2
NOT_PERMITTED = 800
ILLEGAL_ADDRESS = 700
LAUNCH_FAILED = 719
GIB = 2**30


@pytest.fixture
def host() -> Iterator[Host]:
    with running_host() as found:
        yield found


class Talk:
    """A device program on a share, to speak with."""

    def __init__(self, host: Host, *arguments: str) -> None:
        self.run = host.start(*arguments, *PROGRAM)
        assert self.hear() == "ready"

    def hear(self) -> Any:
        assert self.run.stdout is not None
        return json.loads(self.run.stdout.readline())

    def say(self, line: str) -> None:
        assert self.run.stdin is not None
        self.run.stdin.write(f"{line}\n")
        self.run.stdin.flush()

    def ask(self, line: str) -> Any:
        self.say(line)
        return self.hear()

    def end(self) -> tuple[int, str]:
        """The exit status and what was said on stderr."""
        error = self.run.communicate()[1]
        return self.run.returncode, error


def test_a_program_sees_and_gets_its_share(host: Host) -> None:
    program = Talk(host, *STANDIN, "sm=30,request=0.3,limit=0.8,mem=1GiB", "--name", "job")
    seen = program.ask("info")
    assert (seen["name"], seen["total"]) == ("Stand-in GPU (not real)", GIB)
    assert (seen["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"], seen["CUDA_VISIBLE_DEVICES"]) == ("30", None)
    assert program.ask(f"alloc {GIB // 2}") == 0
    assert program.ask(f"alloc {GIB}") == OUT_OF_MEMORY
    assert program.ask("spin 1 20") == 0
    (found,) = host.programs().values()
    assert (found["pid"], found["mem_used_bytes"], found["mem_peak_bytes"]) == (seen["pid"], GIB // 2, GIB // 2)
    assert found["received_s"] > 0
    assert program.end() == (0, "")
    assert not (host.directory / "fastgshare" / "standin" / "standin.state").exists()


def test_programs_lie_beside_each_other_until_it_is_full(host: Host) -> None:
    first = Talk(host, *STANDIN, "sm=60,request=0.5", "--name", "first")
    second = Talk(host, *STANDIN, "sm=60,request=0.5", "--name", "second")
    first.say("spinning")
    second.say("spinning")
    places = [program["place"] for program in host.programs().values()]
    assert places[0]["quota_offset"] != places[1]["quota_offset"]
    eventually(lambda: all(p["received_s"] > 0 for p in host.programs().values()))
    found = host.verb(*STANDIN, "sm=60,request=0.1", "true")
    assert found.returncode == 1
    assert "cannot run at the same time" in found.stderr
    assert "first (process" in found.stderr
    assert "second (process" in found.stderr
    other = host.verb("run", "--device", "standin:sms=10", "--share", "sm=100,request=1", "echo", "elsewhere")
    assert other.stdout == "elsewhere\n"
    assert [program.ask("spin 1 1") for program in (first, second)] == [0, 0]
    assert [program.end()[0] for program in (first, second)] == [0, 0]


def test_a_share_changes_while_the_program_runs(host: Host) -> None:
    program = Talk(host, *STANDIN, "sm=50,request=0.3,mem=1GiB", "--name", "job")
    program.say("spinning")
    changed = host.verb("resize", "job", "--share", "request=0.6,limit=0.9,mem=3GiB", "--json")
    assert json.loads(changed.stdout)["share"]["mem_bytes"] == 3 * GIB
    eventually(lambda: program.ask("info")["total"] == 3 * GIB)
    assert program.ask(f"alloc {2 * GIB}") == 0
    assert program.end()[0] == 0


def test_all_processes_of_a_program_share_its_memory(host: Host, tmp_path: Path) -> None:
    pipe, said, program = tmp_path / "pipe", tmp_path / "said", " ".join(PROGRAM)
    os.mkfifo(pipe)
    script = f"""
        {program} < {pipe} > {said} & exec 3> {pipe}; echo alloc {GIB} >&3
        while ! grep -q '^0$' {said}; do sleep 0.02; done
        echo alloc 512 | {program}
        exec 3>&-; wait
        echo alloc 512 | {program}
    """
    found = host.verb(*STANDIN, "sm=50,request=0.5,mem=1GiB", "--", "sh", "-c", script)
    assert found.stdout.split() == ['"ready"', str(OUT_OF_MEMORY), '"ready"', "0"]


def test_what_a_program_leaves_behind_is_not_on_the_device(host: Host, tmp_path: Path) -> None:
    pipe, said = tmp_path / "pipe", tmp_path / "said"
    os.mkfifo(pipe)
    script = (
        f"{' '.join(PROGRAM)} < {pipe} > {said} & exec 3> {pipe}; while ! grep -q ready {said}; do sleep 0.02; done"
    )
    assert host.verb(
        *STANDIN, "sm=50,request=0.5", "--", "sh", "-c", f"{script}; (sleep 1; echo spin 1 1 >&3) &"
    ).stderr
    eventually(lambda: len(said.read_text().split()) == 2)
    assert said.read_text().split()[1] == str(NOT_PERMITTED)


def test_a_killed_daemon_is_replaced_and_knows_the_programs(host: Host) -> None:
    programs = [Talk(host, *STANDIN, "sm=50,request=0.5", "--name", name) for name in ("one", "two")]
    pids = {program.ask("info")["pid"] for program in programs}
    programs[0].say("spinning")
    host.kill_daemon("standin")
    eventually(lambda: set(host.admitted("standin").values()) == pids)
    assert [program.ask("spin 1 10") for program in programs] == [0, 0]
    assert [program.end()[0] for program in programs] == [0, 0]
    eventually(lambda: host.admitted("standin") == {})


def test_a_program_whose_run_is_killed_goes_on_with_its_share(host: Host) -> None:
    program = Talk(host, *STANDIN, "sm=50,request=0.5,mem=1GiB", "--name", "orphan")
    pid = program.ask("info")["pid"]
    program.run.kill()
    program.run.wait()
    assert program.ask("spin 1 10") == 0
    assert program.ask(f"alloc {2 * GIB}") == OUT_OF_MEMORY
    assert host.programs()["orphan"]["pid"] == pid
    host.kill_daemon("standin")
    other = host.verb(*STANDIN, "sm=50,request=0.5", "--name", "other", "echo", "here")
    assert (other.stdout, other.stderr) == ("here\n", "")
    eventually(lambda: host.admitted("standin") == {"orphan": pid})
    assert program.ask("spin 1 10") == 0
    program.end()
    eventually(lambda: host.programs() == {})


def test_a_program_that_hangs_is_ended_and_that_is_said(host: Host) -> None:
    program = Talk(host, *STANDIN, "sm=100,request=0.5", "--name", "hangs")
    waiting = Talk(host, *STANDIN, "sm=100,request=0.5", "--name", "waits")
    pid = program.ask("info")["pid"]
    program.say("spin 100000 1")
    waiting.say("spinning")
    status, error = program.end()
    assert status == 128 + signal.SIGKILL
    assert "the node daemon ended hangs: " in error
    assert state_of(pid) == ""
    assert waiting.ask("spin 1 1") == 0


# --- parts -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def with_standin_driver(tmp_path: Path) -> dict[str, str]:
    """An environment in which CUDA's driver is the stand-in's, without MPS."""
    folder = library("standin/libcuda.so.1").parent
    pipes = {"CUDA_MPS_PIPE_DIRECTORY": str(tmp_path / "pipes")}
    return {**os.environ, "LD_LIBRARY_PATH": str(folder), "FASTGSHARE_STANDIN": f"state={tmp_path}/state", **pipes}


def test_gpus_are_those_of_the_driver(with_standin_driver: dict[str, str]) -> None:
    (gpu,) = find_gpus(with_standin_driver)
    assert (gpu.index, gpu.name, gpu.sm_count, gpu.mem_bytes) == (0, "Stand-in GPU (not real)", 132, 80 * GIB)
    assert find_device(None, with_standin_driver) == Device(gpu.uuid, DeviceKind.GPU, 132, 80 * GIB)
    with pytest.raises(InvalidValue, match="cuda:0 to cuda:0"):
        find_device(parse_device("cuda:1"), with_standin_driver)
    with pytest.raises(NoGpu, match="status 100"):
        find_gpus({**with_standin_driver, "CUDA_VISIBLE_DEVICES": ""})


def test_without_mps_a_gpu_is_had_in_turns(host: Host, with_standin_driver: dict[str, str], tmp_path: Path) -> None:
    host.env |= with_standin_driver
    (gpu,) = find_gpus(with_standin_driver)
    program = Talk(host, "run", "--share", "sm=30,request=0.3,mem=1GiB", "--name", "alone")
    seen = program.ask("info")
    assert (seen["CUDA_VISIBLE_DEVICES"], seen["total"]) == (gpu.uuid, GIB)
    assert host.programs()["alone"]["device"] == gpu.uuid
    assert host.programs()["alone"]["place"]["sm"] == 100
    assert "SMs are not enforced, programs take turns on all of them" in program.end()[1]
    assert host.verb("run", "--partitioner", "mps", "--share", "sm=30,request=0.3", "true").returncode == 2


@pytest.fixture
def with_mps(host: Host, with_standin_driver: dict[str, str], tmp_path: Path) -> str:
    """The device of a host on which the stand-in's driver is CUDA's, and there is a control program of MPS."""
    program = tmp_path / "bin" / "nvidia-cuda-mps-control"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable} -S\n{MPS.read_text()}")
    program.chmod(0o755)
    (tmp_path / "script").write_text("")
    path = f"{program.parent}:{os.environ['PATH']}"
    host.env |= {**with_standin_driver, "PATH": path, "SCRIPTED_MPS": str(tmp_path / "script")}
    return find_gpus(with_standin_driver)[0].uuid


def test_the_first_of_a_trust_group_starts_its_mps_and_the_last_ends_it(host: Host, with_mps: str) -> None:
    first = Talk(host, "run", "--share", "sm=30,request=0.3", "--name", "first")
    seen = first.ask("info")
    assert (seen["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"], seen["CUDA_VISIBLE_DEVICES"]) == ("30", with_mps)
    assert host.programs()["first"]["place"]["sm"] == 30
    assert len(host.mps()) == 2  # control daemon and server
    second = Talk(host, "run", "--share", "sm=30,request=0.3", "--name", "second")
    assert len(host.mps()) == 2
    other = Talk(host, "run", "--share", "sm=30,request=0.3", "--name", "other", "--group", "other")
    assert len(host.mps()) == 4
    assert first.end() == (0, "")
    assert len(host.mps()) == 4
    assert second.end() == (0, "")
    assert len(host.mps()) == 2
    assert other.end() == (0, "")
    assert host.mps() == []


def test_all_programs_on_a_device_have_the_partitioner_of_the_first(host: Host, with_mps: str) -> None:
    first = Talk(host, "run", "--partitioner", "none", "--share", "sm=100,request=0.3", "--name", "first")
    found = host.verb("run", "--partitioner", "mps", "--share", "sm=100,request=0.3", "true")
    assert found.returncode == 2
    assert "auto or none: that is how" in found.stderr
    assert host.verb("run", "--share", "sm=100,request=0.3", "true").returncode == 0
    assert host.mps() == []
    assert first.end() == (0, "")
    assert host.verb("run", "--partitioner", "mps", "--share", "sm=30,request=0.3", "true").returncode == 0


def test_what_a_killed_run_left_of_mps_is_ended_by_the_next(host: Host, with_mps: str) -> None:
    first = Talk(host, "run", "--share", "sm=30,request=0.3", "--group", "other", "--name", "first")
    program = first.ask("info")["pid"]
    first.run.kill()
    os.kill(program, signal.SIGKILL)
    eventually(lambda: not state_of(program) or state_of(program) == "Z")
    assert len(host.mps()) == 2
    assert host.verb("run", "--share", "sm=30,request=0.3", "true").returncode == 0
    assert host.mps() == []


def test_without_an_mps_that_starts_a_program_does_not_run(host: Host, with_mps: str, tmp_path: Path) -> None:
    (tmp_path / "script").write_text("dies")
    trace = tmp_path / "trace"
    found = host.verb("run", "--share", "sm=30,request=0.3", "touch", str(trace))
    assert (found.returncode, found.stderr.count("\n")) == (1, 1)
    assert "no device was found" in found.stderr
    assert not trace.exists()


def test_mps_that_was_killed_does_not_run(tmp_path: Path) -> None:
    env = {"CUDA_MPS_PIPE_DIRECTORY": str(tmp_path)}
    assert not mps_runs(env)
    (tmp_path / "control").touch()
    assert mps_runs(env)
    ended = subprocess.Popen(["true"])
    ended.wait()
    (tmp_path / "nvidia-cuda-mps-control.pid").write_text(f"{ended.pid}\n")
    assert not mps_runs(env)
    (tmp_path / "nvidia-cuda-mps-control.pid").write_text(f"{os.getpid()}\n")
    assert mps_runs(env)


def test_a_launch_that_is_called_off_never_runs(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    launch = Launch("/bin/sh", ["sh", "-c", f"echo ran > {trace}"], {}, 0, set())
    launch.call_off()
    assert not trace.exists()
    Launch("/bin/sh", ["sh", "-c", f"echo ran > {trace}"], {}, 0, set()).let_go()
    os.wait()
    assert trace.read_text() == "ran\n"


def test_programs_are_found_as_a_shell_finds_them(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    for folder, mode in ((first, 0o644), (second, 0o755)):
        folder.mkdir()
        (folder / "tool").touch()
        (folder / "tool").chmod(mode)
    assert find_program("tool", {"PATH": f"{first}:{second}"}) == str(second / "tool")
    for command, path, status in (
        ("tool", first, 126),
        ("toolbox", first, 127),
        (str(first), second, 126),
        ("", first, 127),
    ):
        with pytest.raises(CannotRun) as raised:
            find_program(command, {"PATH": str(path)})
        assert raised.value.status == status


def test_directories_of_others_are_not_trusted(tmp_path: Path) -> None:
    env = {"XDG_RUNTIME_DIR": str(tmp_path)}
    assert runtime_directory(env) == tmp_path / "fastgshare"
    (tmp_path / "fastgshare").chmod(0o755)
    with pytest.raises(StateUnavailable, match="mode 0700"):
        runtime_directory(env)
    (tmp_path / "fastgshare").rmdir()
    (tmp_path / "fastgshare").symlink_to("/tmp")
    with pytest.raises(StateUnavailable, match="mode 0700"):
        runtime_directory(env)


def test_a_place_too_deep_for_sockets_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match="bytes shorter"):
        Home(tmp_path / ("x" * 100) / "fastgshare" / "cpu")


def test_what_is_no_record_is_nobody(host: Host) -> None:
    assert host.verb("run", *QUARTER, "true").returncode == 0
    record = host.directory / "fastgshare" / "cpu" / "guests.json"
    for text in ("", "[]", '{"guests": [{"name": 3}]}', '{"guests": 3}'):
        record.write_text(text)
        assert host.programs() == {}


def test_programs_of_different_trust_groups_take_turns(host: Host) -> None:
    first = Talk(host, *STANDIN, "sm=40,request=0.5", "--name", "first")
    second = Talk(host, *STANDIN, "sm=40,request=0.4", "--name", "second", "--group", "other")
    found = host.programs()
    assert [found[name]["trust_group"] for name in ("first", "second")] == ["default", "other"]
    one, two = (found[name]["place"] for name in ("first", "second"))
    assert one["quota_offset"] + one["quota"] <= two["quota_offset"] + 1e-6
    refused = host.verb(*STANDIN, "sm=40,request=0.2", "--group", "third", "true")
    assert refused.returncode == 1
    assert "trust groups" in refused.stderr
    assert host.verb(*STANDIN, "sm=40,request=0.2", "--group", "-", "true").returncode == 2
    assert (first.end(), second.end()) == ((0, ""), (0, ""))


def test_a_fault_reaches_its_trust_group_and_no_other_and_the_next_program_is_let_in(host: Host) -> None:
    faulty = Talk(host, *STANDIN, "sm=40,request=0.3", "--name", "faulty")
    mate = Talk(host, *STANDIN, "sm=40,request=0.3", "--name", "mate")
    other = Talk(host, *STANDIN, "sm=40,request=0.3", "--name", "other", "--group", "other")
    assert faulty.ask("fault") == ILLEGAL_ADDRESS
    assert mate.ask("spin 1 1") == LAUNCH_FAILED
    assert other.ask("spin 1 10") == 0
    assert (faulty.end(), mate.end()) == ((0, ""), (0, ""))
    successor = Talk(host, *STANDIN, "sm=40,request=0.3", "--name", "successor")
    assert successor.ask("spin 1 1") == 0
    assert (other.end(), successor.end()) == ((0, ""), (0, ""))
    assert host.mps() == []


def test_a_server_of_mps_that_is_killed_is_made_good_for_the_next_program(host: Host) -> None:
    first = Talk(host, *STANDIN, "sm=40,request=0.3", "--name", "first")
    for pid in host.mps():
        with suppress(ProcessLookupError):  # a server ends with its control daemon
            os.kill(pid, signal.SIGKILL)
    second = Talk(host, *STANDIN, "sm=40,request=0.3", "--name", "second")
    assert second.ask("spin 1 1") == 0
    assert (first.end(), second.end()) == ((0, ""), (0, ""))
    assert host.mps() == []
