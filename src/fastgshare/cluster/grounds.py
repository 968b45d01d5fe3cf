"""Grounds: one device with all that production has on it, and nobody else: where trials are run."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from fastgshare.cluster.local import LocalCluster
from fastgshare.cluster.watches import Watches
from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.readings import Reading, XidVerdict, describe_xid
from fastgshare.manager.node import NodeDaemon
from fastgshare.manager.partitioners import Partitioner, choose, divided

PERIOD_S: Final = 0.25
"""Between two readings of the device: several in each trial."""
_STATE: Final = "standin.state"
_LOGGER: Final = logging.getLogger(__name__)


class Ground:
    """A device, ready for instances as long as entered: ``async with Ground(...) as ground``.

    device: it gets the grid that what divides its SMs gives it. directory: for sockets and a stand-in's state.
    partitioner: "auto", "mps" or "none". env: of this process.
    Entering raises `InvalidValue`, `DaemonUnavailable`, `PartitionerUnavailable`.
    """

    def __init__(self, device: Device, directory: Path, env: Mapping[str, str], *, partitioner: str = "auto") -> None:
        self._partitioner = _partitioner(device, directory, env, partitioner)
        self.device: Final = device if self._partitioner is None else divided(device, self._partitioner.partitioning)
        self.daemon: Final = NodeDaemon([self.device], directory)
        state = {device.id: directory / _STATE} if device.kind is DeviceKind.STANDIN else {}
        ways = {} if self._partitioner is None else {device.id: self._partitioner}
        self.cluster: Final = LocalCluster(
            [self.device], daemon=self.daemon, partitioners=ways, states=state, wants_samples=True
        )
        self.watches: Final = Watches(
            [self.device], env=env, states=state, listener=self._heed, period_s=PERIOD_S, ledger=None
        )
        self._directory = directory
        self._stack = AsyncExitStack()

    @property
    def is_lost(self) -> bool:
        """Whether nothing can start on the device any more."""
        return not self.cluster.devices()

    async def __aenter__(self) -> Self:
        self._directory.mkdir(parents=True, exist_ok=True)
        (self._directory / _STATE).unlink(missing_ok=True)  # of one that was killed
        async with AsyncExitStack() as stack:
            stack.callback((self._directory / _STATE).unlink, missing_ok=True)
            stack.push_async_callback(self.daemon.stop)
            await self.daemon.start()
            if self._partitioner is not None:
                stack.push_async_callback(self._partitioner.stop)
                await self._partitioner.start()
            await stack.enter_async_context(self.cluster)
            await stack.enter_async_context(self.watches)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def _heed(self, device_id: str, reading: Reading) -> None:
        said = ", ".join(dict.fromkeys(describe_xid(number) for _, number in reading.xids))
        match reading.verdict:
            case XidVerdict.LOST:
                self.cluster.lose(device_id, said or "it does not answer any more")
            case XidVerdict.DRAIN:
                self.cluster.drain(device_id, said)
            case _:
                _LOGGER.warning("device %s: %s", device_id, said)


def _partitioner(device: Device, directory: Path, env: Mapping[str, str], wanted: str) -> Partitioner | None:
    return choose(device, wanted, directory / "partitioner", env) if device.takes_turns else None
