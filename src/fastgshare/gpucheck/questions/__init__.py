"""Open questions: how mechanisms behave that nobody has written down; each is asked of the device itself."""

from __future__ import annotations

from typing import Final

from fastgshare.gpucheck.questions import faults, green_places, percentages, static_partitions, switching
from fastgshare.gpucheck.questions.answers import Question

ALL: Final[tuple[Question, ...]] = (percentages, green_places, switching, static_partitions, faults)
"""In the order in which they are asked: the one that makes a fault comes last."""
