"""How much the gateway costs: requests per second on one core, beside a web handler that does nothing.

Both are served by aiohttp in processes of their own, in turn, under the same closed loop; the instances behind the
gateway are in memory and answer at once, so it is the way there and back that is measured. Rounds alternate, medians
count. CPU time per request is what each process used; unlike the rates it hardly depends on what else runs here.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import statistics
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from aiohttp import web

from fastgshare.gateway.applications import create_app
from fastgshare.gateway.clocks import MonotonicClock
from fastgshare.gateway.servers import Server
from fastgshare.testing.clusters import FakeCluster
from fastgshare.testing.gateway import DEVICE, FakePlatform, function

_START_S: Final = 20.0
_WARM_UP_S: Final = 0.3
_INSTANCES: Final = 16
_LENGTH: Final = b"content-length: "


@dataclass(frozen=True, slots=True)
class Load:
    """A closed loop: so many connections, each with one request under way, for so long."""

    connections: int
    body_bytes: int
    seconds: float


class Caller(asyncio.Protocol):
    """One connection that asks again as soon as it is answered. answered, failed: how many times."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        self.answered = 0
        self.failed = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the first time."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Ask again once the answer is complete."""
        self._buffer += data
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0 or len(self._buffer) < head + 4 + self._body_bytes(self._buffer[:head].lower()):
            return
        self.answered += 1
        self.failed += not self._buffer.startswith(b"HTTP/1.1 200")
        self._buffer = b""
        assert self._transport is not None
        self._transport.write(self._request)

    def stop(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.abort()

    def _body_bytes(self, head: bytes) -> int:
        at = head.index(_LENGTH) + len(_LENGTH)
        return int(head[at:].split(b"\r\n", 1)[0])


@dataclass(frozen=True, slots=True)
class Served:
    """A server's process and the port that it listens on."""

    pid: int
    port: int

    def cpu_s(self) -> float:
        """CPU time that its event loop has used."""
        return int(Path(f"/proc/{self.pid}/schedstat").read_text().split()[0]) / 1e9


@dataclass(frozen=True, slots=True)
class Pace:
    """Requests answered per second, and CPU time for each, in microseconds."""

    rps: float
    cpu_us: float


async def measure(server: Served, load: Load) -> Pace:
    """Run a load against a server. Raises RuntimeError if a request fails."""
    body = bytes(load.body_bytes)
    head = f"POST /function/f HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nContent-Length: {len(body)}\r\n\r\n"
    loop = asyncio.get_running_loop()
    callers = [Caller(head.encode() + body) for _ in range(load.connections)]
    for caller in callers:
        await loop.create_connection(lambda caller=caller: caller, "127.0.0.1", server.port)  # type: ignore[misc]
    await asyncio.sleep(_WARM_UP_S)
    before, began_s, cpu_s = sum(c.answered for c in callers), time.perf_counter(), server.cpu_s()
    await asyncio.sleep(load.seconds)
    answered, took_s = sum(c.answered for c in callers) - before, time.perf_counter() - began_s
    cpu_s = server.cpu_s() - cpu_s
    for caller in callers:
        caller.stop()
    if failed := sum(c.failed for c in callers):
        raise RuntimeError(f"{failed} requests were not answered with 200")
    return Pace(answered / took_s, cpu_s / answered * 1e6)


async def gateway() -> web.Application:
    """The gateway, with a function whose instances are in memory, enough of them that nothing waits in the queue."""
    clock = MonotonicClock()
    cluster = FakeCluster([DEVICE], clock)
    platform = FakePlatform(cluster)
    await platform.deploy(function("f", queue_size=1000))
    await platform.scale("f", _INSTANCES)
    return create_app(platform, cluster, clock)


async def trivial() -> web.Application:
    """A handler that reads the body and gives it back."""

    async def echo(request: web.Request) -> web.Response:
        return web.Response(body=await request.read(), headers={"Content-Type": "text/plain"})

    app = web.Application()
    app.router.add_post("/function/f", echo)
    return app


def serve(name: str, port: Connection, cores: set[int]) -> None:
    """Body of a server's process: serve until the other end of the pipe closes."""
    os.sched_setaffinity(0, cores)

    async def run() -> None:
        app = await {"gateway": gateway, "trivial": trivial}[name]()
        async with Server(app, "127.0.0.1", 0) as server:
            port.send(server.port)
            await asyncio.get_running_loop().run_in_executor(None, port.poll, None)

    asyncio.run(run())


@contextlib.contextmanager
def served(name: str, cores: set[int]) -> Iterator[Served]:
    """A server in a process of its own."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=serve, args=(name, there, cores), daemon=True)
    process.start()
    there.close()
    try:
        if not here.poll(_START_S):
            raise RuntimeError(f"the {name} server did not start")
        assert process.pid is not None
        yield Served(process.pid, here.recv())
    finally:
        here.close()
        process.join(_START_S)


def compare(load: Load, rounds: int) -> dict[str, Any]:
    """Medians over alternating rounds, and their ratio."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[0]})
    paces: dict[str, list[Pace]] = {"gateway": [], "trivial": []}
    with served("gateway", {cores[-1]}) as ours, served("trivial", {cores[-1]}) as theirs:
        for _ in range(rounds):
            paces["gateway"].append(asyncio.run(measure(ours, load)))
            paces["trivial"].append(asyncio.run(measure(theirs, load)))
    rps = {name: statistics.median(pace.rps for pace in measured) for name, measured in paces.items()}
    cpu_us = {name: statistics.median(pace.cpu_us for pace in measured) for name, measured in paces.items()}
    return {
        "gateway": {"rps": round(rps["gateway"], 1), "cpu_us": round(cpu_us["gateway"], 1)},
        "trivial": {"rps": round(rps["trivial"], 1), "cpu_us": round(cpu_us["trivial"], 1)},
        "ratio": round(rps["gateway"] / rps["trivial"], 4),
        "cpu_ratio": round(cpu_us["trivial"] / cpu_us["gateway"], 4),
        "load": asdict(load),
        "rounds": {name: [round(pace.rps, 1) for pace in measured] for name, measured in paces.items()},
        "own_core": len(cores) > 1,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--body-bytes", type=int, default=1024)
    parser.add_argument("--seconds", type=float, default=1.0, help="of every round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    load = Load(options.connections, options.body_bytes, options.seconds)
    result = compare(load, options.rounds)
    if options.json:
        print(json.dumps(result))
        return
    for name, what in (("gateway", "functions in memory"), ("trivial", "an aiohttp handler that does nothing")):
        print(f"{name}  {result[name]['rps']:>8} requests/s  {result[name]['cpu_us']:>6} us of CPU each   ({what})")
    print(f"ratio    {result['ratio']:>8} by rate      {result['cpu_ratio']:>6} by CPU time")


if __name__ == "__main__":
    main()
