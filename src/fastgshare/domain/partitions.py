"""Partitions: what the ways of dividing a device's SMs between processes offer."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Guarantee(StrEnum):
    """What a mechanism guarantees. reserve: nobody else gets it. cap: you get no more. advisory: a wish."""

    RESERVE = "reserve"
    CAP = "cap"
    ADVISORY = "advisory"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Partitioning:
    """A way of dividing a device's SMs.

    name: "mps", "mps-static", "green-contexts" or "none". guarantee: of `sm_partition`.
    grid: the sizes that there are, in words. sm_unit: SMs in one step of it; 0 where it goes by the percent.
    resizes_live: whether a running process can be given other SMs.
    there: whether it can be used on this machine. because: why, or why not. advice: what a person can do, or "".
    """

    name: str
    guarantee: Guarantee
    grid: str
    sm_unit: int
    resizes_live: bool
    there: bool
    because: str
    advice: str = ""
