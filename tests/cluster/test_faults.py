"""Faults of the work on a device: who suffers from them, and how soon who did is back. On stand-ins for GPUs."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import aiohttp
from tests.cluster.floods import FIRST, STANDIN, Platform, function, platform

from fastgshare.manager.mps import pipe_directory
from fastgshare.manager.mps_programs import left_behind


async def ask(p: Platform, name: str, body: bytes = b"x") -> tuple[int, bytes]:
    url = f"{p.running.server.url}/function/{name}"
    async with aiohttp.ClientSession() as session, session.post(url, data=body) as response:
        return response.status, await response.read()


async def back(p: Platform, name: str) -> float:
    """How long it takes until a function answers again, in seconds."""
    began_s = time.monotonic()
    while (await ask(p, name))[0] != 200:
        await p.until(lambda: p.instances(name) != [])
    return time.monotonic() - began_s


def mps(p: Platform, *, server: bool) -> list[int]:
    """Processes of the MPS of the first device's default trust group: servers, or control daemons."""
    folder = p.running.directory / "node" / "partitioner-0" / hashlib.sha256(b"default").hexdigest()[:8]
    pids = left_behind(pipe_directory(folder))
    return [pid for pid in pids if (b"mps-server" in Path(f"/proc/{pid}/cmdline").read_bytes()) == server]


async def test_a_fault_stays_in_its_trust_group_which_is_soon_back(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    async with platform(tmp_path, STANDIN) as p:
        await p.deploy(function("steady", group="good"), function("wild", group="bad"), function("mate", group="bad"))
        before = p.instances("steady")
        flood = await p.flood("steady")
        status, body = await ask(p, "wild", b"fault")
        assert (status, b"700" in body) == (500, True)
        seconds = {name: await back(p, name) for name in ("wild", "mate")}
        print(f"\nafter a fault, the faulty trust group answered again within {max(seconds.values()):.2f} s")
        record_property("back_s", seconds)
        await flood.more(20)
        assert p.instances("steady") == before
        assert p.instances("wild") == ["wild-2"]
        assert p.instances("mate") == ["mate-2"]
        await p.calm()
    assert set(flood.statuses) == {200}


async def test_others_of_the_group_answer_all_requests_and_wait_for_nothing(tmp_path: Path) -> None:
    async with platform(tmp_path, STANDIN) as p:
        await p.deploy(function("wild"), function("mate"))
        flood = await p.flood("mate")
        assert (await ask(p, "wild", b"fault"))[0] == 500
        await p.until(lambda: (p.instances("mate"), p.instances("wild")) == (["mate-2"], ["wild-2"]))
        await flood.more(10)
        assert (await ask(p, "wild", b"fault"))[0] == 500
        await p.until(lambda: p.instances("mate") == ["mate-3"] and p.problem("wild") != "")
        await flood.more(10)
        assert (p.problem("mate"), "attempt 3 of 6 follows" in p.problem("wild")) == ("", True)
        await p.calm()
    assert set(flood.statuses) == {200}


async def test_without_a_partitioner_a_fault_hits_one_process(tmp_path: Path) -> None:
    async with platform(tmp_path, STANDIN, partitioner="none") as p:
        await p.deploy(function("wild", sm=100), function("mate", sm=100))
        flood = await p.flood("mate")
        await ask(p, "wild", b"fault")
        await back(p, "wild")
        await flood.more()
        assert p.instances("mate") == ["mate-1"]
        await p.calm()
    assert set(flood.statuses) == {200}


async def test_a_killed_mps_server_costs_its_group_its_instances_and_no_request(tmp_path: Path) -> None:
    async with platform(tmp_path, STANDIN) as p:
        await p.deploy(function("f"))
        flood = await p.flood("f")
        (server,) = mps(p, server=True)
        os.kill(server, signal.SIGKILL)
        while p.instances("f") != ["f-2"]:
            await flood.more()
        await flood.more()
        assert mps(p, server=True) not in ([], [server])
        await p.calm()
    assert set(flood.statuses) <= {200, 500}


async def test_a_killed_mps_control_daemon_is_made_good_too(tmp_path: Path) -> None:
    async with platform(tmp_path, STANDIN) as p:
        await p.deploy(function("f"))
        flood = await p.flood("f")
        (control,) = mps(p, server=False)
        os.kill(control, signal.SIGKILL)
        while p.instances("f") != ["f-2"]:
            await flood.more()
        await flood.more()
        await p.calm()
        left = p.running.directory
    assert not [
        pid for folder in (left / "node").glob("partitioner-*/*") for pid in left_behind(pipe_directory(folder))
    ]


async def test_a_function_that_always_faults_is_given_up_and_harms_no_other_group(tmp_path: Path) -> None:
    async with platform(tmp_path, STANDIN) as p:
        await p.deploy(function("steady", group="good"), function("wild", group="bad"))
        flood = await p.flood("steady")
        await ask(p, "wild", b"fault")
        await p.until(lambda: p.instances("wild") == ["wild-2"])
        await ask(p, "wild", b"fault")
        await p.until(lambda: "attempt 3 of 6 follows" in p.problem("wild"))
        await flood.more()
        assert {s.placement.device_id for s in p.running.cluster.observe()} == {FIRST}
        await p.calm()
    assert set(flood.statuses) == {200}
