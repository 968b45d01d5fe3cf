"""A running platform on stand-ins for GPUs, and requests that go on whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from fastgshare.cli.platforms import RunningPlatform, running_platform
from fastgshare.cluster.devices import find_devices
from fastgshare.domain.functions import Function, Replicas
from fastgshare.domain.instances import InstanceState
from fastgshare.domain.shares import Share
from fastgshare.spec.devices import parse_device

HANDLER = f"{Path(__file__).with_name('device_handler.py')}:Spinner"
STANDIN = "standin:sms=100,mem=16GiB"
FIRST, SECOND = STANDIN, f"{STANDIN}#2"
PATIENCE_S = 60.0


def function(name: str, *, sm: float = 40, replicas: int = 1, group: str = "default") -> Function:
    share = Share(sm, 0.4, 0.4, 2**30)
    return Function(name, share, handler=HANDLER, replicas=Replicas(replicas, 4), trust_group=group)


@dataclass
class Flood:
    """Requests for one function, one after another, until told to stop. statuses: of those that were answered."""

    url: str
    statuses: list[int] = field(default_factory=list)
    enough: asyncio.Event = field(default_factory=asyncio.Event)
    answered: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        async with aiohttp.ClientSession() as session:
            while not self.enough.is_set():
                async with session.post(self.url, data=b"x") as response:
                    await response.read()
                    self.statuses.append(response.status)
                    self.answered.set()

    async def more(self, count: int = 5) -> None:
        """Return once so many more have been answered."""
        wanted = len(self.statuses) + count
        while len(self.statuses) < wanted:
            self.answered.clear()
            await self.answered.wait()


class Platform:
    """A running platform and requests that go on."""

    def __init__(self, running: RunningPlatform, tasks: asyncio.TaskGroup) -> None:
        self.running = running
        self._tasks = tasks
        self._floods: list[Flood] = []

    async def deploy(self, *functions: Function) -> None:
        await self.running.platform.deploy_all(functions)
        for one in functions:
            status = await self.running.controller.settled(one.name, PATIENCE_S)
            assert not status.problem, status.problem

    async def flood(self, name: str) -> Flood:
        flood = Flood(f"{self.running.server.url}/function/{name}")
        self._floods.append(flood)
        self._tasks.create_task(flood.run())
        await flood.more()
        return flood

    def where(self, name: str) -> list[str]:
        """Devices of the instances that answer."""
        instances = self.running.controller.deployment(name).instances
        return [s.placement.device_id for s in instances if s.state is InstanceState.READY]

    def instances(self, name: str) -> list[str]:
        """Those that answer."""
        instances = self.running.controller.deployment(name).instances
        return [s.id for s in instances if s.state is InstanceState.READY]

    def problem(self, name: str) -> str:
        """Why wanted instances are not there."""
        return self.running.controller.deployment(name).problem

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return once a condition holds that an instance's change of state can bring about."""
        changed = asyncio.Event()
        self.running.cluster.watch(lambda _: changed.set())
        while not condition():
            changed.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), 0.1)

    async def calm(self) -> None:
        for flood in self._floods:
            flood.enough.set()


@asynccontextmanager
async def platform(directory: Path, *devices: str, partitioner: str = "auto") -> AsyncIterator[Platform]:
    found = find_devices([parse_device(text) for text in devices], {})
    async with (
        asyncio.timeout(PATIENCE_S),
        running_platform(directory / "state", "127.0.0.1", 0, devices=found, partitioner=partitioner) as running,
        asyncio.TaskGroup() as tasks,
    ):
        made = Platform(running, tasks)
        try:
            yield made
        finally:
            await made.calm()
