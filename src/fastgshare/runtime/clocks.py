"""The clock that bursts are measured with."""

from __future__ import annotations

import os
import time
from typing import Final

from fastgshare.domain.units import seconds

_SCHEDSTAT: Final = "/proc/thread-self/schedstat"


class WorkClock:
    """Monotonic seconds that stand still while the thread that made this clock waits for a core.

    A burst does not become longer because a stranger computes on the same core; counting that would lengthen the
    window of a device for good. Where the kernel does not tell how long a thread waited, it is monotonic time.
    """

    def __init__(self) -> None:
        try:
            self._fd: int | None = os.open(_SCHEDSTAT, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._fd = None

    def __call__(self) -> float:
        """Seconds from some point in the past. Raises nothing."""
        return time.monotonic() - self._waited_s()

    def _waited_s(self) -> float:
        if self._fd is None:
            return 0.0
        _, waited_ns, *_ = os.pread(self._fd, 64, 0).split()
        return seconds(int(waited_ns))
