"""Names of what workers run, and of the ways of sharing that are compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

LAUNCHES: Final = "launches"
"""A request of this is `SMALL_LAUNCHES` tiny kernels and a wait for them."""

SMALL_LAUNCHES: Final = 200

NETWORKS: Final = ("resnet50", "bert", "lstm", "vit")
"""Of torch, on a GPU."""

TRACES: Final = ("resnet50", "bert", "rnnt", "gnmt")
"""Kernel traces, on the stand-in."""


@dataclass(frozen=True, slots=True)
class Mode:
    """A way of sharing a device. hooked: behind the hook, with tokens. mps: SMs divided or shared by MPS."""

    name: str
    what: str
    hooked: bool
    mps: bool


EXCLUSIVE: Final = Mode("exclusive", "one process has the device to itself: no hook, no MPS", False, False)
TIME_SHARING: Final = Mode("time sharing", "tokens alone: 100% of the SMs each, a quota of 1/n", True, False)
MPS_ALONE: Final = Mode("MPS alone", "100% of the SMs each, no hook, no tokens", False, True)
SHARES: Final = Mode("shares", "100/n percent of the SMs each by MPS, disjoint, behind the hook, quota 1", True, True)
