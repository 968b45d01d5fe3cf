"""Rects and placements: where a share lies on a device, in SMs and in the window."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rect:
    """A rectangle of SMs x time on one device.

    sm_offset, sm: percent of the device's SMs; the range is [sm_offset, sm_offset + sm).
    quota_offset, quota: fractions of the window; the slot is [quota_offset, quota_offset + quota).
    """

    sm_offset: float
    quota_offset: float
    sm: float
    quota: float

    @property
    def sm_end(self) -> float:
        """First percentage behind the rect."""
        return self.sm_offset + self.sm

    @property
    def quota_end(self) -> float:
        """First fraction of the window behind the rect."""
        return self.quota_offset + self.quota

    def overlaps(self, other: Rect, tolerance: float = 1e-9) -> bool:
        """Whether the two rects share an area (touching edges do not)."""
        return (
            self.sm_offset < other.sm_end - tolerance
            and other.sm_offset < self.sm_end - tolerance
            and self.quota_offset < other.quota_end - tolerance
            and other.quota_offset < self.quota_end - tolerance
        )

    def coincides(self, other: Rect, tolerance: float = 1e-9) -> bool:
        """Whether the two slots share a time, on whatever SMs."""
        return self.quota_offset < other.quota_end - tolerance and other.quota_offset < self.quota_end - tolerance


@dataclass(frozen=True, slots=True)
class Placement:
    """An instance's place: a device and a rect on it."""

    instance_id: str
    device_id: str
    rect: Rect
