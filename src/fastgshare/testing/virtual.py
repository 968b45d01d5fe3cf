"""A device in virtual time, for tests; it lives in the twin's room."""

from fastgshare.sim.daemons import ABSTRACT, library, open_gate
from fastgshare.sim.virtual import VirtualDevice, VirtualInstance, peak_sm, rows

__all__ = ["ABSTRACT", "VirtualDevice", "VirtualInstance", "library", "open_gate", "peak_sm", "rows"]
