"""The node daemon with real processes, real kills and garbage on its socket. Nothing here asserts how long it takes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.errors import FastGShareError
from fastgshare.domain.rects import Rect
from fastgshare.domain.shares import Share
from fastgshare.manager import layout
from fastgshare.manager.node import NodeDaemon
from fastgshare.manager.saturation import read_log
from fastgshare.manager.trial import ABSTRACT

HALF = Share(100, 0.5, 0.5)
FIRST, SECOND = Rect(0, 0, 100, 0.5), Rect(0, 0.5, 100, 0.5)
PATIENCE_S = 20.0


@dataclass
class Worker:
    """A saturated instance in a process of its own."""

    id: str
    process: asyncio.subprocess.Process
    log: Path

    def holds(self) -> list[tuple[int, int, int]]:
        return read_log(self.log) if self.log.exists() else []

    def held_since(self, since_ns: int) -> int:
        return sum(1 for start, *_ in self.holds() if start > since_ns)


class Node:
    """A daemon and workers, all of which end with the test."""

    def __init__(self, directory: Path, *devices: Device) -> None:
        self.daemon = NodeDaemon(devices or (ABSTRACT,), directory)
        self.directory = directory
        self.workers: list[Worker] = []

    async def worker(
        self,
        name: str,
        share: Share,
        rect: Rect | None,
        burst_s: float = 0.0,
        *,
        program: str = "",
        declared: bool = True,
        device_id: str = "",
        group: str = "",
    ) -> Worker:
        log = self.directory / f"{name}.holds"
        command = ["-c", program] if program else ["-m", "fastgshare.manager.saturation"]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, *command, "--socket", str(self.daemon.socket_path), "--instance", name),
            *("--burst-s", str(burst_s), "--log", str(log)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        worker = Worker(name, process, log)
        self.workers.append(worker)
        await self.daemon.admit(
            *(name, process.pid, share, rect, burst_s), declared=declared, device_id=device_id, group=group
        )
        assert process.stdout is not None and process.stdin is not None
        assert (await asyncio.wait_for(process.stdout.readline(), PATIENCE_S)).strip() == b"ready"
        process.stdin.write(b"go\n")
        return worker

    async def close(self) -> None:
        for worker in self.workers:
            with suppress(ProcessLookupError):
                worker.process.kill()
            await worker.process.wait()
        await self.daemon.stop()


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    node = Node(tmp_path)
    await node.daemon.start()
    try:
        yield node
    finally:
        await node.close()


async def eventually(condition: Callable[[], bool | Awaitable[bool]]) -> None:
    """Wait for something that must come; the bound only ends a test that has failed."""
    give_up = time.monotonic() + PATIENCE_S
    while True:
        result = condition()
        if result if isinstance(result, bool) else await result:
            return
        assert time.monotonic() < give_up, "did not happen"
        await asyncio.sleep(0.02)


async def works_on(worker: Worker, grants: int = 5) -> None:
    since = time.monotonic_ns()
    await eventually(lambda: worker.held_since(since) >= grants)


def assert_never_at_once(first: Worker, second: Worker) -> None:
    """M1 for two that need the whole device."""
    marked = sorted((start, end) for worker in (first, second) for start, end, _ in worker.holds())
    assert all(a[1] <= b[0] for a, b in pairwise(marked))


async def test_two_instances_take_turns(node: Node) -> None:
    first = await node.worker("first", HALF, FIRST)
    second = await node.worker("second", HALF, SECOND, burst_s=0.002)
    await works_on(first)
    await works_on(second)
    assert_never_at_once(first, second)
    entries = await node.daemon.windows(3)
    assert {e.instance_id for e in entries} == {"first", "second"}
    assert all(0 <= e.received_s <= e.window_s for e in entries)


async def test_a_killed_instance_frees_the_device(node: Node) -> None:
    """M5: killed while it works."""
    first = await node.worker("first", HALF, FIRST)
    second = await node.worker("second", HALF, SECOND)
    await works_on(first)
    first.process.kill()
    await works_on(second)

    async def gone() -> bool:
        return "first" not in (await node.daemon.status())["instances"]

    await eventually(gone)


@pytest.mark.parametrize("declared", [True, False])
async def test_a_hung_instance_is_ended(node: Node, declared: bool) -> None:
    """M5: stopped while it holds the token, it is fenced, and its neighbour goes on."""
    first = await node.worker("first", HALF, FIRST, burst_s=0.02, declared=declared)
    second = await node.worker("second", HALF, SECOND)
    await works_on(first)
    await works_on(second)
    await _stop_while_holding(node, first, second)
    await asyncio.wait_for(first.process.wait(), PATIENCE_S)
    assert first.process.returncode == -signal.SIGKILL
    assert "more than a window" in await node.daemon.verdict("first")
    assert await node.daemon.verdict("second") == ""
    await works_on(second)


async def _stop_while_holding(node: Node, worker: Worker, neighbour: Worker) -> None:
    """SIGSTOP a worker until it is caught with a token: then its neighbour stays without."""
    give_up = time.monotonic() + PATIENCE_S
    while time.monotonic() < give_up:
        worker.process.send_signal(signal.SIGSTOP)
        stopped_ns = time.monotonic_ns()
        await asyncio.sleep(0.2)
        if worker.process.returncode is not None or not neighbour.held_since(stopped_ns):
            return
        worker.process.send_signal(signal.SIGCONT)
        await asyncio.sleep(0.007)


LIAR = """
import os, sys, time
from pathlib import Path
from fastgshare.manager.gate import Gate
arguments = dict(zip(sys.argv[1::2], sys.argv[2::2]))
gate = Gate(Path(arguments["--socket"]), arguments["--instance"])
print("ready", flush=True)
sys.stdin.readline()
gate.acquire(0.0)
gate.release()
while True:
    sum(range(10000))
"""


async def test_an_instance_that_computes_without_a_token_is_ended(tmp_path: Path) -> None:
    """M5 on the CPU: its CPU time is held against its tokens."""
    core = min(os.sched_getaffinity(0))
    node = Node(tmp_path, Device("cpu", DeviceKind.CPU, 1, 0, (core,)))
    await node.daemon.start()
    try:
        liar = await node.worker("liar", HALF, FIRST, program=LIAR)
        await asyncio.wait_for(liar.process.wait(), PATIENCE_S)
        assert liar.process.returncode == -signal.SIGKILL
    finally:
        await node.close()


async def test_the_daemon_can_be_killed_at_any_moment(node: Node) -> None:
    """M6: instances work on without it, and its successor takes them back with the cells they have."""
    first = await node.worker("first", HALF, FIRST)
    second = await node.worker("second", HALF, SECOND, burst_s=0.002)
    for _ in range(3):
        await works_on(first)
        before = await node.daemon.status()
        os.kill(node.daemon.pid, signal.SIGKILL)
        await works_on(first, 2)
        await works_on(second, 2)
        await eventually(partial(_taken_back, node, before["pid"]))
    await works_on(second)
    assert_never_at_once(first, second)
    assert node.daemon.restarts == 3


async def _taken_back(node: Node, former_pid: int) -> bool:
    status = await node.daemon.status()
    cells = {name: seat["index"] for name, seat in status["instances"].items()}
    return status["pid"] != former_pid and cells == {"first": 0, "second": 1}


async def test_nobody_gets_a_slot_twice_while_the_daemon_is_replaced(node: Node) -> None:
    """An instance that comes while the successor waits for its predecessor's gets a cell of its own."""
    first = await node.worker("first", Share(100, 0.3, 0.3), Rect(0, 0, 100, 0.3))
    await works_on(first)
    os.kill(node.daemon.pid, signal.SIGKILL)
    second = await node.worker("second", Share(100, 0.5, 0.5), Rect(0, 0.3, 100, 0.5))
    await works_on(first)
    await works_on(second)
    assert_never_at_once(first, second)
    seats = (await node.daemon.status())["instances"]
    assert seats["first"]["index"] != seats["second"]["index"]


@pytest.mark.parametrize(
    "garbage",
    [
        b"\0",
        b"garbage" * 100,
        b'{"op": 3}',
        b"{not json",
        b"{}",
        b"\xff" * layout.HELLO.size,
        layout.HELLO.pack(layout.HELLO_MAGIC, 99, 1, 0, 0, b"x"),
        layout.HELLO.pack(layout.HELLO_MAGIC, layout.VERSION, 7, 0, 0, b"x"),
        layout.HELLO.pack(layout.HELLO_MAGIC, layout.VERSION, layout.READOPT, 63, 0, b"first"),
        layout.HELLO.pack(layout.HELLO_MAGIC, layout.VERSION, layout.REGISTER, 0, 0, b"\xff\xfe"),
    ],
)
async def test_a_malformed_message_costs_its_sender_the_connection(node: Node, garbage: bytes) -> None:
    first = await node.worker("first", HALF, FIRST)
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with peer:
        peer.settimeout(PATIENCE_S)
        peer.connect(str(node.daemon.socket_path))
        peer.send(garbage)
        assert peer.recv(100) == b""
    await works_on(first, 2)
    assert node.daemon.restarts == 0


SHARE = [100, 0.5, 0.5, 0]
DEEP = b'{"op":' + b"[" * 50_000 + b"]" * 50_000 + b"}"


@pytest.mark.parametrize(
    "command",
    [
        {"op": "windows", "last": float("nan")},
        {"op": "windows", "last": -1},
        {"op": "windows", "last": "many"},
        {"op": "place", "changes": {"first": 3}},
        {"op": "place", "changes": [1]},
        {"op": "admit", "instance_id": "x", "pid": 2**40, "burst_s": 0, "share": SHARE, "rect": None},
        {"op": "admit", "instance_id": "x", "pid": 1.5, "burst_s": float("inf"), "share": SHARE, "rect": None},
        {"op": "admit", "instance_id": "x", "pid": -1, "burst_s": 0, "share": SHARE, "rect": None},
        {"op": "admit", "instance_id": "x", "pid": 1, "burst_s": -1, "share": SHARE, "rect": None},
        {"op": "admit", "instance_id": "x", "pid": 1, "burst_s": 0, "share": SHARE, "rect": [-5, 0, 100, 0.5]},
        {"op": "admit", "instance_id": "x", "pid": 1, "burst_s": 0, "share": SHARE, "rect": [50, 0, 100, 0.5]},
        {"op": "admit", "instance_id": "x" * 200, "pid": 1, "burst_s": 0, "share": SHARE, "rect": None},
        {"op": "admit", "instance_id": "x", "pid": 1, "burst_s": 0, "share": [100, 0.5, None, 0], "rect": None},
        {"op": "set_burst", "instance_id": "first", "burst_s": 1e300},
        {"op": "explode"},
    ],
)
async def test_a_wrong_command_is_answered_and_harms_nobody(node: Node, command: dict[str, object]) -> None:
    first = await node.worker("first", HALF, FIRST)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as peer:
        peer.settimeout(PATIENCE_S)
        peer.connect(str(node.daemon.socket_path))
        peer.send(json.dumps(command).encode())
        reply = json.loads(peer.recv(100_000))
        assert not reply["ok"] and "is not allowed; allowed: " in reply["error"]
        peer.send(DEEP)
        assert peer.recv(100) == b""
    await works_on(first, 2)
    assert node.daemon.restarts == 0


async def test_a_flood_of_connections_locks_nobody_out(node: Node) -> None:
    first = await node.worker("first", HALF, FIRST)
    flood = []
    try:
        for _ in range(300):
            peer = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            peer.setblocking(False)
            flood.append(peer)
            with suppress(BlockingIOError):
                peer.connect(str(node.daemon.socket_path))
        await node.worker("second", HALF, SECOND)
    finally:
        for peer in flood:
            peer.close()
    await works_on(first, 2)
    assert node.daemon.restarts == 0


async def test_who_gives_up_on_a_command_leaves_no_answer_for_the_next(node: Node) -> None:
    await node.worker("first", HALF, FIRST)
    for _ in range(5):
        asking = asyncio.ensure_future(node.daemon.totals())
        await asyncio.sleep(0)
        asking.cancel()
        with suppress(asyncio.CancelledError):
            await asking
        assert await node.daemon.window()


async def test_an_instance_taken_off_the_device_gets_no_more_tokens(node: Node) -> None:
    first = await node.worker("first", HALF, FIRST)
    second = await node.worker("second", HALF, SECOND)
    await works_on(first)
    await node.daemon.remove("first")
    assert await asyncio.wait_for(first.process.wait(), PATIENCE_S) != 0  # told so, and ended by itself
    await works_on(second)


WIDE = """
import ctypes, sys, time
from pathlib import Path
from fastgshare.manager.gate import Gate
arguments = dict(zip(sys.argv[1::2], sys.argv[2::2]))
gate = Gate(Path(arguments["--socket"]), arguments["--instance"])
print("ready", flush=True)
sys.stdin.readline()
for line in Path("/proc/self/maps").read_text().splitlines():
    if "fastgshare-page" in line and " rw-s " in line:
        start = int(line.split("-")[0], 16)
        ctypes.c_uint64.from_address(start + 16).value = {state} | 0 << 8 | 100_000 << 32
time.sleep(60)
"""


@pytest.mark.parametrize("state", [1, 2])
async def test_who_claims_more_than_its_share_is_ended(node: Node, state: int) -> None:
    """M5: holding or about to; a word that blocks others counts, whatever else the page says."""
    honest = await node.worker("honest", Share(50, 0.5, 0.5), Rect(0, 0, 50, 0.5))
    program = WIDE.replace("{state}", str(state))
    liar = await node.worker("liar", Share(10, 1.0, 1.0), Rect(90, 0, 10, 1.0), program=program)
    assert await asyncio.wait_for(liar.process.wait(), PATIENCE_S) == -signal.SIGKILL
    await works_on(honest)


async def test_who_was_not_admitted_is_not_let_in_under_anothers_name(node: Node) -> None:
    first = await node.worker("first", HALF, FIRST)
    hello = layout.HELLO.pack(layout.HELLO_MAGIC, layout.VERSION, layout.REGISTER, 0, 0, b"first")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as peer:
        peer.settimeout(0.3)
        peer.connect(str(node.daemon.socket_path))
        peer.send(hello)
        with pytest.raises(TimeoutError):
            peer.recv(200)
    await works_on(first, 2)


async def test_commands_are_refused_with_the_field_and_what_is_allowed(node: Node) -> None:
    with pytest.raises(FastGShareError, match=r"pid: 4194303 is not allowed; allowed: a running process"):
        await node.daemon.admit("ghost", 4194303, HALF, FIRST)
    with pytest.raises(FastGShareError, match="instance 'ghost' does not exist"):
        await node.daemon.place({"ghost": (HALF, FIRST)})


async def test_a_quota_is_changed_on_a_running_instance(node: Node) -> None:
    """M8: the same process goes on, with the new share in the ledger."""
    worker = await node.worker("worker", Share(50, 0.2, 0.2), Rect(0, 0, 50, 0.2))
    await works_on(worker)
    await node.daemon.place({"worker": (Share(50, 0.6, 0.6), Rect(0, 0.1, 50, 0.6))})
    await works_on(worker)

    async def entitled() -> bool:
        entries = await node.daemon.windows(1)
        return bool(entries) and abs(entries[-1].entitled_s - 0.6 * entries[-1].window_s) < 1e-9

    await eventually(entitled)
    assert worker.process.returncode is None


async def test_the_ledger_is_a_file_too(node: Node) -> None:
    """M9: nobody has to believe the daemon's word."""
    await node.worker("first", HALF, FIRST)
    path = node.directory / "ledger.csv"
    await eventually(lambda: path.exists() and len(path.read_text().splitlines()) > 10)
    header, *rows = path.read_text().splitlines()
    assert header.startswith("window_index,window_start_s,window_s,instance_id,sm_partition,entitled_s,received_s")
    assert all(row.count(",") == header.count(",") for row in rows[:-1])


async def test_a_successor_goes_on_with_the_ledger_where_it_was(node: Node) -> None:
    """M9: no window is booked twice, and none stands for all the past."""
    first = await node.worker("first", HALF, FIRST)
    await works_on(first)
    before, (epoch_ns, window_s) = await node.daemon.status(), await node.daemon.window()
    os.kill(node.daemon.pid, signal.SIGKILL)

    async def booked_again() -> bool:
        return (await node.daemon.status())["pid"] != before["pid"] and len(await node.daemon.windows(5)) == 5

    await eventually(booked_again)
    entries = await node.daemon.windows(100)
    assert all(e.window_s <= window_s + 1e-9 for e in entries)
    assert (await node.daemon.window())[0] == epoch_ns


async def test_nothing_is_left_behind(tmp_path: Path) -> None:
    node = Node(tmp_path)
    await node.daemon.start()
    pid = node.daemon.pid
    await node.worker("first", HALF, FIRST)
    await node.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert set(os.listdir(tmp_path)) <= {"ledger.csv", "first.holds"}  # noqa: PTH208 - nothing else runs here


GPUS = (Device("gpu-0", DeviceKind.STANDIN, 132), Device("gpu-1", DeviceKind.STANDIN, 132))


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[Node]:
    """A daemon of two devices."""
    node = Node(tmp_path, *GPUS)
    await node.daemon.start()
    try:
        yield node
    finally:
        await node.close()


async def test_instances_of_two_devices_do_not_wait_for_each_other(two: Node) -> None:
    most = Share(100, 0.9, 0.9)
    one = await two.worker("one", most, Rect(0, 0, 100, 0.9), device_id="gpu-0")
    other = await two.worker("other", most, Rect(0, 0, 100, 0.9), device_id="gpu-1")
    await works_on(one)
    await works_on(other)
    status = await two.daemon.status()
    assert {name: seat["device_id"] for name, seat in status["instances"].items()} == {"one": "gpu-0", "other": "gpu-1"}
    assert set(status["devices"]) == {"gpu-0", "gpu-1"}
    totals = {entry.instance_id: entry for entry in await two.daemon.totals()}
    assert totals.keys() == {"one", "other"}


async def test_an_unknown_device_is_refused_by_name(two: Node) -> None:
    with pytest.raises(FastGShareError, match="device_id: 'gpu-9' is not allowed; allowed: gpu-0, gpu-1"):
        await two.worker("one", HALF, FIRST, device_id="gpu-9")


async def test_an_instance_stays_on_the_device_it_was_admitted_to(two: Node) -> None:
    one = await two.worker("one", HALF, FIRST, device_id="gpu-1")
    with pytest.raises(FastGShareError, match="gpu-1, where instance one is"):
        await two.daemon.admit("one", one.process.pid, HALF, FIRST, device_id="gpu-0")


async def test_a_successor_takes_over_all_devices(two: Node) -> None:
    """M6, with a device that nobody is on beside one that somebody is on."""
    one = await two.worker("one", HALF, FIRST, device_id="gpu-1")
    await works_on(one)
    former = two.daemon.pid
    os.kill(former, signal.SIGKILL)

    async def taken_back() -> bool:
        status = await two.daemon.status()
        seat = status["instances"].get("one", {"index": -1, "device_id": ""})
        return status["pid"] != former and (seat["index"], seat["device_id"]) == (0, "gpu-1")

    await eventually(taken_back)
    await works_on(one)
    other = await two.worker("other", HALF, FIRST, device_id="gpu-0")
    await works_on(other)


async def test_slots_of_two_groups_never_overlap_in_real_time(two: Node) -> None:
    """On SMs apart, at the same time of the window: the claims of either keep the other out."""
    thirty = Share(30, 0.5, 0.5)
    a = await two.worker("a", thirty, Rect(0, 0, 30, 0.5), 0.002, group="a")
    b = await two.worker("b", thirty, Rect(30, 0.25, 30, 0.5), 0.002, group="b")
    await works_on(a)
    await works_on(b)
    await asyncio.sleep(0.5)
    holds = sorted([(*hold[:2], "a") for hold in a.holds()] + [(*hold[:2], "b") for hold in b.holds()])
    assert {who for *_, who in holds} == {"a", "b"}
    assert all(one[1] <= other[0] or one[2] == other[2] for one, other in pairwise(holds))
