"""The bench: the device that is checked, what processes on it are told, and how much time is left."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Final

from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.partitions import Partitioning
from fastgshare.domain.shares import Share
from fastgshare.gpucheck.names import NETWORKS, TRACES, Mode
from fastgshare.gpucheck.servers import Servers
from fastgshare.manager import environments

_PIPES: Final = "CUDA_MPS_PIPE_DIRECTORY"
_PERCENTAGE: Final = "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"
_OF_WORKERS: Final = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
"""A worker launches kernels from one thread, others would only be in its neighbours' way; and it fetches nothing."""


class Bench:
    """What sections work with. directory: empty and short of path, for sockets. env: of this process.

    say: prints a line of progress. title: the device, in words.
    """

    def __init__(self, device: Device, directory: Path, env: Mapping[str, str], say: Callable[[str], None]) -> None:
        self.device = device
        self.directory = directory
        self.env = dict(env)
        self.say = say
        self.ends_s = time.monotonic()
        self._began_s = time.monotonic()
        self._numbers = count(1)
        self._servers = Servers(device, directory, self.of_programs())

    @property
    def is_standin(self) -> bool:
        """Whether the device is the stand-in, a test double."""
        return self.device.kind is DeviceKind.STANDIN

    @property
    def models(self) -> tuple[str, ...]:
        """What is run on the device."""
        return TRACES if self.is_standin else NETWORKS

    @property
    def batches(self) -> tuple[int, ...]:
        """Sizes of batch in which it is run: traces have but one."""
        return (1,) if self.is_standin else (1, 8)

    @property
    def state(self) -> Path | None:
        """The file that the stand-in lives in, for all sections."""
        return self.directory / "device" if self.is_standin else None

    def begin(self, title: str, share_s: float) -> None:
        """A section begins, and has so many seconds."""
        self._began_s = time.monotonic()
        self.ends_s = self._began_s + share_s
        self.say(f"{title}: up to {share_s:.0f} s")

    @property
    def left_s(self) -> float:
        """Seconds that the section has left."""
        return max(0.0, self.ends_s - time.monotonic())

    @property
    def share_s(self) -> float:
        """Seconds that the section has been given."""
        return self.ends_s - self._began_s

    def folder(self) -> Path:
        """A new directory, short of path."""
        path = self.directory / str(next(self._numbers))
        path.mkdir()
        return path

    # --- MPS ---------------------------------------------------------------------------------------------------------

    async def open_mps(self) -> None:
        """Have an MPS server for processes of modes with MPS, once for all sections. Raises `NotThere`."""
        await self._servers.open()

    async def probe(self) -> Sequence[Partitioning]:
        """The ways of dividing the device's SMs, those that are not there too."""
        return await self._servers.probe()

    async def close(self) -> None:
        """End what was started for all sections."""
        await self._servers.close()

    # --- environments ------------------------------------------------------------------------------------------------

    def base(self, *, mps: bool = False) -> dict[str, str]:
        """The environment of a process that is on no share; mps: served by our MPS server, else by none at all."""
        env = {**self.env, **_OF_WORKERS, _PIPES: str(self.directory / "no-mps")}
        if self.is_standin:
            env["FASTGSHARE_STANDIN"] = "mps=real"
        return self._servers.environment(env) if mps else env

    def environment(self, mode: Mode, share: Share, *, socket_path: Path, instance_id: str) -> dict[str, str]:
        """The environment of an instance on a share, in a mode."""
        env = self._on(share, self.base(mps=mode.mps), socket_path, instance_id)
        if mode.hooked:
            return env
        percentage = {_PERCENTAGE: env[_PERCENTAGE]} if mode.mps else {}
        return environments.without_share(env) | percentage

    def of_programs(self) -> dict[str, str]:
        """The environment of a program that looks at the device, on no share and without MPS."""
        return environments.without_share(self._on(Share(100, 1, 1), self.base(), self.directory / "none", "none"))

    def _on(self, share: Share, base: Mapping[str, str], socket_path: Path, instance_id: str) -> dict[str, str]:
        return environments.environment(
            *(self.device, share), socket_path=socket_path, instance_id=instance_id, state=self.state, base=base
        )
