"""MPS for the check: one server, started when a section wants it, and ended with the check."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from fastgshare.domain.devices import Device
from fastgshare.domain.partitions import Partitioning
from fastgshare.gpucheck.findings import NotThere


class Servers:
    """What serves processes with MPS. env: of who starts it."""

    def __init__(self, device: Device, directory: Path, env: Mapping[str, str]) -> None:
        self._device = device
        self._directory = directory
        self._env = dict(env)

    async def probe(self) -> Sequence[Partitioning]:
        """The ways of dividing the device's SMs."""
        return ()

    async def open(self) -> None:
        """Start it, if it does not run yet. Raises `NotThere`."""
        return

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """`base`, with what a process must be told to be served."""
        return dict(base)

    async def close(self) -> None:
        """End it."""
