"""Shares: what an instance may use of a device, in space, in time and in memory."""

from __future__ import annotations

from dataclasses import dataclass

from fastgshare.domain.errors import InvalidValue


@dataclass(frozen=True, slots=True)
class Share:
    """A share of one device.

    sm_partition: percent of the device's SMs (CPU: logical cores), above 0 up to 100.
    quota_request: fraction of every window that the instance is entitled to, above 0 up to 1.
    quota_limit: fraction of every window that it never exceeds, from quota_request up to 1.
    mem_bytes: memory cap; 0 means no cap.

    Raises `InvalidValue` naming the field.
    """

    sm_partition: float
    quota_request: float
    quota_limit: float
    mem_bytes: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.sm_partition <= 100:
            raise InvalidValue("sm_partition", self.sm_partition, "above 0 up to 100 percent")
        if not 0 < self.quota_request <= 1:
            raise InvalidValue("quota_request", self.quota_request, "above 0 up to 1")
        if not self.quota_request <= self.quota_limit <= 1:
            raise InvalidValue("quota_limit", self.quota_limit, f"from quota_request ({self.quota_request}) up to 1")
        if self.mem_bytes < 0:
            raise InvalidValue("mem_bytes", self.mem_bytes, "0 (no cap) or more bytes")

    @property
    def area(self) -> float:
        """Fraction of the device that is reserved: (sm / 100) x quota_request."""
        return self.sm_partition / 100 * self.quota_request
