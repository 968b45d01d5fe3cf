"""Instances: replicas of a function, one process each."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from fastgshare.domain.functions import Function
from fastgshare.domain.rects import Placement


@dataclass(frozen=True, slots=True)
class Instance:
    """One replica of a function and its place."""

    id: str
    function: Function
    placement: Placement


class InstanceState(StrEnum):
    """Where an instance is in its life. STARTING -> READY -> DRAINING -> GONE; any -> FAILED."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    GONE = "gone"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class InstanceStatus:
    """What a cluster observes of one instance.

    burst_s: its longest unit of device work so far, in seconds (0: not measured yet).
    reason: its last words if it failed, else empty. blameless: it failed for what others did or befell its device.
    """

    id: str
    function_name: str
    state: InstanceState
    placement: Placement
    pid: int = 0
    burst_s: float = 0.0
    reason: str = ""
    blameless: bool = False
