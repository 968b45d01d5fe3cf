"""The platform on several stand-ins for GPUs, which are lost while requests go on."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.cluster.floods import FIRST, HANDLER, PATIENCE_S, SECOND, STANDIN, Platform, function, platform

from fastgshare.domain.functions import Function
from fastgshare.domain.shares import Share
from fastgshare.native import library


async def test_devices_are_filled_in_order_and_one_daemon_keeps_them_all(tmp_path: Path) -> None:
    async with platform(tmp_path, STANDIN, STANDIN) as p:
        await p.deploy(function("f", sm=100, replicas=3))
        assert sorted(p.where("f")) == [FIRST, FIRST, SECOND]
        seats = (await p.running.daemon.status())["instances"]
        assert sorted(seat["device_id"] for seat in seats.values()) == [FIRST, FIRST, SECOND]
        assert len(list((tmp_path / "state" / "node").glob("standin*.state"))) == 2
    assert not list((tmp_path / "state" / "node").glob("standin*.state"))


async def test_all_requests_are_answered_when_a_device_is_lost(tmp_path: Path) -> None:
    async with platform(tmp_path, STANDIN, STANDIN) as p:
        await p.deploy(function("f", replicas=2))
        assert set(p.where("f")) == {FIRST}
        floods = [await p.flood("f") for _ in range(4)]
        p.running.cluster.lose(FIRST, "it fell off the bus")
        await floods[0].more(10)
        await p.running.controller.settled("f", PATIENCE_S)
        assert p.where("f") == [SECOND, SECOND]
        await p.calm()
    assert {status for flood in floods for status in flood.statuses} == {200}


async def test_nobody_waits_for_an_instance_that_has_to_leave_a_device(tmp_path: Path) -> None:
    async with platform(tmp_path, STANDIN, "cpu") as p:
        share = Share(100, 0.2, 0.2)
        await p.deploy(Function("plain", share, handler=HANDLER.replace("Spinner", "echo")))
        assert p.where("plain") == [FIRST]
        flood = await p.flood("plain")
        p.running.cluster.drain(FIRST, "its memory has errors")
        await p.running.controller.settled("plain", PATIENCE_S)
        assert p.where("plain") == ["cpu"]
        await flood.more()
        await p.calm()
    assert set(flood.statuses) == {200}


async def say_xid(p: Platform, device: str, *words: str) -> None:
    """Have a stand-in log an error, and perhaps fall off the bus."""
    state = p.running.directory / "node" / ("standin.state" if device == FIRST else "standin-1.state")
    process = await asyncio.create_subprocess_exec(str(library("standin/bin/standin-fault")), str(state), *words)
    assert await process.wait() == 0


async def test_a_device_that_falls_off_the_bus_is_noticed_and_made_good(tmp_path: Path) -> None:
    async with platform(tmp_path, STANDIN, STANDIN) as p:
        await p.deploy(function("f", replicas=2))
        closed: list[tuple[str, str, str]] = []
        p.running.cluster.watch_devices(lambda *news: closed.append(news))
        flood = await p.flood("f")
        await say_xid(p, FIRST, "xid=79", "lose")
        await p.until(lambda: p.where("f") == [SECOND, SECOND])
        ((device_id, fate, reason),) = closed
        assert (device_id, fate) == (FIRST, "lost")
        assert "XID 79 (the device fell off the bus)" in reason
        assert p.running.watches.reading(FIRST).lost
        await flood.more()
        await p.calm()
    assert set(flood.statuses) <= {200, 500}  # 500: what a handler saw of it, before anybody knew


async def test_an_xid_drains_a_device_if_that_is_what_it_asks_for(tmp_path: Path) -> None:
    async with platform(tmp_path, STANDIN, STANDIN) as p:
        await p.deploy(function("f"))
        flood = await p.flood("f")
        await say_xid(p, FIRST, "xid=31")
        await p.until(lambda: bool(p.running.watches.xid_counts()[FIRST]))
        assert len(p.running.cluster.devices()) == 2
        await say_xid(p, FIRST, "xid=48")
        await p.until(lambda: p.where("f") == [SECOND])
        await flood.more()
        await p.calm()
    assert set(flood.statuses) == {200}
