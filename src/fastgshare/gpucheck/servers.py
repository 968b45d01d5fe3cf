"""MPS for the check: one server, started when a section wants it first, and ended with the check."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.errors import FastGShareError, PartitionerUnavailable
from fastgshare.domain.partitions import Partitioning
from fastgshare.gpucheck.findings import NotThere
from fastgshare.manager.mps import MpsControl
from fastgshare.manager.mps_programs import find_control
from fastgshare.manager.partitioners import probe


class Servers:
    """What serves processes with MPS. directory: short of path. env: of its programs, and of what probes the device."""

    def __init__(self, device: Device, directory: Path, env: Mapping[str, str]) -> None:
        self._device = device
        self._directory = directory
        self._env = dict(env)
        self._control: MpsControl | None = None
        self._problem = ""

    async def probe(self) -> Sequence[Partitioning]:
        """The ways of dividing the device's SMs, and whether they are there."""
        return await asyncio.to_thread(probe, self._device, self._env)

    async def open(self) -> None:
        """Have the server run. Raises `NotThere`: at once, if it did not start before."""
        if self._problem:
            raise NotThere(self._problem)
        try:
            if self._control is None:
                device_id = self._device.id if self._device.kind is DeviceKind.GPU else ""
                program = find_control(self._device, self._env)
                self._control = MpsControl(self._directory / "mps", program, device_id, self._env)
            await asyncio.to_thread(_start, self._control)
        except FastGShareError as error:
            self._problem = f"MPS: {error}"
            raise NotThere(self._problem) from error

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """`base`, with what a process must be told to be served; for nothing before `open`."""
        return dict(base) | (self._control.environment() if self._control else {})

    async def close(self) -> None:
        """End it."""
        if self._control is not None:
            await asyncio.to_thread(self._control.quit)


def _start(control: MpsControl) -> None:
    """Have it run, also after processes were ended in the middle of their work. Raises `PartitionerUnavailable`."""
    try:
        control.start()
    except PartitionerUnavailable:
        control.recover()
