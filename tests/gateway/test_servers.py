from __future__ import annotations

import asyncio
import socket

import aiohttp
import pytest
from aiohttp import web

from fastgshare.domain.errors import InvalidValue
from fastgshare.gateway.clocks import MonotonicClock
from fastgshare.gateway.servers import Server
from fastgshare.testing.gateway import function, running_gateway


async def test_an_address_in_use_is_one_clear_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InvalidValue, match=rf"listen: '127.0.0.1:{port}' is not allowed; .* listens there already"):
            await Server(web.Application(), "127.0.0.1", port).start()


@pytest.mark.parametrize(
    ("host", "port", "said"), [("192.0.2.1", 0, "address of this machine"), ("127.0.0.1", 70000, "0 to 65535")]
)
async def test_an_address_that_cannot_be_is_one_clear_error(host: str, port: int, said: str) -> None:
    with pytest.raises(InvalidValue, match=said):
        await Server(web.Application(), host, port).start()


async def test_a_server_may_be_stopped_twice_and_its_port_is_free_again() -> None:
    server = Server(web.Application(), "127.0.0.1", 0)
    await server.start()
    await server.stop()
    await server.stop()
    async with Server(web.Application(), "127.0.0.1", server.port) as again:
        assert again.url == f"http://127.0.0.1:{server.port}"


async def test_when_it_stops_what_is_here_is_answered() -> None:
    async with running_gateway(answer_s=1.0, drain_s=10.0) as g:
        await g.platform.deploy(function())
        asked = g.ask("POST", "/function/f", data=b"x")
        await g.arrived("f", 1)
        stopping = asyncio.create_task(g.server.stop())
        await g.clock.settle()
        await g.clock.advance(1.0)
        assert (await asked).status == 200
        await stopping
        with pytest.raises(aiohttp.ClientConnectionError):
            await g.ask("GET", "/healthz")


async def test_when_it_must_stop_who_waits_is_told() -> None:
    async with running_gateway(answer_s=100.0) as g:
        await g.platform.deploy(function())
        asked = [g.ask("POST", "/function/f", data=b"x") for _ in range(5)]
        await g.arrived("f", 5)
        await g.server.stop()
        assert [answer.status for answer in await asyncio.gather(*asked)] == [503] * 5


async def test_the_live_clock_does_not_go_back_and_wakes_in_time() -> None:
    clock = MonotonicClock()
    before = clock.now()
    await clock.sleep_until(before - 1.0)
    await clock.sleep_until(before + 0.001)
    assert clock.now() >= before
