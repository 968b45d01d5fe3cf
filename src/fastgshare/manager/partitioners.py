"""Partitioners: which way of dividing a device's SMs between processes is there, and which is taken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.errors import InvalidValue
from fastgshare.domain.partitions import Partitioning
from fastgshare.manager import probing
from fastgshare.manager.gpus import ComputeMode
from fastgshare.manager.mps import pipe_directory
from fastgshare.manager.mps_partitioners import Listener, MpsPartitioner, RunningMpsPartitioner, on_standin
from fastgshare.manager.mps_programs import LOGS, PIPES

WANTED: Final = ("auto", "mps", "none")
"""How a device's SMs may be asked to be divided; auto: by MPS where it is there."""


class NoPartitioner:
    """Nothing divides the SMs: a token is exclusive, and a fault hits the process alone that made it."""

    def __init__(self, device: Device, partitioning: Partitioning, directory: Path) -> None:
        self._device = device
        self._partitioning = partitioning
        self._nowhere = pipe_directory(directory / "none")
        self.lone: Final = False

    @property
    def partitioning(self) -> Partitioning:
        """Of name "none"."""
        return self._partitioning

    async def start(self) -> None:
        """Nothing has to be made ready."""

    async def open(self, group: str) -> None:
        """Any process can start at any time."""

    def environment(self, group: str, base: Mapping[str, str]) -> dict[str, str]:
        """`base`, with a pipe directory that does not exist: an MPS that runs here for others is not for these."""
        if not self._device.takes_turns:
            return dict(base)
        return on_standin(self._device, dict(base) | {PIPES: str(self._nowhere), LOGS: str(self._nowhere)})

    def watch(self, listener: Listener) -> None:
        """There is nothing to be told: a process that fails, fails alone."""

    def fail(self, group: str, reason: str) -> None:
        """There is nobody to be told."""

    async def recover(self, group: str) -> None:
        """There is nothing to recover."""

    async def close(self, group: str) -> None:
        """There is nothing to end."""

    async def stop(self) -> None:
        """Nothing was started."""


Partitioner = MpsPartitioner | RunningMpsPartitioner | NoPartitioner
"""`cluster.ports.Partitioner`, and beside that: `fail(group, reason)`, by which others say that a group's work has
failed (listeners are told, once until it has recovered); `close(group)`, when nobody of a group is left; and `lone`,
whether one trust group at a time can be on the device: this one sees to that for what it has opened itself."""


def probe(device: Device, env: Mapping[str, str]) -> tuple[Partitioning, ...]:
    """All ways of dividing a device's SMs, the strongest first: what each guarantees, whether it is there, and why."""
    return probing.partitionings(device, env)


def choose(device: Device, wanted: str, directory: Path, env: Mapping[str, str], *, stays: bool = False) -> Partitioner:
    """What divides a device's SMs: as wanted, one of `WANTED`.

    directory: of this device alone, for sockets and logs; what a killed owner left there is ended by `start()`, or,
    with `stays`, when its group is opened. env: of this process, and of what is started.

    For `up`: `start()`, then `watch(listener)`, then `open(group)` before every process of a group, which is started
    with `environment(group, base)`; at the end, `stop()`. Control daemons end with this process, however that ends.
    The device that processes are placed on is `divided(device, partitioner.partitioning)`.

    For `run`, with `stays`: what is started outlives this process, for others that choose with the same directory, and
    `open(group)` finds it. The last of a group calls `close(group)` when it leaves: both under a lock that all of them
    respect. `asyncio.run(partitioner.open(group))` is all right.

    Raises `InvalidValue` for a wish that cannot be had, with the reason and what to do, and for a device that lets
    nobody in.
    """
    if wanted not in WANTED:
        raise InvalidValue("partitioner", wanted, ", ".join(WANTED))
    found = probing.situation(device, env)
    mps, none = probing.mps(found), probing.none(found)
    if found.mode is ComputeMode.PROHIBITED:
        raise InvalidValue("device", device.id, f"a device that lets programs in: {none.because} ({none.advice})")
    if wanted == "mps" and not mps.there:
        raise InvalidValue("partitioner", wanted, f"auto or none on device {device.id}: {mps.because} ({mps.advice})")
    if wanted == "none" and not none.there:
        raise InvalidValue("partitioner", wanted, f"auto or mps on device {device.id}: {none.because} ({none.advice})")
    if wanted == "none" or not mps.there:
        return NoPartitioner(device, none, directory)
    if found.program is None or found.takes_running:
        return RunningMpsPartitioner(device, mps, env, found.program)
    lone = found.mode is ComputeMode.EXCLUSIVE
    return MpsPartitioner(device, mps, directory, env, found.program, lone=lone, stays=stays)


def divided(device: Device, partitioning: Partitioning) -> Device:
    """The device with the grid that a partitioning gives it: one step where nothing divides a GPU."""
    if device.kind not in (DeviceKind.GPU, DeviceKind.STANDIN):
        return device
    return replace(device, steps=1 if partitioning.name == "none" else 0)
