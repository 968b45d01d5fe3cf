"""Runs programs on the stand-in, each in a process of its own, and takes part in a device through its timeline."""

from __future__ import annotations

import ctypes
import mmap
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from fastgshare.native import library

LIBRARIES = library("standin/libnvidia-ml.so.1").parent
GIB = 1 << 30


def environment(settings: str, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a program finds on a machine whose only GPU is the stand-in with these settings."""
    ours = ("FASTGSHARE_", "CUDA_", "LD_", "NUMBA_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    kept["PYTHONPATH"] = str(Path(__file__).parents[2])  # programs in Python find tests.standin.bodies
    return {**kept, "LD_LIBRARY_PATH": str(LIBRARIES), "FASTGSHARE_STANDIN": settings, **(more or {})}


def run(
    command: Sequence[str | Path], settings: str, more: Mapping[str, str] | None = None, *, complains: str = ""
) -> str:
    """Output of a program that must end well within a minute. complains: all that it says on standard error."""
    done = subprocess.run(
        [str(word) for word in command],
        env=environment(settings, more),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert done.stderr == complains, done.stderr
    return done.stdout


def run_python(source: str, settings: str, more: Mapping[str, str] | None = None, *, complains: str = "") -> list[str]:
    """Lines that a Python program prints."""
    return run([sys.executable, "-c", textwrap.dedent(source)], settings, more, complains=complains).splitlines()


def on_driver(
    source: str, settings: str = "", more: Mapping[str, str] | None = None, *, complains: str = ""
) -> list[str]:
    """Lines that a program prints that begins with everything of tests.standin.calls."""
    whole = "from tests.standin.calls import *\n" + textwrap.dedent(source)
    return run_python(whole, settings, more, complains=complains)


class _Config(ctypes.Structure):
    _fields_ = (
        ("sms", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
        ("mem_bytes", ctypes.c_uint64),
        ("turns", ctypes.c_uint32),
        ("turn_loss", ctypes.c_uint32),
    )


class _Work(ctypes.Structure):
    _fields_ = (
        ("kind", ctypes.c_uint32),
        ("blocks", ctypes.c_uint32),
        ("blocks_per_sm", ctypes.c_uint32),
        ("bandwidth", ctypes.c_uint32),
        ("full_ns", ctypes.c_uint64),
        ("fault", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
    )


class Neighbour:
    """A process with a part of a device's SMs, played by this one; `state` is the file that the device lives in."""

    def __init__(
        self, state: Path, *, pid: int | None = None, sms_percent: int = 100, mem_bytes: int = 80 * GIB
    ) -> None:
        self._timeline = timeline = ctypes.CDLL(str(library("libstandin_virtual.so")))
        timeline.st_size.restype = ctypes.c_size_t
        timeline.st_create.restype = timeline.st_submit.restype = ctypes.c_void_p
        with state.open("a+b") as file:
            file.truncate(timeline.st_size())
            self._memory = mmap.mmap(file.fileno(), timeline.st_size())
        place = (ctypes.c_char * timeline.st_size()).from_buffer(self._memory)
        self._device = ctypes.c_void_p(timeline.st_create(place, ctypes.byref(_Config(132, 0, mem_bytes))))
        self._index = timeline.st_join(
            self._device, pid or os.getpid(), sms_percent * 1000, ctypes.c_uint64(1), self._now()
        )

    @staticmethod
    def _now() -> ctypes.c_uint64:
        return ctypes.c_uint64(time.monotonic_ns())

    def take(self, mem_bytes: int) -> None:
        """Allocates; negative gives back."""
        assert self._timeline.st_charge(self._device, self._index, ctypes.c_int64(mem_bytes)) == 0

    def compute(self, full_ns: int, *, fault: int = 0) -> None:
        """Starts a kernel that fills the device for that long when alone, and then fails with that error, if any."""
        queue = self._timeline.st_open_queue(self._device, self._index)
        work = _Work(0, 132, 1, 0, full_ns, fault)
        assert self._timeline.st_submit(self._device, queue, ctypes.byref(work), self._now())

    def leave(self) -> None:
        """Its work is dropped, its memory is free."""
        self._timeline.st_leave(self._device, self._index, self._now())
