"""Certificates: what is proven about a packing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a packing on one device promises, and how good it is.

    bound_by_area: no packing of these instances needs fewer devices than their total area asks for.
    bound_by_time: nor fewer than the quotas of those wider than half the SMs ask for (two of them never overlap).
    free_area: fraction of SMs x window that is not reserved.
    bursts_s: longest burst per instance in seconds, where known. window_s: the window in seconds (0: not given).
    """

    bound_by_area: int
    bound_by_time: int
    free_area: float
    bursts_s: Mapping[str, float]
    window_s: float = 0.0
    devices: int = 1

    @property
    def lower_bound(self) -> int:
        """Devices without which no packing exists."""
        return max(self.bound_by_area, self.bound_by_time)

    @property
    def gap(self) -> int:
        """Devices used beyond the lower bound."""
        return self.devices - self.lower_bound

    @property
    def proven(self) -> bool:
        """Whether no packing on fewer devices exists."""
        return self.gap == 0

    def tolerance(self, instance_id: str, time_s: float) -> float:
        """How far the fraction received over `time_s` may lie off the quota: max(1 percentage point, b/T)."""
        return max(0.01, self.bursts_s.get(instance_id, 0.0) / time_s)
