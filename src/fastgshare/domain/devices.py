"""Devices: one GPU, the stand-in for one, the CPU, or an abstract one of 100 units."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from fastgshare.domain.errors import InvalidValue
from fastgshare.domain.shares import Share
from fastgshare.domain.units import write_bytes

PERCENT_STEPS: Final = 100
"""MPS caps SMs in whole percent, whatever their number."""


class DeviceKind(StrEnum):
    """What a device is made of."""

    CPU = "cpu"
    GPU = "gpu"
    STANDIN = "standin"
    ABSTRACT = "abstract"


@dataclass(frozen=True, slots=True)
class Device:
    """One device of a node.

    sm_count: SMs (of a GPU the real ones, though its shares go by the percent); logical cores on the CPU; 100 on the
    abstract device.
    mem_bytes: memory in bytes; 0 where it is not counted (abstract device).
    sm_ids: for the CPU, the logical core number behind every SM index, in order; else empty.
    type: what it is sold as, "" where nobody said; what was measured on one device holds for others of its type.
    steps: columns of its grid; 0: as its kind has them. A GPU that nothing divides has one.
    """

    id: str
    kind: DeviceKind
    sm_count: int
    mem_bytes: int = 0
    sm_ids: tuple[int, ...] = ()
    type: str = ""
    steps: int = 0

    @property
    def sm_steps(self) -> int:
        """How many steps of SMs shares may choose from: the grid's columns."""
        if self.steps:
            return self.steps
        return PERCENT_STEPS if self.kind in (DeviceKind.GPU, DeviceKind.STANDIN) else self.sm_count

    @property
    def takes_turns(self) -> bool:
        """Whether processes of different trust groups can only take turns on it: two MPS servers never overlap."""
        return self.kind in (DeviceKind.GPU, DeviceKind.STANDIN)

    @property
    def sm_step(self) -> float:
        """Percent of the device in one step of the grid: one SM, on GPUs one percent."""
        return 100 / self.sm_steps

    def nearest_sm(self, sm_partition: float) -> tuple[float, float]:
        """The grid's two values nearest to a percentage, in order; both are that value when it lies on the grid."""
        steps = sm_partition / self.sm_step
        nearest = min(self.sm_steps, max(1, round(steps)))
        if abs(nearest - steps) < 1e-6 or self.sm_steps == 1:
            return round(nearest * self.sm_step, 6), round(nearest * self.sm_step, 6)
        low = min(self.sm_steps - 1, max(1, math.floor(steps)))
        return round(low * self.sm_step, 6), round((low + 1) * self.sm_step, 6)

    def check(self, share: Share) -> None:
        """Raise `InvalidValue` if the share is off the grid (naming the two nearest) or too large in memory."""
        below, above = self.nearest_sm(share.sm_partition)
        if abs(share.sm_partition - below) > 1e-3 and abs(share.sm_partition - above) > 1e-3:
            raise InvalidValue("sm_partition", share.sm_partition, self._allowed_sm(below, above))
        if self.mem_bytes and share.mem_bytes > self.mem_bytes:
            raise InvalidValue(
                "mem_bytes",
                share.mem_bytes,
                f"at most {write_bytes(self.mem_bytes)}, which is what device {self.id} has",
            )

    def _allowed_sm(self, below: float, above: float) -> str:
        if self.takes_turns and self.sm_steps == 1:
            return f"100: nothing divides the SMs of device {self.id} (no MPS: see fastgshare doctor)"
        nearest = f"{below:g}" if below == above else f"{below:g} and {above:g}"
        return f"multiples of {self.sm_step:g} on device {self.id} ({self.sm_count} SMs); nearest: {nearest}"

    def sms_of(self, sm_offset: float, sm: float) -> tuple[int, ...]:
        """SM indices (CPU: logical core numbers) of the range [sm_offset, sm_offset + sm) in percent, at least one.

        On a GPU as many as the range amounts to; which ones a process really gets is the hardware's choice.
        """
        first = round(sm_offset * self.sm_count / 100)
        last = round((sm_offset + sm) * self.sm_count / 100)
        indices = range(first, max(first + 1, last))
        return tuple(self.sm_ids[i] for i in indices) if self.sm_ids else tuple(indices)
