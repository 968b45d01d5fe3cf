"""An instance and the real node daemon: it computes under tokens, on the cores of its rect."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from tests.runtime.running_instances import running

from fastgshare.dispatch.frames import Hello, Ready, encode
from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.functions import Function
from fastgshare.domain.rects import Rect
from fastgshare.domain.shares import Share
from fastgshare.manager.node import NodeDaemon
from fastgshare.spec.functions import dump

COUNTING = """
def count(request):
    return str(sum(range(200_000)))

count.sample = b""
"""


async def test_an_instance_computes_under_tokens_on_its_cores(
    tmp_path: Path, handler_file: Callable[[str], Path]
) -> None:
    cores = tuple(sorted(os.sched_getaffinity(0)))
    share = Share(100 / len(cores), 0.5, 1.0)
    rect = Rect(sm_offset=0.0, quota_offset=0.0, sm=share.sm_partition, quota=0.5)
    daemon = NodeDaemon([Device("cpu", DeviceKind.CPU, len(cores), sm_ids=cores)], tmp_path / "daemon")
    await daemon.start()
    try:
        with running() as instance:
            function = Function("f", share, handler=f"{handler_file(COUNTING)}:count")
            document = {"instance_id": "f-1", "function": dump(function), "threads": 1, "spin": False, "mem_bytes": 0}
            instance.peer.sendall(encode(Hello({**document, "daemon_socket": str(daemon.socket_path)})))
            await daemon.admit("f-1", instance.process.pid, share, rect)
            ready = await asyncio.to_thread(instance.receive)
            assert isinstance(ready, Ready)
            await daemon.set_burst("f-1", ready.burst_s)
            received_s = 0.0
            while not received_s:  # the ledger is written at the end of a window
                replies = await asyncio.to_thread(instance.ask, b"", b"")
                assert {reply.body for reply in replies} == {b"19999900000"}
                received_s = sum(entry.received_s for entry in await daemon.totals() if entry.instance_id == "f-1")
            assert os.sched_getaffinity(instance.process.pid) == {cores[0]}
            assert await asyncio.to_thread(instance.stop) == 0
    finally:
        await daemon.stop()
