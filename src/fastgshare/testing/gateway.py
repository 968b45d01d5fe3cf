"""A gateway on a real socket in front of a platform and a cluster that are neither."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

import aiohttp

from fastgshare.domain.deployments import Deployment, DeploymentStatus
from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.errors import FastGShareError, NotFound
from fastgshare.domain.functions import Function
from fastgshare.domain.instances import Instance, InstanceState
from fastgshare.domain.logs import LogLine
from fastgshare.domain.rects import Placement, Rect
from fastgshare.domain.requests import Reply, Request
from fastgshare.domain.shares import Share
from fastgshare.gateway.applications import SERVICE, create_app
from fastgshare.gateway.servers import Server
from fastgshare.gateway.service import FunctionService
from fastgshare.testing.clocks import FakeClock
from fastgshare.testing.clusters import FakeCluster, echo

DEVICE: Final = Device("abstract", DeviceKind.ABSTRACT, 100)
PATIENCE_S: Final = 10.0


def function(name: str = "f", **fields: Any) -> Function:
    """A function with a small share, and what is given."""
    return replace(Function(name, Share(1, 0.01, 0.01), handler="h.py:h"), **fields)


class FakePlatform:
    """`gateway.ports.Platform` that starts and stops instances of a cluster at once and knows nothing of placing.

    problems: to be set by name. lines: what logs shall say. refuse: an error that deploying and scaling shall raise.
    """

    def __init__(self, cluster: FakeCluster) -> None:
        self._cluster = cluster
        self._deployments: dict[str, Deployment] = {}
        self._numbers = itertools.count(1)
        self.problems: dict[str, str] = {}
        self.lines: list[LogLine] = []
        self.refuse: FastGShareError | None = None

    def put(self, function: Function, replicas: int) -> None:
        """Want instances of a function without starting any."""
        self._deployments[function.name] = Deployment(function, replicas, created_unix_s=1_700_000_000.0)

    async def start(self, name: str) -> str:
        """Start one instance of a function; its id."""
        number = next(self._numbers)
        instance_id = f"{name}-{number}"
        rect = Rect(sm_offset=number % 100, quota_offset=(number // 100) / 100, sm=1, quota=0.01)
        placement = Placement(instance_id, DEVICE.id, rect)
        await self._cluster.start(Instance(instance_id, self._deployments[name].function, placement))
        return instance_id

    async def deploy(self, function: Function) -> None:
        """Keep the function and start what is missing of one instance, or of as many as it had."""
        self._check()
        old = self._deployments.get(function.name)
        self.put(function, old.replicas if old else max(1, function.replicas.minimum))
        await self._reconcile(function.name)

    async def remove(self, name: str) -> None:
        """Forget the function and stop its instances. Raises `NotFound`."""
        self.deployment(name)
        del self._deployments[name]
        await self._reconcile(name)

    async def scale(self, name: str, replicas: int) -> None:
        """Start or stop instances. Raises `NotFound`."""
        self._check()
        self.put(self.deployment(name).deployment.function, replicas)
        await self._reconcile(name)

    def deployments(self) -> Sequence[DeploymentStatus]:
        """All functions, by name."""
        return [self.deployment(name) for name in sorted(self._deployments)]

    def deployment(self, name: str) -> DeploymentStatus:
        """One function. Raises `NotFound`."""
        if name not in self._deployments:
            raise NotFound("function", name)
        instances = tuple(s for s in self._cluster.observe() if s.function_name == name)
        return DeploymentStatus(self._deployments[name], instances, self.problems.get(name, ""))

    def logs(self, name: str, tail: int) -> Sequence[LogLine]:
        """The last of `lines` that are the function's. Raises `NotFound`."""
        self.deployment(name)
        lines = [line for line in self.lines if line.function_name == name]
        return lines[-tail:] if tail else []

    def _check(self) -> None:
        if self.refuse is not None:
            raise self.refuse

    async def _reconcile(self, name: str) -> None:
        wanted = self._deployments[name].replicas if name in self._deployments else 0
        seen = [s for s in self._cluster.observe() if s.function_name == name]
        there = [s.id for s in seen if s.state is not InstanceState.DRAINING]
        for _ in range(wanted - len(there)):
            await self.start(name)
        for instance_id in there[wanted:]:
            await self._cluster.stop(instance_id, drain_s=1.0)


@dataclass(frozen=True, slots=True)
class RunningGateway:
    """A gateway that listens on 127.0.0.1, what is behind it, and a session to call it with."""

    clock: FakeClock
    cluster: FakeCluster
    platform: FakePlatform
    service: FunctionService
    server: Server
    session: aiohttp.ClientSession

    def ask(self, method: str, path: str, **options: Any) -> asyncio.Task[Answer]:
        """Begin a request."""
        return asyncio.create_task(self._ask(method, path, **options))

    async def arrived(self, name: str, count: int) -> None:
        """Return once this many requests for the function are in its queue or with instances."""
        await until(lambda: self.pending(name) == count)
        await self.clock.settle()

    def pending(self, name: str) -> int:
        """Requests for the function in its queue or with instances."""
        snapshot = self.service.snapshots().get(name)
        return snapshot.waiting + snapshot.in_flight if snapshot else 0

    async def _ask(self, method: str, path: str, **options: Any) -> Answer:
        async with self.session.request(method, self.server.url + path, **options) as response:
            return Answer(response.status, await response.read(), response.headers)


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP response, read."""

    status: int
    body: bytes
    headers: Any

    @property
    def text(self) -> str:
        """The body as text, without the last line end."""
        return self.body.decode().removesuffix("\n")


@asynccontextmanager
async def running_gateway(
    *,
    answer: Callable[[Instance, Request], Reply] = echo,
    answer_s: float = 0.0,
    start_s: float = 0.0,
    **options: Any,
) -> AsyncIterator[RunningGateway]:
    """A gateway with nothing deployed. answer, answer_s, start_s: of the cluster; options: of `create_app`.

    Time stands still in it; what runs in real time is the sockets.
    """
    clock = FakeClock(now_s=1000.0)
    cluster = FakeCluster([DEVICE], clock, start_s=start_s, answer_s=answer_s, answer=answer)
    platform = FakePlatform(cluster)
    app = create_app(platform, cluster, clock, **{"drain_s": 0.0, **options})
    timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
    async with (
        Server(app, "127.0.0.1", 0) as server,
        aiohttp.ClientSession(auto_decompress=False, timeout=timeout) as session,
    ):
        yield RunningGateway(clock, cluster, platform, app[SERVICE], server, session)


async def until(condition: Callable[[], bool]) -> None:
    """Return once a condition holds that what happens on sockets brings about. Raises `TimeoutError`."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - there is no event to wait for: bytes are on their way in the kernel
            await asyncio.sleep(0)
