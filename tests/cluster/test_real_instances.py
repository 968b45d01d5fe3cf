"""The cluster, the node daemon and the runtime together: all real processes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fastgshare.cluster.devices import cpu_device
from fastgshare.cluster.local import LocalCluster
from fastgshare.domain.errors import InstanceFailed, InstanceLost
from fastgshare.domain.functions import Function
from fastgshare.domain.instances import Instance
from fastgshare.domain.rects import Placement, Rect
from fastgshare.domain.requests import Request
from fastgshare.domain.shares import Share
from fastgshare.manager.node import NodeDaemon

DEVICE = cpu_device()
HANDLER = """
import ctypes, json, os, sys

def describe(request):
    if request.body == b"exit":
        os._exit(7)
    if request.body == b"raise":
        raise ValueError("no such thing")
    print("asked for", request.path)
    return {"cores": sorted(os.sched_getaffinity(0)), "pid": os.getpid(), "path": request.path}

def hog(request):
    return str(len(bytearray(int(request.body))))
"""


@pytest.fixture
def code(tmp_path: Path) -> Path:
    path = tmp_path / "handler.py"
    path.write_text(HANDLER)
    return path


@contextlib.asynccontextmanager
async def machine(directory: Path) -> AsyncIterator[tuple[LocalCluster, NodeDaemon]]:
    daemon = NodeDaemon([DEVICE], directory / "node")
    await daemon.start()
    try:
        async with asyncio.timeout(100), LocalCluster([DEVICE], daemon=daemon) as cluster:
            yield cluster, daemon
    finally:
        await daemon.stop()


def instance(id: str, handler: str, *, sm_offset: float = 0.0, offset: float = 0.0, mem_bytes: int = 0) -> Instance:
    function = Function("f", Share(DEVICE.sm_step, 0.4, 0.5, mem_bytes), handler=handler)
    return Instance(id, function, Placement(id, DEVICE.id, Rect(sm_offset, offset, DEVICE.sm_step, 0.4)))


def request(body: bytes = b"", id: int = 1) -> Request:
    now_s = time.monotonic()
    return Request(id, "f", body, now_s, now_s + 30, path="/x")


async def ask(cluster: LocalCluster, instance_id: str, body: bytes = b"") -> tuple[int, bytes]:
    (reply,) = await cluster.send(instance_id, [request(body)])
    return reply.status, reply.body


async def until_ledger_has(daemon: NodeDaemon, ids: set[str]) -> None:
    """The daemon writes its ledger window by window."""
    async with asyncio.timeout(20):
        while {entry.instance_id for entry in await daemon.totals()} != ids:  # noqa: ASYNC110  # in another process
            await asyncio.sleep(0.01)


async def test_instances_answer_on_the_cores_of_their_rects(tmp_path: Path, code: Path) -> None:
    async with machine(tmp_path) as (cluster, daemon):
        last = DEVICE.sm_count - 1
        await cluster.start(instance("f-1", f"{code}:describe"))
        await cluster.start(instance("f-2", f"{code}:describe", sm_offset=last * DEVICE.sm_step, offset=0.5))
        for id, core in (("f-1", DEVICE.sm_ids[0]), ("f-2", DEVICE.sm_ids[last])):
            status, body = await ask(cluster, id)
            found = json.loads(body)
            assert (status, found["cores"], found["path"]) == (200, [core], "/x")
        await until_ledger_has(daemon, {"f-1", "f-2"})
        assert "asked for /x" in [line.text for line in cluster.logs("f", 100)]


async def test_a_handler_that_raises_harms_nobody_and_one_that_exits_only_itself(tmp_path: Path, code: Path) -> None:
    async with machine(tmp_path) as (cluster, _):
        await cluster.start(instance("f-1", f"{code}:describe"))
        status, body = await ask(cluster, "f-1", b"raise")
        assert (status, b"no such thing" in body) == (500, True)
        assert (await ask(cluster, "f-1"))[0] == 200
        with pytest.raises(InstanceLost, match="exit status 7"):
            await ask(cluster, "f-1", b"exit")


async def test_the_daemon_may_be_killed_and_no_request_is_lost(tmp_path: Path, code: Path) -> None:
    async with machine(tmp_path) as (cluster, daemon):
        await cluster.start(instance("f-1", f"{code}:describe"))
        os.kill(daemon.pid, signal.SIGKILL)
        for _ in range(20):
            assert (await ask(cluster, "f-1"))[0] == 200
        await cluster.start(instance("f-2", f"{code}:describe", offset=0.5))
        assert (await ask(cluster, "f-2"))[0] == 200
        await cluster.stop("f-1", drain_s=5)
        await until_ledger_has(daemon, {"f-2"})


async def test_a_slot_moves_while_requests_go_on(tmp_path: Path, code: Path) -> None:
    async with machine(tmp_path) as (cluster, _):
        first = instance("f-1", f"{code}:describe")
        await cluster.start(first)
        moved = Placement("f-1", DEVICE.id, Rect(0.0, 0.5, DEVICE.sm_step, 0.2))
        requests = [asyncio.create_task(ask(cluster, "f-1")) for _ in range(5)]
        await cluster.resize({"f-1": (Share(DEVICE.sm_step, 0.2, 0.3), moved)})
        assert [(await task)[0] for task in requests] == [200] * 5
        assert cluster.observe()[0].placement == moved


async def test_memory_beyond_the_cap_is_an_error_inside(tmp_path: Path, code: Path) -> None:
    async with machine(tmp_path) as (cluster, _):
        await cluster.start(instance("f-1", f"{code}:hog", mem_bytes=512 * 2**20))
        status, body = await ask(cluster, "f-1", str(2**30).encode())
        assert (status, b"MemoryError" in body) == (500, True)
        assert await ask(cluster, "f-1", b"1000") == (200, b"1000")


@pytest.mark.parametrize(
    ("handler", "reason"),
    [("{code}:none", "none"), ("/nowhere/h.py:f", "/nowhere/h.py"), ("{folder}/broken.py:f", "SyntaxError")],
)
async def test_a_handler_that_cannot_be_loaded_says_why(tmp_path: Path, code: Path, handler: str, reason: str) -> None:
    (tmp_path / "broken.py").write_text("def f(:\n")
    async with machine(tmp_path) as (cluster, _):
        with pytest.raises(InstanceFailed, match=reason):
            await cluster.start(instance("f-1", handler.format(code=code, folder=tmp_path)))


PARENT = """
import asyncio, sys
from pathlib import Path
from fastgshare.cluster.local import LocalCluster
from tests.cluster.test_real_instances import DEVICE, instance

async def main():
    async with LocalCluster([DEVICE]) as cluster:
        await cluster.start(instance("f-1", sys.argv[1] + ":describe"))
        print(cluster.observe()[0].pid, flush=True)
        await asyncio.sleep(1000)

asyncio.run(main())
"""


async def test_kill_9_of_the_platform_leaves_no_instance(code: Path) -> None:
    arguments = (sys.executable, "-c", PARENT, str(code))
    parent = await asyncio.create_subprocess_exec(*arguments, stdout=asyncio.subprocess.PIPE)
    assert parent.stdout is not None
    pidfd = os.pidfd_open(int(await parent.stdout.readline()))
    parent.kill()
    await parent.wait()
    ended, _, _ = await asyncio.to_thread(select.select, [pidfd], [], [], 20)
    os.close(pidfd)
    assert ended
