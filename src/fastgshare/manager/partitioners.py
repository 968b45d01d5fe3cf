"""Partitioners: what divides the SMs of a device between processes, by trust groups."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.errors import InvalidValue, PartitionerUnavailable
from fastgshare.domain.partitions import Partitioning
from fastgshare.manager import probing
from fastgshare.manager.mps import MpsControl, pipe_directory
from fastgshare.manager.mps_programs import LOGS, PIPES, find_control

WANTED: Final = ("auto", "mps", "none")
"""How a device's SMs may be asked to be divided; auto: by MPS where it is there."""
POLL_S: Final = 0.5
"""How often a trust group's MPS is asked whether it is well."""

Listener = Callable[[str, str], None]


def probe(device: Device, env: Mapping[str, str]) -> tuple[Partitioning, ...]:
    """All ways of dividing a device's SMs, the strongest first: what each guarantees, whether it is there, and why."""
    return probing.partitionings(device, env)


def choose(device: Device, wanted: str, directory: Path, env: Mapping[str, str], *, stays: bool = False) -> Partitioner:
    """What divides a device's SMs (`cluster.ports.Partitioner`): as wanted, one of `WANTED`.

    directory: of this device alone, for sockets and logs; what a killed owner left there is ended. env: of this
    process, and of what is started. stays: what is started outlives this process: others that choose with the same
    directory share it, and whoever leaves last calls `stop`.
    Raises `InvalidValue` for a wish that cannot be had, with the reason and what to do.
    """
    if wanted not in WANTED:
        raise InvalidValue("partitioner", wanted, ", ".join(WANTED))
    found = {partitioning.name: partitioning for partitioning in probe(device, env)}
    mps, none = found.get("mps"), found["none"]
    if wanted == "mps" and (mps is None or not mps.there):
        reason = mps.because if mps is not None else f"device {device.id} has no MPS"
        advice = f" ({mps.advice})" if mps is not None and mps.advice else ""
        raise InvalidValue("partitioner", wanted, f"auto or none on device {device.id}: {reason}{advice}")
    if wanted != "none" and mps is not None and mps.there:
        return MpsPartitioner(device, mps, directory, env, stays=stays)
    return NoPartitioner(device, none, directory)


def divided(device: Device, partitioning: Partitioning) -> Device:
    """The device with the grid that a partitioning gives it: one step where nothing divides a GPU."""
    if not device.takes_turns:
        return device
    return replace(device, steps=1 if partitioning.name == "none" else 0)


class NoPartitioner:
    """Nothing divides the SMs: a token is exclusive, and a fault hits the process alone that made it."""

    def __init__(self, device: Device, partitioning: Partitioning, directory: Path) -> None:
        self._device = device
        self._partitioning = partitioning
        self._nowhere = pipe_directory(directory / "none")

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
        return _on_standin(self._device, dict(base) | {PIPES: str(self._nowhere), LOGS: str(self._nowhere)})

    def watch(self, listener: Listener) -> None:
        """There is nothing to be told: a process that fails, fails alone."""

    async def recover(self, group: str) -> None:
        """There is nothing to recover."""

    async def stop(self) -> None:
        """Nothing was started."""


class MpsPartitioner:
    """MPS: a control daemon and a server for every trust group, so that a fault stays in its group.

    Two servers never have work on the device at once; that nobody holds a token then is for the node daemon to see to.
    """

    def __init__(
        self,
        device: Device,
        partitioning: Partitioning,
        directory: Path,
        env: Mapping[str, str],
        *,
        stays: bool = False,
    ) -> None:
        self._device = device
        self._partitioning = partitioning
        self._directory = directory
        self._env = dict(env)
        self._stays = stays
        self._program = find_control(device, env)
        self._controls: dict[str, MpsControl] = {}
        self._listeners: list[Listener] = []
        self._watchers: dict[str, asyncio.Task[None]] = {}
        self._failed: set[str] = set()

    @property
    def partitioning(self) -> Partitioning:
        """Of name "mps"."""
        return self._partitioning

    async def start(self) -> None:
        """Make the directory. Raises `PartitionerUnavailable`."""
        try:
            await asyncio.to_thread(self._directory.mkdir, parents=True, exist_ok=True)
        except OSError as error:
            raise PartitionerUnavailable(f"{self._directory} cannot be made ({error.strerror})") from None

    def control(self, group: str) -> MpsControl:
        """The group's MPS, which may not run yet."""
        if group not in self._controls:
            device_id = self._device.id if self._device.kind is DeviceKind.GPU else ""
            name = hashlib.sha256(group.encode()).hexdigest()[:8]
            self._controls[group] = MpsControl(
                self._directory / name, self._program, device_id, self._env, stays=self._stays
            )
        return self._controls[group]

    async def open(self, group: str) -> None:
        """Have the group's MPS run. Raises `PartitionerUnavailable`."""
        await asyncio.to_thread(self.control(group).start)
        if group not in self._watchers and not self._stays:
            name = f"MPS of trust group {group} on device {self._device.id}"
            self._watchers[group] = asyncio.create_task(self._look_after(group), name=name)

    def environment(self, group: str, base: Mapping[str, str]) -> dict[str, str]:
        """`base`, with the way to the group's MPS."""
        return _on_standin(self._device, dict(base) | self.control(group).environment())

    def watch(self, listener: Listener) -> None:
        """Call `listener(group, reason)`, in the loop, when the work of a trust group has failed."""
        self._listeners.append(listener)

    def fail(self, group: str, reason: str) -> None:
        """Somebody has seen that the work of a group has failed; listeners are told once until it has recovered."""
        if group not in self._failed:
            self._failed.add(group)
            for listener in self._listeners:
                listener(group, reason)

    async def recover(self, group: str) -> None:
        """Have the group's MPS take processes again, within 5 seconds. Raises `PartitionerUnavailable`."""
        await asyncio.to_thread(self.control(group).recover)
        self._failed.discard(group)

    async def stop(self) -> None:
        """End all groups' control daemons and servers."""
        for watcher in self._watchers.values():
            watcher.cancel()
        await asyncio.gather(*self._watchers.values(), return_exceptions=True)
        self._watchers.clear()
        await asyncio.gather(*(asyncio.to_thread(control.quit) for control in self._controls.values()))

    async def _look_after(self, group: str) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            if group not in self._failed and (problem := await asyncio.to_thread(self.control(group).problem)):
                self.fail(group, problem)


def _on_standin(device: Device, env: dict[str, str]) -> dict[str, str]:
    """With the stand-in's own model of MPS switched on, so that who has none has no share of the SMs either."""
    if device.kind is DeviceKind.STANDIN:
        kept = [part for part in env.get("FASTGSHARE_STANDIN", "").split(",") if part and not part.startswith("mps=")]
        env["FASTGSHARE_STANDIN"] = ",".join([*kept, "mps=real"])
    return env


Partitioner = MpsPartitioner | NoPartitioner
"""What `choose` gives."""
