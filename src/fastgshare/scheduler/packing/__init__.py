"""Placing instances on one device: disjoint rects of SMs x time, found fast or searched for exactly. Pure."""

from fastgshare.scheduler.packing.certificates import Certificate
from fastgshare.scheduler.packing.demands import Demand, Packing
from fastgshare.scheduler.packing.packs import MAX_NODES, pack, pack_beside, pack_what_fits
from fastgshare.scheduler.packing.reasons import free_area, free_rects, why

__all__ = [
    "Demand",
    "Packing",
    "Certificate",
    "pack",
    "pack_beside",
    "pack_what_fits",
    "free_rects",
    "free_area",
    "why",
    "MAX_NODES",
]
