"""What the profiler needs of the outside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from fastgshare.domain.profiles import Subject, Trial


class Profiles(Protocol):
    """Where trials are kept, of all subjects; what was added is there after a crash."""

    def add(self, trial: Trial) -> None:
        """Keep a trial."""
        ...

    def trials(self, subject: Subject) -> Sequence[Trial]:
        """The trials of exactly this subject, oldest first; none of others'."""
        ...

    def subjects(self) -> Sequence[Subject]:
        """Of whom there are trials."""
        ...
