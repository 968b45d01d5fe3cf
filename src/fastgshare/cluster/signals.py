"""Signals as messages: which came, and from whom."""

from __future__ import annotations

import ctypes
import os
import signal
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

_INFO_BYTES: Final = 128
_INFO: Final = struct.Struct("@IiiI")
"""The head of `struct signalfd_siginfo`: signal, errno, code, pid of the sender."""
_SET_BYTES: Final = 128
_SFD_NONBLOCK: Final = os.O_NONBLOCK
_SFD_CLOEXEC: Final = os.O_CLOEXEC
_NOT_OURS: Final = {
    *(signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP, signal.SIGSYS, signal.SIGABRT),
    *(signal.SIGKILL, signal.SIGSTOP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGPIPE),
}
"""Faults of this process, what cannot be caught, and what is about its own reading and writing."""


@dataclass(frozen=True, slots=True)
class Notice:
    """A signal. sent: a process sent it to this one; else it is the kernel's, such as a terminal's to all in front."""

    number: int
    sent: bool


class Notices:
    """All signals that are news for this process, from now until it ends, instead of their usual effects.

    before: the signals that were blocked; a child is to restore them.
    """

    def __init__(self) -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, children could not be waited for
        wanted = signal.valid_signals() - _NOT_OURS
        self.before: Final = {int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, wanted)}
        self._fd = _signalfd(wanted)

    def fileno(self) -> int:
        """Readable when there is news."""
        return self._fd

    def read(self) -> Iterator[Notice]:
        """What has come."""
        try:
            data = os.read(self._fd, 64 * _INFO_BYTES)
        except BlockingIOError:
            return
        for start in range(0, len(data), _INFO_BYTES):
            number, _, code, _ = _INFO.unpack_from(data, start)
            yield Notice(number, code <= 0)


def _signalfd(numbers: Iterable[int]) -> int:
    mask = sum(1 << (number - 1) for number in numbers).to_bytes(_SET_BYTES, "little")
    libc = ctypes.CDLL(None, use_errno=True)
    fd: int = libc.signalfd(-1, ctypes.create_string_buffer(mask, _SET_BYTES), _SFD_NONBLOCK | _SFD_CLOEXEC)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "signalfd")
    return fd
