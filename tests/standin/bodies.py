"""Bodies for kernels, in Python: what they do to memory on the stand-in. Used inside the programs that tests run."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any


class Launch(ctypes.Structure):
    """standin_launch of native/standin/standin.h."""

    _fields_ = (
        ("kernel", ctypes.c_char_p),
        ("grid", ctypes.c_uint32 * 3),
        ("block", ctypes.c_uint32 * 3),
        ("shared_bytes", ctypes.c_uint32),
        ("params", ctypes.c_uint32),
        ("param", ctypes.POINTER(ctypes.c_void_p)),
    )

    def number(self, index: int, kind: type[Any]) -> Any:
        """Parameter of a kernel as a number of ctypes' kind."""
        return ctypes.cast(self.param[index], ctypes.POINTER(kind)).contents.value

    def floats(self, pointer: int, count: int) -> ctypes.Array[ctypes.c_float]:
        """Memory that a parameter points to."""
        return (ctypes.c_float * count).from_address(self.number(pointer, ctypes.c_uint64))


_kept: list[object] = []  # ctypes frees what nobody holds


def register(kernel: str, body: Callable[[Launch], None]) -> None:
    """Has the stand-in call `body` at every launch of the kernel."""
    callback = ctypes.CFUNCTYPE(None, ctypes.POINTER(Launch))(lambda launch: body(launch.contents))
    _kept.append(callback)
    assert ctypes.CDLL("libcuda.so.1").standin_register_body(kernel.encode(), callback) == 0
