"""Ledger entries: what an instance was entitled to and what it received, window by window."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One instance in one window of one device. Times in seconds; SM-seconds = seconds x sm_partition / 100.

    entitled_s: quota_request x window. received_s: time held, of which loan_s was lent by others.
    demand_s: time in which it had work. cpu_s: CPU time its process used (0 where not measured).
    """

    window_index: int
    window_start_s: float
    window_s: float
    instance_id: str
    sm_partition: float
    entitled_s: float
    received_s: float
    loan_s: float
    demand_s: float
    cpu_s: float

    @property
    def backlogged(self) -> bool:
        """Whether the instance had work during (all but a thousandth of) the whole window."""
        return self.demand_s >= 0.999 * self.window_s
