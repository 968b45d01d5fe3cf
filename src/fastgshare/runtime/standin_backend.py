"""The backend on a stand-in for a GPU, a test double: answers from the CPU, times and memory from the stand-in."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from fastgshare.runtime.models import Backend, DeviceFailed, Outline, Session
from fastgshare.runtime.standin_device import StandinDevice

if TYPE_CHECKING:
    from fastgshare.runtime.models import Array


class StandinBackend:
    """Sessions of another backend on the CPU, whose networks are acted out on the stand-in.

    Their weights occupy its memory, and every run is a kernel a node; see `standin_device` for what a node is assumed
    to cost.
    """

    def __init__(self, cpu: Backend) -> None:
        self._cpu = cpu
        self._device: StandinDevice | None = None

    def open(self, path: Path, *, threads: int, spin: bool) -> Session:
        """See `Backend.open`. Raises `InvalidValue` if there is no stand-in here."""
        session = self._cpu.open(path, threads=threads, spin=spin)
        self._device = self._device or StandinDevice()
        return StandinSession(session, self._device)


class StandinSession:
    """One loaded network, acted out. Raises `MemoryError` if its weights do not fit."""

    def __init__(self, session: Session, device: StandinDevice) -> None:
        self._session = session
        self._device = device
        self._outline = session.outline()
        if self._outline.weight_bytes:
            address = device.allocate(self._outline.weight_bytes)
            weakref.finalize(self, _give_back, device, address).atexit = False  # a process that ends gives all back
        self.inputs = session.inputs
        self.outputs = session.outputs
        self.metadata = session.metadata

    def outline(self) -> Outline:
        """See `Session.outline`."""
        return self._outline

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        """See `Session.run`: the device works while the CPU finds the answer."""
        self._device.launch(self._outline.nodes)
        try:
            return self._session.run(inputs, outputs)
        finally:
            self._device.synchronise()


def _give_back(device: StandinDevice, address: int) -> None:
    with suppress(DeviceFailed):  # of a context that a fault has broken there is nothing left to give back
        device.free(address)
