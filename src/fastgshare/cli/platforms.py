"""A platform on this machine: all its parts, started in order and ended in the opposite one."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fastgshare.cluster.devices import check_function, cpu_device
from fastgshare.cluster.local import LocalCluster
from fastgshare.cluster.watches import Watches
from fastgshare.domain.deployments import DeploymentStatus
from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.errors import InvalidValue
from fastgshare.domain.functions import Function
from fastgshare.domain.logs import LogLine
from fastgshare.domain.partitions import Partitioning
from fastgshare.domain.readings import Reading, XidVerdict, describe_xid
from fastgshare.gateway.applications import SERVICE, create_app
from fastgshare.gateway.clocks import MonotonicClock
from fastgshare.gateway.servers import Server
from fastgshare.gateway.service import FunctionService
from fastgshare.manager.node import NodeDaemon
from fastgshare.manager.partitioners import Partitioner, choose, divided
from fastgshare.scheduler.controller import Controller
from fastgshare.spec import functions as documents
from fastgshare.spec import references
from fastgshare.state.errors import StateUnavailable
from fastgshare.state.functions import FunctionStore
from fastgshare.state.locks import StateLock

STANDIN_STATES: Final = "standin*.state"
DRAIN_S: Final = 5.0
"""How long requests that are here may take when the platform ends."""
_LOGGER: Final = logging.getLogger(__name__)
_SOCKET_PATH_BYTES: Final = 107
"""The longest path of a socket that the kernel takes."""


def check_on(device: Device, function: Function) -> None:
    """`scheduler.layouts.Check`: whether a function can be held to its share on a device, and uses it."""
    check_function(device, function)


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
    """A platform that runs: its devices, and its parts for who wants to look closer.

    partitionings: by device, how its SMs are divided; a CPU has none.
    """

    devices: tuple[Device, ...]
    partitionings: Mapping[str, Partitioning]
    directory: Path
    platform: CheckedPlatform
    controller: Controller
    cluster: LocalCluster
    daemon: NodeDaemon
    server: Server
    service: FunctionService
    watches: Watches

    @property
    def device(self) -> Device:
        """The first device."""
        return self.devices[0]

    async def hasten_end(self) -> None:
        """Give up the requests that are here: nothing waits for them any more when this platform ends."""
        await self.service.close()


def partitioners_of(
    devices: Sequence[Device], wanted: str, directory: Path, env: Mapping[str, str]
) -> dict[str, Partitioner]:
    """By device, what is to divide its SMs; CPUs need nothing for that. Nothing is started.

    wanted: "auto", "mps" or "none". directory: the platform's. Raises `InvalidValue` for what cannot be had.
    """
    return {
        device.id: choose(device, wanted, directory / "node" / f"partitioner-{number}", env)
        for number, device in enumerate(devices)
        if device.takes_turns
    }


def divide(devices: Sequence[Device], partitioners: Mapping[str, Partitioner]) -> tuple[Device, ...]:
    """Devices with the grids that their partitioners give them."""
    return tuple(
        divided(device, partitioners[device.id].partitioning) if device.id in partitioners else device
        for device in devices
    )


@asynccontextmanager
async def running_platform(
    directory: Path,
    host: str,
    port: int,
    *,
    devices: Sequence[Device] = (),
    partitioner: str | Mapping[str, Partitioner] = "auto",
    window_s: float | None = None,
    drain_s: float = DRAIN_S,
    threads: int | None = None,
    spin: bool = False,
) -> AsyncIterator[RunningPlatform]:
    """Run a platform on devices of this machine, with all functions that `directory` keeps, while entered.

    devices: in the order in which they are filled; the CPU unless others are given. partitioner: what divides their
    SMs: "auto", "mps" or "none" for all, or what `partitioners_of` gave. host, port: where the gateway listens; port 0
    takes a free one. window_s: a fixed window instead of one that follows the bursts. drain_s: how long requests that
    are here may take in the end. threads, spin: of every instance, as `LocalCluster` has them. Leaving ends all: no
    process, socket or shared memory is left.

    Raises `StateUnavailable`, `InvalidValue` for an address or a partitioner that cannot be had, `DaemonUnavailable`,
    `PartitionerUnavailable`.
    """
    devices, clock = tuple(devices) or (cpu_device(),), MonotonicClock()
    if isinstance(partitioner, str):
        partitioner = partitioners_of(devices, partitioner, directory, os.environ)
    devices = divide(devices, partitioner)
    daemon = NodeDaemon(devices, directory / "node", window_s=window_s)
    _check_socket_path(directory, daemon.socket_path)
    with StateLock(directory), closing(_store(directory / "functions.sqlite")) as store:
        async with _running_cluster(daemon, partitioner, directory, threads=threads, spin=spin) as (cluster, watches):
            controller = Controller(cluster, store, clock, logs=cluster.logs, check=check_on)
            platform = CheckedPlatform(controller)
            app = create_app(platform, cluster, clock, ledger=daemon.totals, telemetry=watches, drain_s=drain_s)
            async with Server(app, host, port) as server, asyncio.TaskGroup() as tasks:
                loop = tasks.create_task(controller.run(), name="controller")
                ways = {id: one.partitioning for id, one in partitioner.items()}
                yield RunningPlatform(
                    *(devices, ways, directory, platform, controller, cluster, daemon, server, app[SERVICE], watches)
                )
                await server.stop()
                loop.cancel()


@asynccontextmanager
async def _running_cluster(
    daemon: NodeDaemon, partitioners: Mapping[str, Partitioner], directory: Path, *, threads: int | None, spin: bool
) -> AsyncIterator[tuple[LocalCluster, Watches]]:
    """Where instances live, with all that they need: a node daemon, what divides the devices, and who watches these."""
    states = _states(daemon.devices, directory / "node")
    async with (
        _running_daemon(daemon, directory / "node"),
        _running(partitioners.values()),
        LocalCluster(
            daemon.devices,
            daemon=daemon,
            partitioners=partitioners,
            states=states,
            log_directory=directory / "logs",
            threads=threads,
            spin=spin,
        ) as cluster,
        Watches(
            daemon.devices,
            env=os.environ,
            states=states,
            listener=lambda device_id, reading: _heed(cluster, device_id, reading),
            ledger=daemon,
            observe=cluster.observe,
        ) as watches,
    ):
        yield cluster, watches


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


def _heed(cluster: LocalCluster, device_id: str, reading: Reading) -> None:
    """Do what a device's XIDs, or its loss, ask for."""
    said = ", ".join(dict.fromkeys(describe_xid(number) for _, number in reading.xids))
    match reading.verdict:
        case XidVerdict.LOST:
            cluster.lose(device_id, said or "it does not answer any more")
        case XidVerdict.DRAIN:
            cluster.drain(device_id, said)
        case _:
            _LOGGER.warning("device %s: %s", device_id, said)


@asynccontextmanager
async def _running(partitioners: Iterable[Partitioner]) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        for partitioner in partitioners:
            stack.push_async_callback(partitioner.stop)
            await partitioner.start()
        yield


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
