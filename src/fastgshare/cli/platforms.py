"""A platform on this machine: all its parts, started in order and ended in the opposite one."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fastgshare.cluster.devices import check_function, cpu_device
from fastgshare.cluster.local import LocalCluster
from fastgshare.domain.deployments import DeploymentStatus
from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.errors import InvalidValue
from fastgshare.domain.functions import Function
from fastgshare.domain.logs import LogLine
from fastgshare.gateway.applications import SERVICE, create_app
from fastgshare.gateway.clocks import MonotonicClock
from fastgshare.gateway.servers import Server
from fastgshare.gateway.service import FunctionService
from fastgshare.manager.node import NodeDaemon
from fastgshare.scheduler.controller import Controller
from fastgshare.spec import functions as documents
from fastgshare.spec import references
from fastgshare.state.errors import StateUnavailable
from fastgshare.state.functions import FunctionStore
from fastgshare.state.locks import StateLock

STANDIN_STATES: Final = "standin*.state"
DRAIN_S: Final = 5.0
"""How long requests that are here may take when the platform ends."""
_SOCKET_PATH_BYTES: Final = 107
"""The longest path of a socket that the kernel takes."""


def check_on(device: Device, function: Function) -> None:
    """`scheduler.layouts.Check`: whether a function can be held to its share on a device, and uses it."""
    check_function(device, function, os.environ)


class CheckedPlatform:
    """`gateway.ports.Platform`: a controller that takes only functions of which everything is there."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller

    async def deploy(self, function: Function) -> None:
        """Create a function, or replace the one of that name. Raises `InvalidValue` or `NoPlacement`."""
        references.check(function)
        await self._controller.deploy(function)

    async def deploy_all(self, functions: Sequence[Function]) -> None:
        """Deploy several functions, all or none, placed together. Raises `InvalidValue` or `NoPlacement`."""
        for function in functions:
            references.check(function)
        await self._controller.deploy_all(functions)

    async def remove(self, name: str) -> None:
        """Forget a function and end its instances. Raises `NotFound`."""
        await self._controller.remove(name)

    async def scale(self, name: str, replicas: int) -> None:
        """Want so many instances. Raises `NotFound`, `InvalidValue` or `NoPlacement`."""
        await self._controller.scale(name, replicas)

    def deployments(self) -> Sequence[DeploymentStatus]:
        """All functions, by name."""
        return self._controller.deployments()

    def deployment(self, name: str) -> DeploymentStatus:
        """One function. Raises `NotFound`."""
        return self._controller.deployment(name)

    def logs(self, name: str, tail: int) -> Sequence[LogLine]:
        """The last `tail` lines that a function's instances wrote. Raises `NotFound`."""
        return self._controller.logs(name, tail)


@dataclass(frozen=True, slots=True)
class RunningPlatform:
    """A platform that runs: its devices, and its parts for who wants to look closer."""

    devices: tuple[Device, ...]
    directory: Path
    platform: CheckedPlatform
    controller: Controller
    cluster: LocalCluster
    daemon: NodeDaemon
    server: Server
    service: FunctionService

    @property
    def device(self) -> Device:
        """The first device."""
        return self.devices[0]

    async def hasten_end(self) -> None:
        """Give up the requests that are here: nothing waits for them any more when this platform ends."""
        await self.service.close()


@asynccontextmanager
async def running_platform(
    directory: Path,
    host: str,
    port: int,
    *,
    devices: Sequence[Device] = (),
    window_s: float | None = None,
    drain_s: float = DRAIN_S,
    threads: int | None = None,
    spin: bool = False,
) -> AsyncIterator[RunningPlatform]:
    """Run a platform on devices of this machine, with all functions that `directory` keeps, while entered.

    devices: in the order in which they are filled; the CPU unless others are given. host, port: where the gateway
    listens; port 0 takes a free one. window_s: a fixed window instead of one that follows the bursts. drain_s: how long
    requests that are here may take in the end. threads, spin: of every instance, as `LocalCluster` has them. Leaving
    ends all: no process, socket or shared memory is left.

    Raises `StateUnavailable`, `InvalidValue` for an address that cannot be had, `DaemonUnavailable`.
    """
    node = directory / "node"
    devices, clock = tuple(devices) or (cpu_device(),), MonotonicClock()
    daemon = NodeDaemon(devices, node, window_s=window_s)
    _check_socket_path(directory, daemon.socket_path)
    with StateLock(directory), closing(_store(directory / "functions.sqlite")) as store:
        async with (
            _running_daemon(daemon, node),
            LocalCluster(
                devices,
                daemon=daemon,
                states=_states(devices, node),
                log_directory=directory / "logs",
                threads=threads,
                spin=spin,
            ) as cluster,
        ):
            controller = Controller(cluster, store, clock, logs=cluster.logs, check=check_on)
            platform = CheckedPlatform(controller)
            app = create_app(platform, cluster, clock, ledger=daemon.totals, drain_s=drain_s)
            async with Server(app, host, port) as server, asyncio.TaskGroup() as tasks:
                loop = tasks.create_task(controller.run(), name="controller")
                yield RunningPlatform(devices, directory, platform, controller, cluster, daemon, server, app[SERVICE])
                await server.stop()
                loop.cancel()


@asynccontextmanager
async def _running_daemon(daemon: NodeDaemon, directory: Path) -> AsyncIterator[None]:
    _remove_states(directory)  # of one that was killed
    try:
        try:
            await daemon.start()
        except OSError as error:
            raise StateUnavailable(directory, f"the node daemon cannot start there ({error.strerror})") from None
        yield
    finally:
        await daemon.stop()
        _remove_states(directory)


def _states(devices: Sequence[Device], directory: Path) -> dict[str, Path]:
    """By stand-in, the file that its processes share."""
    found = [device.id for device in devices if device.kind is DeviceKind.STANDIN]
    return {id: directory / STANDIN_STATES.replace("*", f"-{n}" if n else "") for n, id in enumerate(found)}


def _remove_states(directory: Path) -> None:
    for path in directory.glob(STANDIN_STATES):
        path.unlink(missing_ok=True)


def _store(path: Path) -> FunctionStore:
    return FunctionStore(path, encode=documents.dump, decode=documents.load)


def _check_socket_path(directory: Path, path: Path) -> None:
    excess = len(bytes(path)) - _SOCKET_PATH_BYTES
    if excess > 0:
        longest = len(bytes(directory)) - excess
        raise InvalidValue("state", str(directory), f"a directory whose path has at most {longest} bytes")
