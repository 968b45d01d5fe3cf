"""MPS as it should be, on a program that does what a script says: what NVIDIA's may do wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.errors import NotFound, PartitionerUnavailable
from fastgshare.manager import mps
from fastgshare.manager.mps import MpsControl, pipe_directory
from fastgshare.manager.mps_programs import find_control, left_behind, mps_runs, wait_until
from fastgshare.manager.mps_shell import MpsShell, ServerState

SCRIPTED = Path(__file__).with_name("scripted_mps.py")
GPU = Device("GPU-0", DeviceKind.GPU, 132, 2**30)


class Ground:
    """A scripted control program, and controls of it that end with the test."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.script = directory / "script"
        self.script.write_text("")
        self.program = directory / "bin" / "nvidia-cuda-mps-control"
        self.program.parent.mkdir()
        self.program.write_text(f"#!{sys.executable} -S\n{SCRIPTED.read_text()}")
        self.program.chmod(0o755)
        self.env = {**os.environ, "SCRIPTED_MPS": str(self.script)}
        self._controls: list[MpsControl] = []

    def control(self, name: str = "p", *, stays: bool = False) -> MpsControl:
        """One in a pipe directory of that name."""
        control = MpsControl(self.directory / name, self.program, "GPU-0", self.env, stays=stays)
        self._controls.append(control)
        return control

    def end(self) -> None:
        """End all of them."""
        self.script.write_text("")
        for control in self._controls:
            control.quit()
            assert left_behind(control.pipes) == []


@pytest.fixture
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    ground = Ground(tmp_path_factory.mktemp("m"))
    yield ground
    ground.end()


def test_it_is_started_asked_and_ended(ground: Ground) -> None:
    control = ground.control()
    assert (control.pid, control.problem()) == (0, "the MPS control daemon has ended")
    control.start()
    (server,) = control.shell.servers()
    assert (control.problem(), control.shell.status(server)) == ("", ServerState.ACTIVE)
    before = control.pid
    control.start()
    assert (control.pid, control.shell.servers()) == (before, [server])
    environment = Path(f"/proc/{before}/environ").read_bytes().split(b"\0")
    assert b"CUDA_VISIBLE_DEVICES=GPU-0" in environment
    assert os.getsid(before) == before
    control.quit()
    assert (control.pid, control.pipes.exists()) == (0, False)
    control.quit()


def test_two_groups_are_two_daemons_with_two_servers(ground: Ground) -> None:
    one, other = ground.control("one"), ground.control("other")
    one.start()
    other.start()
    assert one.pid != other.pid
    assert set(one.shell.servers()).isdisjoint(other.shell.servers())
    os.kill(one.pid, signal.SIGKILL)
    assert wait_until(lambda: bool(one.problem()), 5)
    assert other.problem() == ""


@pytest.mark.parametrize("killed", ["control daemon", "server"])
def test_it_comes_back_when_a_part_of_it_is_killed(ground: Ground, killed: str) -> None:
    control = ground.control()
    control.start()
    (server,) = control.shell.servers()
    os.kill(control.pid if killed == "control daemon" else server, signal.SIGKILL)
    assert wait_until(lambda: control.problem().endswith("has ended"), 5)
    control.recover()
    assert control.problem() == ""
    (successor,) = control.shell.servers()
    assert successor != server
    assert left_behind(control.pipes) == sorted([control.pid, successor])


def test_a_server_that_gets_well_by_itself_is_kept(ground: Ground) -> None:
    control = ground.control()
    control.start()
    (server,) = control.shell.servers()
    (control.pipes / "state").write_text("FAULT")
    assert control.problem() == f"MPS server {server} is in state FAULT"
    (control.pipes / "state").write_text("ACTIVE")
    control.recover()
    assert control.shell.servers() == [server]


def test_a_server_that_stays_ill_is_replaced(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mps, "_SELF_HEALING_S", 0.1)
    control = ground.control()
    control.start()
    before, servers = control.pid, control.shell.servers()
    (control.pipes / "state").write_text("FAULT")
    control.recover()
    assert (control.problem(), control.pid) == ("", before)
    assert control.shell.servers() != servers


def test_a_daemon_that_cannot_end_its_server_is_replaced(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mps, "_SELF_HEALING_S", 0.1)
    monkeypatch.setattr(mps, "_SHUTDOWN_S", 0.3)
    control = ground.control()
    control.start()
    before = control.pid
    ground.script.write_text("immortal")
    (control.pipes / "state").write_text("FAULT")
    control.recover()
    assert control.problem() == ""
    assert control.pid != before


def test_a_daemon_that_is_killed_while_its_server_is_looked_at_is_replaced(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    control = ground.control()
    control.start()
    before, looks_sound = control.pid, control._is_sound

    def is_sound() -> bool:
        sound = looks_sound()
        os.kill(before, signal.SIGKILL)
        wait_until(lambda: control.pid != before, 5)
        return sound

    monkeypatch.setattr(control, "_is_sound", is_sound)
    control.recover()
    monkeypatch.undo()
    assert control.problem() == ""
    assert control.pid not in (0, before)


def test_a_program_that_cannot_do_its_work_is_one_clear_error(ground: Ground) -> None:
    control = ground.control()
    ground.script.write_text("dies")
    with pytest.raises(PartitionerUnavailable, match=r"ended at once; its last words \(control\.out\): no device was"):
        control.start()
    ground.script.write_text("")
    control.start()


def test_a_daemon_that_is_never_ready_is_not_waited_for(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mps, "START_S", 0.2)
    ground.script.write_text("unready")
    control = ground.control()
    with pytest.raises(PartitionerUnavailable, match=r"was not ready within 0\.2 s"):
        control.start()
    assert left_behind(control.pipes) == []


def test_a_daemon_without_a_server_is_one_clear_error(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mps, "START_S", 0.5)
    ground.script.write_text("serverless")
    with pytest.raises(PartitionerUnavailable, match="no MPS server starts"):
        ground.control().start()


def test_answers_that_do_not_come_or_make_no_sense_are_errors(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    control = ground.control()
    control.start()
    for script, message in (
        ("refuses", "refused `get_server_list`: not today"),
        ("garbles", "answers `get_server_list` with: .*what"),
    ):
        ground.script.write_text(script)
        with pytest.raises(PartitionerUnavailable, match=message):
            control.shell.servers()
        assert control.problem()
    ground.script.write_text("hangs")
    with pytest.raises(PartitionerUnavailable, match=r"did not answer `ps` within 0\.2 s"):
        control.shell.ask("ps", 0.2)
    gone = MpsShell(ground.directory / "nowhere", ground.env)
    with pytest.raises(PartitionerUnavailable, match="cannot be run: No such file"):
        gone.servers()


def test_who_does_not_quit_is_ended(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mps, "_QUIT_S", 0.2)
    ground.script.write_text("stubborn")
    control = ground.control()
    control.start()
    assert left_behind(control.pipes) == sorted([control.pid, *control.shell.servers()])
    control.quit()
    assert left_behind(control.pipes) == []


OWNER = """
import os, sys
from pathlib import Path
from fastgshare.manager.mps import MpsControl
control = MpsControl(Path(sys.argv[1]), Path(sys.argv[2]), "", os.environ, stays=sys.argv[3] == "stays")
control.start()
print(control.pid, *control.shell.servers(), flush=True)
sys.stdin.read()
"""


def owner(ground: Ground, name: str, mode: str) -> tuple[subprocess.Popen[str], list[int]]:
    """A process that has started MPS, and the processes of that."""
    command = [sys.executable, "-c", OWNER, str(ground.directory / name), str(ground.program), mode]
    process = subprocess.Popen(
        command, env=ground.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    return process, [int(word) for word in process.stdout.readline().split()]


def test_a_killed_owner_leaves_nothing_that_hinders_the_next(ground: Ground) -> None:
    process, (daemon, server) = owner(ground, "p", "ends")
    process.kill()
    process.communicate()
    control = ground.control()
    assert wait_until(lambda: daemon not in left_behind(control.pipes), 5), "it ends with its owner"
    assert left_behind(control.pipes) == [server], "this daemon leaves its server to itself"
    control.start()
    assert left_behind(control.pipes) == sorted([control.pid, *control.shell.servers()])
    assert server not in control.shell.servers()


def test_the_end_of_a_thread_is_not_the_end_of_its_owner(ground: Ground) -> None:
    from concurrent.futures import ThreadPoolExecutor

    control = ground.control()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(control.start).result()
    time.sleep(0.1)
    assert control.problem() == ""


def test_what_stays_is_found_by_others(ground: Ground) -> None:
    process, (daemon, server) = owner(ground, "p", "stays")
    process.communicate()
    control = ground.control(stays=True)
    assert control.pid == daemon
    control.start()
    assert (control.pid, control.shell.servers()) == (daemon, [server])
    control.quit()
    assert left_behind(control.pipes) == []


def test_what_stays_is_found_without_a_file_that_names_it(ground: Ground) -> None:
    first = ground.control(stays=True)
    first.start()
    (first.pipes / "nvidia-cuda-mps-control.pid").unlink()
    second = ground.control(stays=True)
    assert second.pid == first.pid
    second.start()
    assert second.shell.servers() == first.shell.servers() != []


def test_long_paths_have_short_ones_that_stand_for_them(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 100)
    short = pipe_directory(long)
    assert pipe_directory(Path("/run/user/1000/p")) == Path("/run/user/1000/p")
    assert len(bytes(short / "control_privileged")) <= 107
    assert short == pipe_directory(long) != pipe_directory(long / "other")


def test_the_control_program_is_found_on_the_path_and_where_containers_have_it(ground: Ground, tmp_path: Path) -> None:
    assert find_control(GPU, {"PATH": str(ground.program.parent)}, tmp_path) == ground.program
    with pytest.raises(NotFound, match="nvidia-cuda-mps-control"):
        find_control(GPU, {"PATH": str(tmp_path)}, tmp_path)
    mounted = tmp_path / "usr/local/nvidia/bin/nvidia-cuda-mps-control"
    mounted.parent.mkdir(parents=True)
    mounted.write_text("")
    with pytest.raises(NotFound):
        find_control(GPU, {"PATH": str(tmp_path)}, tmp_path)
    mounted.chmod(0o755)
    assert find_control(GPU, {"PATH": str(tmp_path)}, tmp_path) == mounted


def test_a_running_mps_is_seen_by_who_looks_there(ground: Ground) -> None:
    control = ground.control()
    assert not mps_runs(control.environment())
    control.start()
    assert mps_runs(control.environment())
    os.kill(control.pid, signal.SIGKILL)
    assert wait_until(lambda: not control.pid, 5)
    assert not mps_runs(control.environment())
