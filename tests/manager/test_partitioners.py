"""Partitioners on the stand-in, whose MPS they start, and on GPUs of which only facts are known."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.errors import InvalidValue, PartitionerUnavailable
from fastgshare.domain.partitions import Guarantee
from fastgshare.manager import mps_partitioners, partitioners, probing
from fastgshare.manager.gpus import ComputeMode, Gpu, Green
from fastgshare.manager.mps import MpsControl
from fastgshare.manager.mps_partitioners import MpsPartitioner, RunningMpsPartitioner
from fastgshare.manager.mps_programs import find_control, left_behind, wait_until
from fastgshare.manager.partitioners import NoPartitioner, choose, divided, probe
from fastgshare.manager.probing import Situation
from fastgshare.native import library

STANDIN = Device("standin", DeviceKind.STANDIN, 132, 80 * 2**30)
GPU = Device("GPU-1", DeviceKind.GPU, 132, 80 * 2**30)
H100 = Gpu(0, "GPU-1", "NVIDIA H100", 132, 80 * 2**30, ComputeMode.DEFAULT, (9, 0), 13010, Green(8, 8))
PROGRAM = Path(__file__).parent.parent / "cluster" / "device_program.py"
ILLEGAL_ADDRESS = 700


class Program:
    """A process that uses the stand-in, and answers."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-S", str(PROGRAM)],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.first = self.answer()

    def answer(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline() or "null")

    def ask(self, line: str) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        return self.answer()

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


def end(programs: list[Program]) -> None:
    """End all: MPS waits for them a while when it is told to quit."""
    for program in programs:
        program.end()


@pytest.fixture
def base(tmp_path: Path) -> dict[str, str]:
    """The environment of programs on a stand-in that they share."""
    return {
        **os.environ,
        "LD_LIBRARY_PATH": str(library("standin/libcuda.so.1").parent),
        "FASTGSHARE_STANDIN": f"state={tmp_path}/device,mps=assumed",
    }


@pytest.fixture
def programs() -> Iterator[list[Program]]:
    started: list[Program] = []
    yield started
    end(started)


def on_mps(directory: Path, scenario: Callable[[MpsPartitioner], Awaitable[None]], **options: Any) -> None:
    """Run a scenario with a partitioner on the stand-in; afterwards nothing of it is left."""

    async def run() -> None:
        partitioner = choose(STANDIN, "mps", directory, os.environ, **options)
        assert isinstance(partitioner, MpsPartitioner)
        await partitioner.start()
        try:
            async with asyncio.timeout(30):
                await scenario(partitioner)
        finally:
            await partitioner.stop()

    asyncio.run(run())
    assert [pid for path in directory.glob("*") for pid in left_behind(path)] == []


# --- with processes ---------------------------------------------------------------------------------------------------


def test_processes_come_to_the_mps_of_their_group(
    tmp_path: Path, base: dict[str, str], programs: list[Program]
) -> None:
    async def scenario(partitioner: MpsPartitioner) -> None:
        await partitioner.open("one")
        await partitioner.open("other")
        await partitioner.open("one")
        for group in ("one", "one", "other"):
            programs.append(Program(partitioner.environment(group, base)))
        assert [program.first for program in programs] == ["ready"] * 3
        pids = [program.process.pid for program in programs]
        one, other = partitioner.control("one"), partitioner.control("other")
        assert sorted(one.shell.processes()) == sorted(pids[:2])
        assert other.shell.processes() == pids[2:]
        assert set(one.shell.servers()).isdisjoint(other.shell.servers())
        end(programs)

    on_mps(tmp_path / "m", scenario)


def test_a_fault_is_told_once_and_leaves_the_other_group_alone(
    tmp_path: Path, base: dict[str, str], programs: list[Program], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mps_partitioners, "POLL_S", 0.05)

    async def scenario(partitioner: MpsPartitioner) -> None:
        told: list[tuple[str, str]] = []
        heard = asyncio.Event()

        def listen(group: str, reason: str) -> None:
            told.append((group, reason))
            heard.set()

        partitioner.watch(listen)
        for group in ("one", "other"):
            await partitioner.open(group)
            programs.append(Program(partitioner.environment(group, base)))
        faulty, neighbour = programs
        assert faulty.ask("fault") == ILLEGAL_ADDRESS
        await heard.wait()
        partitioner.fail("one", "the daemon has seen it too")
        await asyncio.sleep(0.2)
        assert [group for group, _ in told] == ["one"]
        assert "FAULT" in told[0][1]
        assert neighbour.ask("spin 1 1") == 0
        late = Program(partitioner.environment("one", base))
        assert late.first != "ready", "nobody is let in before all have gone"
        late.end()
        faulty.end()
        await partitioner.recover("one")
        programs.append(Program(partitioner.environment("one", base)))
        assert programs[-1].ask("spin 1 1") == 0
        assert neighbour.ask("spin 1 1") == 0
        partitioner.fail("one", "again")
        assert told[-1] == ("one", "again")
        end(programs)

    on_mps(tmp_path / "m", scenario)


@pytest.mark.parametrize("killed", ["control daemon", "server"])
def test_what_is_killed_is_told_and_comes_back(
    tmp_path: Path, base: dict[str, str], programs: list[Program], monkeypatch: pytest.MonkeyPatch, killed: str
) -> None:
    monkeypatch.setattr(mps_partitioners, "POLL_S", 0.05)

    async def scenario(partitioner: MpsPartitioner) -> None:
        failed: asyncio.Future[tuple[str, str]] = asyncio.get_running_loop().create_future()
        partitioner.watch(lambda group, reason: failed.set_result((group, reason)))
        await partitioner.open("one")
        programs.append(Program(partitioner.environment("one", base)))
        control = partitioner.control("one")
        os.kill(control.pid if killed == "control daemon" else control.shell.servers()[0], signal.SIGKILL)
        group, reason = await failed
        assert (group, "has ended" in reason) == ("one", True)
        programs[0].end()
        await partitioner.recover("one")
        assert control.problem() == ""
        programs.append(Program(partitioner.environment("one", base)))
        assert programs[-1].ask("spin 1 1") == 0
        end(programs)

    on_mps(tmp_path / "m", scenario)


def test_many_of_a_group_that_come_at_once_have_one_mps(tmp_path: Path) -> None:
    async def scenario(partitioner: MpsPartitioner) -> None:
        await asyncio.gather(*(partitioner.open("one") for _ in range(8)))
        assert len(left_behind(partitioner.control("one").pipes)) == 2
        assert partitioner.control("one").problem() == ""

    on_mps(tmp_path / "m", scenario)


def test_a_look_that_fails_unexpectedly_is_not_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(mps_partitioners, "POLL_S", 0.01)
    looks = iter([RuntimeError("what is this?"), "the server has gone"])

    def look(control: MpsControl) -> str:
        if isinstance(found := next(looks), Exception):
            raise found
        return str(found)

    async def scenario(partitioner: MpsPartitioner) -> None:
        told: asyncio.Future[tuple[str, str]] = asyncio.get_running_loop().create_future()
        partitioner.watch(lambda group, reason: told.set_result((group, reason)))
        monkeypatch.setattr(mps_partitioners, "_lasting_problem", look)
        await partitioner.open("one")
        assert await told == ("one", "the server has gone")

    on_mps(tmp_path / "m", scenario)
    assert "MPS of trust group one on device standin cannot be looked at" in caplog.text
    assert "what is this?" in caplog.text


def test_a_failure_that_nobody_has_seen_yet_lets_nobody_in(tmp_path: Path) -> None:
    async def scenario(partitioner: MpsPartitioner) -> None:
        told: list[str] = []
        partitioner.watch(lambda group, reason: told.append(group))
        await partitioner.open("one")
        control = partitioner.control("one")
        os.kill(control.pid, signal.SIGKILL)
        assert wait_until(lambda: not control.pid, 5)
        with pytest.raises(PartitionerUnavailable, match="trust group one on device standin has failed: the MPS"):
            await partitioner.open("one")
        assert told == ["one"]
        await partitioner.recover("one")
        await partitioner.open("one")

    on_mps(tmp_path / "m", scenario)


def test_a_group_that_is_closed_frees_what_it_had(tmp_path: Path) -> None:
    async def scenario(partitioner: MpsPartitioner) -> None:
        await partitioner.open("one")
        await partitioner.open("other")
        await partitioner.close("one")
        assert partitioner.control("one").pid == 0
        assert partitioner.control("other").problem() == ""
        await partitioner.open("one")
        assert partitioner.control("one").problem() == ""

    on_mps(tmp_path / "m", scenario)


def test_what_stays_is_shared_by_who_comes_later(tmp_path: Path) -> None:
    directory = tmp_path / "m"

    async def first() -> int:
        partitioner = choose(STANDIN, "auto", directory, os.environ, stays=True)
        await partitioner.start()
        await partitioner.open("one")
        assert isinstance(partitioner, MpsPartitioner)
        return partitioner.control("one").pid

    pid = asyncio.run(first())

    async def second(partitioner: MpsPartitioner) -> None:
        await partitioner.open("one")
        assert partitioner.control("one").pid == pid

    on_mps(directory, second, stays=True)


def test_without_a_partitioner_nobody_shares_a_fault(
    tmp_path: Path, base: dict[str, str], programs: list[Program]
) -> None:
    partitioner = choose(STANDIN, "none", tmp_path / "m", os.environ)
    assert isinstance(partitioner, NoPartitioner)
    control = MpsControl(tmp_path / "foreign", find_control(STANDIN, os.environ), "", os.environ)
    control.start()
    try:
        for _ in range(2):
            programs.append(Program(partitioner.environment("one", base | control.environment())))
        assert control.shell.processes() == [], "an MPS of others is not for them"
        assert programs[0].ask("fault") == ILLEGAL_ADDRESS
        assert programs[1].ask("spin 1 1") == 0
    finally:
        control.quit()


def test_settings_of_the_standin_are_merged(tmp_path: Path) -> None:
    partitioner = choose(STANDIN, "auto", tmp_path, os.environ)
    env = partitioner.environment("one", {"FASTGSHARE_STANDIN": "null=1,mps=assumed", "HOME": "/"})
    assert (env["FASTGSHARE_STANDIN"], env["HOME"]) == ("null=1,mps=real", "/")
    assert env["CUDA_MPS_PIPE_DIRECTORY"].startswith(str(tmp_path))


# --- what is chosen ---------------------------------------------------------------------------------------------------


def situation(gpu: Gpu | None = H100, *, program: str = "/usr/bin/control", running: str = "") -> Situation:
    there = Path(program) if program else None
    missing = "" if program else "program 'nvidia-cuda-mps-control' does not exist"
    return Situation(GPU, there, missing, Path(running) if running else None, gpu, "" if gpu else "silence")


def chosen(found: Situation, wanted: str, monkeypatch: pytest.MonkeyPatch) -> partitioners.Partitioner:
    monkeypatch.setattr(probing, "situation", lambda device, env: found)
    return choose(GPU, wanted, Path("/nowhere"), {})


@pytest.mark.parametrize(
    ("mode", "program", "running", "kind", "lone"),
    [
        (ComputeMode.DEFAULT, "/c", "", MpsPartitioner, False),
        (ComputeMode.DEFAULT, "/c", "/p", MpsPartitioner, False),
        (ComputeMode.DEFAULT, "", "/p", RunningMpsPartitioner, True),
        (ComputeMode.DEFAULT, "", "", NoPartitioner, False),
        (ComputeMode.EXCLUSIVE, "/c", "", MpsPartitioner, True),
        (ComputeMode.EXCLUSIVE, "/c", "/p", RunningMpsPartitioner, True),
        (ComputeMode.EXCLUSIVE, "", "", NoPartitioner, False),
    ],
)
def test_what_is_taken_follows_from_what_is_there(
    mode: ComputeMode, program: str, running: str, kind: type, lone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = situation(replace(H100, compute_mode=mode), program=program, running=running)
    partitioner = chosen(found, "auto", monkeypatch)
    assert (type(partitioner), partitioner.lone) == (kind, lone)
    assert partitioner.partitioning.there
    assert divided(GPU, partitioner.partitioning).sm_steps == (1 if kind is NoPartitioner else 100)


def test_wishes_that_cannot_be_had_are_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidValue, match="partitioner: 'mig' is not allowed; allowed: auto, mps, none"):
        choose(STANDIN, "mig", Path("/nowhere"), {})
    with pytest.raises(InvalidValue, match=r"auto or none on device GPU-1: program .* \(install the package"):
        chosen(situation(program=""), "mps", monkeypatch)
    exclusive = replace(H100, compute_mode=ComputeMode.EXCLUSIVE)
    with pytest.raises(InvalidValue, match=r"auto or mps on device GPU-1: the compute mode EXCLUSIVE_PROCESS"):
        chosen(situation(exclusive, running="/p"), "none", monkeypatch)
    prohibited = replace(H100, compute_mode=ComputeMode.PROHIBITED)
    for wanted in partitioners.WANTED:
        with pytest.raises(InvalidValue, match=r"device: 'GPU-1' .* PROHIBITED lets nobody in \(who administers"):
            chosen(situation(prohibited), wanted, monkeypatch)


def test_a_device_that_lets_one_server_in_lets_one_group_in(tmp_path: Path) -> None:
    program = find_control(STANDIN, os.environ)
    way = probing.mps(replace(situation(replace(H100, compute_mode=ComputeMode.EXCLUSIVE)), device=STANDIN))

    async def scenario() -> None:
        one, later = (
            MpsPartitioner(STANDIN, way, tmp_path, os.environ, program, lone=True, stays=True) for _ in range(2)
        )
        await one.open("a")
        try:
            for partitioner in (one, later):
                with pytest.raises(PartitionerUnavailable, match="trust group b cannot be on device standin beside"):
                    await partitioner.open("b")
            await one.close("a")
            await one.open("b")
        finally:
            await one.stop()

    asyncio.run(scenario())


def test_an_mps_of_others_is_used_and_left_running(
    tmp_path: Path, base: dict[str, str], programs: list[Program]
) -> None:
    program = find_control(STANDIN, os.environ)
    foreign = MpsControl(tmp_path / "foreign", program, "", os.environ)
    foreign.start()
    env = {**os.environ, **foreign.environment()}
    way = probing.mps(situation(program="", running=str(foreign.pipes)))

    async def scenario() -> None:
        partitioner = RunningMpsPartitioner(STANDIN, way, env, program)
        await partitioner.start()
        await partitioner.open("one")
        with pytest.raises(PartitionerUnavailable, match="trust group other cannot be"):
            await partitioner.open("other")
        programs.append(Program(partitioner.environment("one", base)))
        assert foreign.shell.processes() == [programs[0].process.pid]
        assert programs[0].ask("fault") == ILLEGAL_ADDRESS
        programs[0].end()
        await partitioner.recover("one")
        await partitioner.close("one")
        await partitioner.open("other")
        await partitioner.stop()
        assert foreign.problem() == ""
        foreign.quit()
        with pytest.raises(PartitionerUnavailable, match="does not run any more"):
            await partitioner.open("other")

    try:
        asyncio.run(scenario())
    finally:
        foreign.quit()


# --- what is reported -------------------------------------------------------------------------------------------------


def test_every_way_says_what_it_guarantees_on_which_grid() -> None:
    found = situation()
    ways = {way.name: way for way in (f(found) for f in (probing.mps_static, probing.green_contexts, probing.mps))}
    assert {name: (way.guarantee, way.sm_unit, way.resizes_live, way.there) for name, way in ways.items()} == {
        "mps-static": (Guarantee.RESERVE, 8, False, True),
        "green-contexts": (Guarantee.CAP, 8, True, True),
        "mps": (Guarantee.CAP, 0, False, True),
    }
    ampere = situation(replace(H100, capability=(8, 0), green=Green(4, 2)))
    assert probing.mps_static(ampere).sm_unit == 4
    assert probing.green_contexts(ampere).grid == "at least 4 SMs, in steps of 2"


@pytest.mark.parametrize(
    ("found", "way", "because"),
    [
        (situation(replace(H100, cuda_version=12080)), probing.mps_static, "CUDA up to 12.8; it came with 13.1"),
        (situation(replace(H100, capability=(7, 5))), probing.mps_static, "older than Ampere"),
        (situation(program=""), probing.mps_static, "nvidia-cuda-mps-control"),
        (situation(None), probing.mps_static, "silence"),
        (situation(None), probing.green_contexts, "silence"),
        (situation(replace(H100, green=Green(0, 0, "no functions"))), probing.green_contexts, "no functions"),
        (situation(program=""), probing.mps, "does not exist"),
    ],
)
def test_what_is_not_there_says_why(found: Situation, way: Any, because: str) -> None:
    report = way(found)
    assert not report.there
    assert because in report.because


def test_the_standin_says_that_it_is_none(tmp_path: Path) -> None:
    ways = {way.name: way for way in probe(STANDIN, os.environ)}
    assert "stand-in" in ways["mps-static"].because
    assert not ways["mps-static"].there
    assert [way.name for way in probe(Device("cpu", DeviceKind.CPU, 2), {})] == ["none"]
    assert divided(Device("cpu", DeviceKind.CPU, 2), ways["none"]).sm_steps == 2
    assert isinstance(choose(Device("cpu", DeviceKind.CPU, 2), "auto", tmp_path, {}), NoPartitioner)
    with pytest.raises(InvalidValue, match="auto or none on device cpu"):
        choose(Device("cpu", DeviceKind.CPU, 2), "mps", tmp_path, {})


def test_a_killed_platform_leaves_no_mps(tmp_path: Path) -> None:
    code = (
        "import asyncio, os, sys; from pathlib import Path\n"
        "from fastgshare.domain.devices import Device, DeviceKind\n"
        "from fastgshare.manager.partitioners import choose\n"
        "async def main():\n"
        "    p = choose(Device('standin', DeviceKind.STANDIN, 132, 2**30), 'mps', Path(sys.argv[1]), os.environ)\n"
        "    await p.start(); await p.open('one'); print('ready', flush=True); await asyncio.sleep(600)\n"
        "asyncio.run(main())\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "m")], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        (pipes,) = (path for path in (tmp_path / "m").iterdir() if not path.name.endswith("-log"))
        assert len(left_behind(pipes)) == 2
    finally:
        process.kill()
        process.communicate()
    assert wait_until(lambda: not left_behind(pipes), 10)


@pytest.mark.parametrize("folder", ["m", "m" * 90])
def test_what_a_killed_platform_left_of_any_group_is_ended_at_the_next_start(tmp_path: Path, folder: str) -> None:
    """Also of a group that nobody opens any more, and where another directory stands for one of too long a path."""
    directory = tmp_path / folder
    left: list[int] = []

    async def leave() -> None:
        partitioner = choose(STANDIN, "mps", directory, os.environ, stays=True)
        assert isinstance(partitioner, MpsPartitioner)
        await partitioner.start()
        await partitioner.open("one")
        left.extend(left_behind(partitioner.control("one").pipes))

    async def scenario(partitioner: MpsPartitioner) -> None:
        assert left_behind(partitioner.control("one").pipes) == []
        assert list(directory.iterdir()) == []

    asyncio.run(leave())
    assert len(left) == 2
    on_mps(directory, scenario)
