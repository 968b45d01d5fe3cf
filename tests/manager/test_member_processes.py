"""Several processes of one instance under the real daemon: who is let in, who leaves, what a restart keeps."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.rects import Rect
from fastgshare.domain.shares import Share
from fastgshare.manager.node import NodeDaemon
from fastgshare.manager.saturation import read_log

GPU = Device("cuda:0", DeviceKind.GPU, 132, 2**30)
HALF = Share(50, 0.5, 0.9, 1000)
PLACE = Rect(0, 0, 50, 0.5)
PATIENCE_S = 20.0

SPAWNER = """
import subprocess, sys
from pathlib import Path
socket, name, folder, count = sys.argv[1:]
command = [sys.executable, "-m", "fastgshare.manager.saturation", "--socket", socket, "--instance", name]
started = []
for index in range(int(count)):
    arguments = [*command, "--log", f"{folder}/{name}-{index}.holds"]
    started.append(subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
print(*(child.pid for child in started), flush=True)
for child in started:
    child.stdout.readline()
    print("go", file=child.stdin, flush=True)
sys.stdin.read()
"""

ORPHAN = """
import ctypes, subprocess, sys
socket, name, folder = sys.argv[1:]
ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER
saturation = f"{sys.executable} -m fastgshare.manager.saturation --socket {socket} --instance {name}"
script = f"({saturation} --log {folder}/{name}-0.holds < {folder}/go &) ; cat"
print(subprocess.Popen(["sh", "-c", script], stdin=subprocess.PIPE).pid, flush=True)
sys.stdin.read()
"""

ALLOCATES = """
import ctypes, subprocess, sys
from fastgshare.manager.gate import library
socket, name, size, program = sys.argv[1:]
if program:
    arguments = [sys.executable, "-c", program, socket, name, "600", ""]
    child = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    print(child.pid, child.stdout.readline(), end="", flush=True)
gate = library().fg_open(socket.encode(), name.encode(), 10**10, ctypes.create_string_buffer(200), 200)
print(library().fg_charge_memory(gate, int(size)), flush=True)
for line in sys.stdin:
    print(library().fg_charge_memory(gate, int(line)), flush=True)
"""
KNOCKS = """
import ctypes, sys
from fastgshare.manager.gate import library
socket, name = (argument.encode() for argument in sys.argv[1:])
knocked = library().fg_knock(socket, name)
print(knocked >= 0, flush=True)
sys.stdin.readline()
gate = library().fg_enter(knocked, socket, name, 10**10, ctypes.create_string_buffer(200), 200)
print(library().fg_charge_memory(gate, 1), library().fg_acquire(gate, 0, 10**10), flush=True)
sys.stdin.readline()
"""
CLOSES = """
import ctypes, os, socket, sys
from fastgshare.manager.gate import library
path, name = (argument.encode() for argument in sys.argv[1:])
gate = library().fg_open(path, name, 10**10, ctypes.create_string_buffer(200), 200)
pairs = [fd for fd in map(int, os.listdir("/proc/self/fd")) if fd > 2]
os.closerange(3, max(pairs) + 1)
mine = [socket.socketpair() for _ in range(len(pairs))]
for _ in range(3):
    print(library().fg_acquire(gate, 0, 10**10), flush=True)
    sys.stdin.readline()
    library().fg_release(gate, 0)
library().fg_close(gate)
for end in sum(mine, ()):
    end.setblocking(False)
    try:
        print("heard", end.recv(10))
    except BlockingIOError:
        pass
print("nothing else", flush=True)
sys.stdin.readline()
"""
ALLOWED, OVER = "0\n", "3\n"


class Family:
    """A daemon, and programs with children, all of which end with the test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.daemon = NodeDaemon([GPU], folder / "daemon")
        self._processes: list[asyncio.subprocess.Process] = []

    async def start(self, program: str, *arguments: object) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", program, str(self.daemon.socket_path), *map(str, arguments)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        self._processes.append(process)
        return process

    async def spawner(self, name: str, count: int, rect: Rect = PLACE) -> tuple[asyncio.subprocess.Process, list[int]]:
        """An admitted program that never registers itself, and its saturated children's pids."""
        process = await self.start(SPAWNER, name, self.folder, count)
        await self.daemon.admit(name, process.pid, HALF, rect)
        pids = [int(pid) for pid in (await line_of(process)).split()]
        await eventually(lambda: self.all_there(name, count))
        return process, pids

    async def seat(self, name: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = (await self.daemon.status())["instances"].get(name, {"pids": []})
        return found

    async def all_there(self, name: str, count: int) -> bool:
        return len((await self.seat(name))["pids"]) == count

    def holds(self, name: str, index: int) -> list[tuple[int, int, int]]:
        log = self.folder / f"{name}-{index}.holds"
        return read_log(log) if log.exists() else []

    async def works(self, name: str, index: int) -> None:
        since_ns = time.monotonic_ns()
        await eventually(lambda: any(start > since_ns for start, *_ in self.holds(name, index)))

    async def close(self) -> None:
        for process in self._processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        await self.daemon.stop()


@pytest.fixture
async def family(tmp_path: Path) -> AsyncIterator[Family]:
    family = Family(tmp_path)
    await family.daemon.start()
    try:
        yield family
    finally:
        await family.close()


async def line_of(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    return (await asyncio.wait_for(process.stdout.readline(), PATIENCE_S)).decode()


async def tell(process: asyncio.subprocess.Process, line: object) -> str:
    assert process.stdin is not None
    process.stdin.write(f"{line}\n".encode())
    return await line_of(process)


async def eventually(condition: Callable[[], bool | Awaitable[bool]]) -> None:
    """Wait for something that must come; the bound only ends a test that has failed."""
    give_up = time.monotonic() + PATIENCE_S
    while True:
        result = condition()
        if result if isinstance(result, bool) else await result:
            return
        assert time.monotonic() < give_up, "did not happen"
        await asyncio.sleep(0.02)


async def test_children_of_an_admitted_process_share_its_slot(family: Family) -> None:
    """Each comes to its turns, and never two at once: neither in their slot nor in what is lent to them."""
    _, pids = await family.spawner("first", 3)
    for index in range(3):
        await family.works("first", index)
    assert sorted((await family.seat("first"))["pids"]) == sorted(pids)
    marked = sorted((start, end) for index in range(3) for start, end, _ in family.holds("first", index))
    assert all(a[1] <= b[0] for a, b in pairwise(marked))
    entries = await family.daemon.windows(5)
    assert len({e.window_index for e in entries}) == len(entries)


async def test_a_child_that_ends_frees_its_cell_and_the_others_go_on(family: Family) -> None:
    _, pids = await family.spawner("first", 2)
    await family.works("first", 0)
    os.kill(pids[0], signal.SIGKILL)
    await eventually(lambda: family.all_there("first", 1))
    await family.works("first", 1)
    assert (await family.seat("first"))["fenced"] == ""


async def test_with_the_admitted_process_all_of_the_instance_has_ended(family: Family) -> None:
    process, pids = await family.spawner("first", 2)
    handles = [os.pidfd_open(pid) for pid in pids]
    process.kill()

    async def gone() -> bool:
        return (await family.daemon.status())["instances"] == {}

    await eventually(gone)
    for handle in handles:  # taken off the device, they end by themselves
        await eventually(lambda handle=handle: bool(select.select([handle], [], [], 0)[0]))  # type: ignore[misc]
        os.close(handle)
    await family.spawner("second", 1)
    await family.works("second", 0)


async def test_a_child_that_hangs_is_ended_and_the_others_go_on(family: Family) -> None:
    """M5: the daemon ends the process, not the program that started it."""
    process, pids = await family.spawner("first", 2)
    await family.works("first", 0)
    give_up = time.monotonic() + PATIENCE_S
    while not (await family.seat("first"))["fenced"]:
        assert time.monotonic() < give_up
        os.kill(pids[0], signal.SIGSTOP)
        stopped_ns = time.monotonic_ns()
        await asyncio.sleep(0.3)
        if any(start > stopped_ns for start, *_ in family.holds("first", 1)):  # it was caught without the token
            os.kill(pids[0], signal.SIGCONT)
            await asyncio.sleep(0.007)
            continue
        await eventually(lambda: family.all_there("first", 1))
    await family.works("first", 1)
    assert process.returncode is None
    assert "more than a window" in await family.daemon.verdict("first")


async def test_the_daemon_may_be_killed_and_all_processes_keep_their_cells(family: Family) -> None:
    """M6."""
    _, pids = await family.spawner("first", 3)
    before = await family.daemon.status()
    os.kill(family.daemon.pid, signal.SIGKILL)

    async def back() -> bool:
        status = await family.daemon.status()
        pids_now = status["instances"].get("first", {"pids": []})["pids"]
        return status["pid"] != before["pid"] and pids_now == before["instances"]["first"]["pids"]

    await eventually(back)
    for index in range(3):
        await family.works("first", index)
    os.kill(pids[1], signal.SIGKILL)
    await eventually(lambda: family.all_there("first", 2))


async def test_an_orphan_is_the_instances_if_it_descends_from_the_root(family: Family) -> None:
    (family.folder / "go").write_text("go\n")
    root = await family.start(ORPHAN, "first", family.folder)
    admitted = int(await line_of(root))
    await family.daemon.admit("first", admitted, HALF, PLACE, root=root.pid)
    await family.works("first", 0)


async def test_a_process_outside_of_the_family_is_not_let_in(family: Family) -> None:
    await family.spawner("first", 1)
    stranger = await family.start(SPAWNER, "first", family.folder, 1)
    await line_of(stranger)
    await asyncio.sleep(0.3)
    assert await family.all_there("first", 1)


async def test_the_memory_of_a_process_that_was_killed_is_free_again(family: Family) -> None:
    """M7: the cap is one for all of them, and counts who is there."""
    process = await family.start(ALLOCATES, "first", 300, ALLOCATES)
    await family.daemon.admit("first", process.pid, HALF, PLACE)
    child, answer = (await line_of(process)).split()
    assert (answer + "\n", await line_of(process)) == (ALLOWED, ALLOWED)
    assert await tell(process, 101) == OVER
    seat = await family.seat("first")
    assert (seat["mem_bytes"], seat["mem_peak_bytes"]) == (900, 900)
    os.kill(int(child), signal.SIGKILL)
    await eventually(lambda: family.all_there("first", 1))
    assert await tell(process, 700) == ALLOWED
    assert await tell(process, 1) == OVER


async def test_a_cap_is_lowered_and_raised_on_a_running_instance(family: Family) -> None:
    """M8: what it holds stays, it only gets no more."""
    process = await family.start(ALLOCATES, "first", 600, "")
    await family.daemon.admit("first", process.pid, HALF, PLACE)
    assert await line_of(process) == ALLOWED
    await family.daemon.place({"first": (Share(50, 0.5, 0.9, 500), PLACE)})
    assert await tell(process, 1) == OVER
    assert await tell(process, -101) == ALLOWED
    assert await tell(process, 1) == ALLOWED
    await family.daemon.place({"first": (Share(50, 0.5, 0.9, 700), PLACE)})
    assert await tell(process, 200) == ALLOWED
    assert await tell(process, 1) == OVER


async def test_a_process_may_knock_first_and_enter_later(family: Family) -> None:
    """The daemon lets it in meanwhile; what comes with the answer waits in the socket."""
    process = await family.start(KNOCKS, "first")
    await family.daemon.admit("first", process.pid, HALF, PLACE)
    assert await line_of(process) == "True\n"
    await eventually(lambda: family.all_there("first", 1))
    assert await tell(process, "enter") == "0 0\n"
    seat = await family.seat("first")
    assert seat["mem_bytes"] == 1


async def test_a_program_that_closes_our_descriptors_keeps_its_own_files(family: Family) -> None:
    """Nothing is written to, read from or closed under numbers that have become the program's."""
    process = await family.start(CLOSES, "first")
    await family.daemon.admit("first", process.pid, HALF, PLACE)
    assert await line_of(process) == "0\n"
    assert [await tell(process, "go"), await tell(process, "go"), await tell(process, "go")] == [
        "0\n",
        "0\n",
        "nothing else\n",
    ]
