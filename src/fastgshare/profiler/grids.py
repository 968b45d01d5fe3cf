"""Grids: the configurations that a profile is about. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from fastgshare.domain.devices import Device
from fastgshare.domain.profiles import Configuration

SMS: Final = (6.0, 12.0, 24.0, 50.0, 60.0, 80.0, 100.0)
"""Percent of SMs, as in the paper."""

QUOTAS: Final = (0.2, 0.4, 0.6, 0.8, 1.0)
"""Fractions of a window, as in the paper."""


def paper_grid(batches: Sequence[int] = (1,)) -> tuple[Configuration, ...]:
    """The paper's 35 configurations, for every batch. Raises `InvalidValue` for a batch that is none."""
    return tuple(Configuration(sm, quota, batch) for batch in batches for sm in SMS for quota in QUOTAS)


def snapped(device: Device, grid: Iterable[Configuration]) -> tuple[Configuration, ...]:
    """A grid on the steps that a device can give, each to the nearest (the smaller of two as near); no duplicates."""
    return tuple(dict.fromkeys(replace(point, sm=_nearest(device, point.sm)) for point in grid))


def _nearest(device: Device, sm: float) -> float:
    below, above = device.nearest_sm(sm)
    return below if sm - below <= above - sm else above
