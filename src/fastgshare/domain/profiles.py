"""Profiles: what a share of a device was measured to be worth to a function."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from fastgshare.domain.errors import InvalidValue

_EMPTY: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True, order=True)
class Configuration:
    """A point of a profile's grid: percent of SMs, fraction of every window, requests worked on as one.

    Raises `InvalidValue` naming the field.
    """

    sm: float
    quota: float
    batch: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.sm <= 100:
            raise InvalidValue("sm", self.sm, "above 0 up to 100 percent")
        if not 0 < self.quota <= 1:
            raise InvalidValue("quota", self.quota, "above 0 up to 1")
        if not 1 <= self.batch <= 1024:
            raise InvalidValue("batch", self.batch, "1 to 1024")

    @property
    def area(self) -> float:
        """Fraction of the device that is paid for: (sm / 100) x quota."""
        return self.sm / 100 * self.quota


@dataclass(frozen=True, slots=True)
class Subject:
    """What a profile is of. model_digest: SHA-256 of the model's file, or of the handler's; device_type: as
    `Device.type`, or what stands for it (the CPU's name and cores; the stand-in's SMs). Profiles of other subjects
    say nothing of this one.
    """

    function: str
    model_digest: str
    device_type: str


class Outcome(StrEnum):
    """How a trial went."""

    MEASURED = "measured"
    CRASHED = "crashed"
    OUT_OF_MEMORY = "out of memory"
    UNSTABLE = "unstable"
    DEVICE_LOST = "device lost"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Figures:
    """What a trial measured. rps: requests answered a second; its standard error where several stretches were measured
    (0: not known). Latencies in seconds, at this load. Utilisations as fractions, None where the device has no counter.
    mem_bytes: most that the instance held of the device's memory (CPU: of its own); None where it is not counted.
    received_quota: part of the time for which it held the device, by the ledger; None where nobody keeps one.
    """

    rps: float
    rps_error: float = 0.0
    p50_s: float | None = None
    p95_s: float | None = None
    p99_s: float | None = None
    sm_utilisation: float | None = None
    sm_occupancy: float | None = None
    mem_bytes: int | None = None
    received_quota: float | None = None


@dataclass(frozen=True, slots=True)
class Trial:
    """One trial: what was asked, what the device could give of it, and what came of it.

    offered_rps: load of an open loop; 0: as much as it could take (capacity). within_s: latency bound that a rate was
    sought for; 0: none. seed: of the load. versions: of all that was used. histogram: latencies, HdrHistogram's
    compressed form; b"" for none. source: "trial", or "production" for what was seen while it served.
    """

    subject: Subject
    asked: Configuration
    given: Configuration
    outcome: Outcome
    figures: Figures | None
    offered_rps: float = 0.0
    within_s: float = 0.0
    seed: int = 0
    started_unix_s: float = 0.0
    took_s: float = 0.0
    reason: str = ""
    source: str = "trial"
    versions: Mapping[str, str] = field(default_factory=lambda: _EMPTY)
    histogram: bytes = b""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A prediction with its interval: `low` to `high` holds the truth with probability `confidence`.

    extrapolated: in words, in which direction no trial has been; "" if the point lies among trials.
    """

    value: float
    low: float
    high: float
    confidence: float = 0.9
    extrapolated: str = ""
