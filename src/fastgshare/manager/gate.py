"""The token gate of an instance: ctypes over libfastgate.so."""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path
from typing import Final

from fastgshare import native
from fastgshare.domain.errors import DaemonUnavailable, FastGShareError, InstanceFailed
from fastgshare.domain.units import ns, seconds

_FOREVER_NS: Final = 2**64 - 1
_EVICTED: Final = -1
_MISUSE: Final = -2


_U64, _POINTER = ctypes.c_uint64, ctypes.c_void_p
_SIGNATURES: Final[dict[str, tuple[object, list[object]]]] = {
    "fg_open": (_POINTER, [ctypes.c_char_p, ctypes.c_char_p, _U64, ctypes.c_char_p, ctypes.c_size_t]),
    "fg_knock": (ctypes.c_int, [ctypes.c_char_p, ctypes.c_char_p]),
    "fg_enter": (_POINTER, [ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p, _U64, ctypes.c_char_p, ctypes.c_size_t]),
    "fg_close": (None, [_POINTER]),
    "fg_acquire": (ctypes.c_int, [_POINTER, _U64, _U64]),
    "fg_continue": (ctypes.c_int, [_POINTER, _U64]),
    "fg_checkpoint": (ctypes.c_int, [_POINTER, _U64, _U64]),
    "fg_release": (None, [_POINTER, ctypes.c_int]),
    "fg_valid": (ctypes.c_int, [_POINTER]),
    "fg_hold": (None, [_POINTER]),
    "fg_report_burst": (None, [_POINTER, _U64]),
    "fg_expiry_ns": (_U64, [_POINTER]),
    "fg_latency_ns": (_U64, [_POINTER]),
    "fg_charge_memory": (ctypes.c_int, [_POINTER, ctypes.c_int64]),
    "fg_memory": (None, [_POINTER, ctypes.POINTER(_U64), ctypes.POINTER(_U64)]),
    "fg_layout": (ctypes.c_size_t, [ctypes.POINTER(ctypes.c_uint32), ctypes.c_size_t]),
    "fg_publish": (None, [_POINTER, ctypes.c_uint32, ctypes.c_char_p]),
    "fg_announce": (None, [_POINTER, _U64, _U64, _U64, ctypes.c_uint32]),
    "fg_read_page": (ctypes.c_int, [_POINTER, _POINTER]),
}


def declare(lib: ctypes.CDLL) -> ctypes.CDLL:
    """Give the functions of native/gate/fastgate.h their signatures."""
    for name, (result, arguments) in _SIGNATURES.items():
        if hasattr(lib, name):
            function = getattr(lib, name)
            function.restype, function.argtypes = result, arguments
    return lib


@cache
def library() -> ctypes.CDLL:
    """The native library with its signatures. Raises `NotFound` if it was not built."""
    return declare(ctypes.CDLL(str(native.library("libfastgate.so"))))


class Gate:
    """An instance's way to the device. All calls from one worker thread; waiting releases the GIL."""

    def __init__(self, socket_path: Path, instance_id: str, *, timeout_s: float = 30.0) -> None:
        """Register with the node daemon. Raises `DaemonUnavailable` if it does not admit this process in time."""
        self._lib = library()
        self._instance_id = instance_id
        error = ctypes.create_string_buffer(256)
        path, name = str(socket_path).encode(), instance_id.encode()
        self._gate = self._lib.fg_open(path, name, ns(timeout_s), error, len(error))
        if not self._gate:
            raise DaemonUnavailable(error.value.decode(errors="replace"))

    def acquire(self, burst_s: float = 0.0, *, timeout_s: float | None = None) -> bool:
        """Wait until a burst of that length may start (0: work that can stop at any moment).

        Returns whether a token is held: False only after `timeout_s`. Raises `InstanceFailed` if the daemon has
        taken this instance off the device.
        """
        timeout_ns = _FOREVER_NS if timeout_s is None else ns(timeout_s)
        return self._checked(self._lib.fg_acquire(self._gate, ns(burst_s), timeout_ns))

    def may_continue(self, burst_s: float = 0.0) -> bool:
        """Whether the next burst may start under the token held."""
        return self._checked(self._lib.fg_continue(self._gate, ns(burst_s)))

    def checkpoint(self, burst_s: float = 0.0) -> None:
        """Between two bursts: keep the token if the next may start now, else return it and wait for the next."""
        self._checked(self._lib.fg_checkpoint(self._gate, ns(burst_s), _FOREVER_NS))

    def release(self, more: bool = False) -> None:
        """Return the token; `more` says that further work is waiting already."""
        self._lib.fg_release(self._gate, int(more))

    def valid(self) -> bool:
        """Whether a token is held and valid now."""
        return bool(self._lib.fg_valid(self._gate))

    def hold(self) -> None:
        """Sleep while the token is valid."""
        self._lib.fg_hold(self._gate)

    def report_burst(self, burst_s: float) -> None:
        """Say how long this instance's longest burst is."""
        self._lib.fg_report_burst(self._gate, ns(burst_s))

    @property
    def grant_latency_s(self) -> float:
        """From when the last token was due to when it was held."""
        return seconds(int(self._lib.fg_latency_ns(self._gate)))

    def close(self) -> None:
        """Return the token and leave the device."""
        if self._gate:
            self._lib.fg_close(self._gate)
            self._gate = None

    def _checked(self, result: int) -> bool:
        if result == _EVICTED:
            raise InstanceFailed(self._instance_id, "the node daemon has taken it off the device")
        if result == _MISUSE:
            raise FastGShareError("a token is acquired while none is held, and continued or returned while one is")
        return result == 0
