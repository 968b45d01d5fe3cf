"""Where the native libraries lie. They are opened with ctypes or preloaded, never imported."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from fastgshare.domain.errors import NotFound


def library(name: str) -> Path:
    """Path of a native library such as ``libfastgate.so``. Raises `NotFound` if it was not built."""
    path = Path(str(files("fastgshare") / "lib" / name))
    if not path.is_file():
        raise NotFound("native library", str(path))
    return path
