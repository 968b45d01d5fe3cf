"""Processes by the kernel's handle, so that a number that was given to another process deceives nobody."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Self

from fastgshare.domain.errors import InvalidValue


class Process:
    """One process. fd: its pidfd, which becomes readable when it has ended; -1 once closed."""

    def __init__(self, pid: int, fd: int) -> None:
        self.pid = pid
        self.fd = fd
        self._poll = select.poll()
        if fd >= 0:
            self._poll.register(fd, select.POLLIN)

    @classmethod
    def open(cls, pid: int, field: str = "pid") -> Self:
        """Get hold of the process behind a number. Raises `InvalidValue` naming the field if there is none."""
        try:
            return cls(pid, os.pidfd_open(pid))
        except (OSError, OverflowError) as error:
            raise InvalidValue(field, pid, "a running process") from error

    def has_ended(self) -> bool:
        """Whether it has; also once closed."""
        if self.fd < 0:
            return True
        return bool(self._poll.poll(0))

    def cpu_ns(self) -> int | None:
        """Its CPU time so far; None once it has gone."""
        try:
            return time.clock_gettime_ns((~self.pid << 3) | 2)  # the process's CPU clock, see clock_getcpuclockid(3)
        except OSError:
            return None

    def wants_cpu(self) -> bool:
        """Whether one of its threads could run now, but for the CPU."""
        for path in Path(f"/proc/{self.pid}/task").glob("*/stat"):
            with suppress(OSError):
                if path.read_bytes().rpartition(b") ")[2][:1] == b"R":
                    return True
        return False

    def descends_from(self, others: tuple[Process, ...]) -> bool:
        """Whether one of the others, still there, is its parent, its parent's parent, and so on."""
        by_pid = {other.pid: other for other in others}
        nearest = next((by_pid[pid] for pid in ancestors(self.pid) if pid in by_pid), None)
        return nearest is not None and not nearest.has_ended() and not self.has_ended()

    def kill(self) -> None:
        """End it; no error if it has ended."""
        with suppress(OSError):
            signal.pidfd_send_signal(self.fd, signal.SIGKILL)

    def close(self) -> None:
        """Let go of the handle."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def ancestors(pid: int) -> Iterator[int]:
    """Its parent, its parent's parent and so on, as they are now; what cannot be read ends it."""
    while pid > 1:
        try:
            fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return
        try:
            stat = os.read(fd, 4096)
        except OSError:
            return
        finally:
            os.close(fd)
        pid = int(stat.rpartition(b") ")[2].split()[1])
        yield pid
