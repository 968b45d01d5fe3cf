"""Published throughputs on a V100 (80 SMs), for calibration and for comparison.

Source: the figures of FaST-GShare (Gu et al., ICPP 2023), as read off by the authors of this project.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SMS: Final = 80
"""SMs of the device that they were measured on."""


@dataclass(frozen=True, slots=True)
class Point:
    """One measurement: so many replicas, each on sm_partition percent and a quota, together answer rps requests/s.

    partitioned: False: without MPS, the replicas take turns on the whole device. calibrates: the model is fitted to it.
    """

    network: str
    sm_partition: float
    quota: float
    replicas: int
    rps: float
    partitioned: bool = True
    calibrates: bool = False


def _resnet() -> list[Point]:
    quotas = {0.2: (13.5, 18, 19), 0.4: (25, 35, 38), 0.6: (34.5, 46, 50), 0.8: (42.5, 59, 63)}
    full = [
        Point("resnet50", sm, 1.0, 1, rps, calibrates=True) for sm, rps in ((6, 50), (12, 68.5), (24, 75), (100, 75))
    ]
    return full + [
        Point("resnet50", sm, quota, 1, rps)
        for quota, column in quotas.items()
        for sm, rps in zip((6, 12, 24), column, strict=True)
    ]


def _rnnt() -> list[Point]:
    counts = (1, 3, 5, 7, 9)
    sets = {100: (12.5, 21, 22, 22.5, 22), 24: (12, 30, 40.5, 47, 51), 12: (10.5, 27.5, 37.5, 43, 46)}
    return [
        Point("rnnt", sm, 1.0, n, rps, partitioned=sm < 100, calibrates=sm == 100 or (sm == 24 and n <= 3))
        for sm, column in sets.items()
        for n, rps in zip(counts, column, strict=True)
    ]


POINTS: Final = (*_resnet(), *_rnnt())
CALIBRATION: Final = tuple(p for p in POINTS if p.calibrates)
PREDICTED: Final = tuple(p for p in POINTS if not p.calibrates)

REFERENCE_HELD: Final = {0.3: 0.44, 0.5: 0.65}
"""Quota -> share of time that a saturated instance held under the reference's own scheduler, as we measured it."""

RATIO: Final = 2.3
"""Nine replicas of RNN-T at 24% over nine without partitions, as the paper shows it."""
