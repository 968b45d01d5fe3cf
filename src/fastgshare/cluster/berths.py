"""Berths: the devices of a cluster, and what a process on one of them is told."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fastgshare.cluster.devices import check_function
from fastgshare.cluster.ports import Daemon, Partitioner
from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.functions import Function
from fastgshare.domain.instances import Instance
from fastgshare.manager.environments import environment, without_share


@dataclass(slots=True, eq=False)
class Berth:
    """A device of a cluster.

    daemon: who gives tokens on it; None: nobody does. partitioner: what divides its SMs between processes; None:
    nothing does. state: file in which the instances on a stand-in share its state.
    closed: why nothing more can start on it, in words; "" while something can.
    lost: set once what is on it has to end.
    """

    device: Device
    daemon: Daemon | None = None
    partitioner: Partitioner | None = None
    state: Path | None = None
    closed: str = ""
    lost: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def is_hooked(self) -> bool:
        """Whether the hook holds its instances to their shares, rather than they themselves."""
        return self.daemon is not None and self.device.kind in (DeviceKind.GPU, DeviceKind.STANDIN)

    @property
    def spreads_faults(self) -> bool:
        """Whether a fault of one process can break the work of the others of its trust group."""
        return self.partitioner is not None and self.partitioner.partitioning.name != "none"

    def check(self, function: Function) -> None:
        """Raise `InvalidValue` for what cannot be held to its share, or not be computed, here."""
        if self.is_hooked:
            check_function(self.device, function)

    def environment(self, instance: Instance, env: Mapping[str, str]) -> dict[str, str]:
        """What an instance's process is told from the start. Raises `NotFound` without a hook to hold it."""
        if self.daemon is None or not self.is_hooked:
            return without_share(env)
        group = instance.function.trust_group
        return environment(
            *(self.device, instance.function.share),
            socket_path=self.daemon.socket_path,
            instance_id=instance.id,
            state=self.state,
            base=dict(env) if self.partitioner is None else self.partitioner.environment(group, env),
        )

    def cores(self, instance: Instance) -> tuple[int, ...]:
        """The SMs of its rect; on the CPU, logical cores."""
        rect = instance.placement.rect
        return self.device.sms_of(rect.sm_offset, rect.sm)
