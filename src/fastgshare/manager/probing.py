"""What there is for dividing a device's SMs, and why not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from fastgshare.domain.devices import Device
from fastgshare.domain.errors import NotFound
from fastgshare.domain.partitions import Guarantee, Partitioning
from fastgshare.manager.mps_programs import find_control

_MPS_GRID: Final = "whole percent of the SMs; the driver rounds them up to what the device can tell apart"


def partitionings(device: Device, env: Mapping[str, str]) -> tuple[Partitioning, ...]:
    """All ways of dividing a device's SMs, the strongest first."""
    if not device.takes_turns:
        return (none(device),)
    return (mps(device, env), none(device))


def mps(device: Device, env: Mapping[str, str]) -> Partitioning:
    """MPS's active-thread percentage."""
    try:
        program = find_control(device, env)
    except NotFound as error:
        advice = "install the driver's compute utilities, or mount them into the container"
        return _mps(there=False, because=str(error), advice=advice)
    return _mps(there=True, because=f"{program} is there")


def none(device: Device) -> Partitioning:
    """Nothing divides them."""
    because = "processes take turns on all of the SMs: a token is exclusive"
    if not device.takes_turns:
        because = "no partitioner is needed: the kernel gives every instance its own"
    return Partitioning("none", Guarantee.NONE, "all of the SMs", 0, False, True, because)


def _mps(*, there: bool, because: str, advice: str = "") -> Partitioning:
    return Partitioning("mps", Guarantee.CAP, _MPS_GRID, 0, False, there, because, advice)
