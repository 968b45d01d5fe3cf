"""Demands: what is to be placed; packings: where it was placed."""

from __future__ import annotations

from dataclasses import dataclass

from fastgshare.domain.rects import Placement, Rect
from fastgshare.domain.shares import Share
from fastgshare.scheduler.packing.certificates import Certificate


@dataclass(frozen=True, slots=True)
class Demand:
    """An instance that needs a rect.

    sm: percent of the device's SMs. quota: fraction of the window.
    sm_offset: percent at which its SM range must begin; None leaves it free.
    preferred: where it would best lie (it is moved only if it must be).
    mem_bytes: its memory cap (0: none). burst_s: its longest burst in seconds (0: not known).
    group: its trust group; on a device that takes turns, no slots of different groups share a time.

    Raises `InvalidValue` naming the field.
    """

    instance_id: str
    sm: float
    quota: float
    sm_offset: float | None = None
    preferred: Rect | None = None
    mem_bytes: int = 0
    burst_s: float = 0.0
    group: str = ""

    def __post_init__(self) -> None:
        Share(self.sm, self.quota, self.quota, self.mem_bytes)

    @classmethod
    def new(cls, instance_id: str, share: Share, burst_s: float = 0.0, group: str = "") -> Demand:
        """The demand of an instance that does not run yet."""
        size = (share.sm_partition, share.quota_request)
        return cls(instance_id, *size, None, None, share.mem_bytes, burst_s, group)

    @classmethod
    def running(cls, instance_id: str, share: Share, rect: Rect, burst_s: float = 0.0, group: str = "") -> Demand:
        """The demand of an instance that runs on `rect`: it keeps its SMs and prefers its slot."""
        preferred = Rect(rect.sm_offset, rect.quota_offset, share.sm_partition, share.quota_request)
        return cls(
            instance_id,
            share.sm_partition,
            share.quota_request,
            rect.sm_offset,
            preferred,
            share.mem_bytes,
            burst_s,
            group,
        )


@dataclass(frozen=True, slots=True)
class Packing:
    """Where instances lie on one device: the fixed ones first, then the demands, in the order given."""

    placements: tuple[Placement, ...]
    certificate: Certificate

    def rect_of(self, instance_id: str) -> Rect:
        """The rect of an instance. Raises KeyError."""
        return {p.instance_id: p.rect for p in self.placements}[instance_id]
