"""nvcc as its wheels bring it, for programs that are linked with the stand-in's runtime."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path

from tests.standin.programs import LIBRARIES


def toolkit() -> Path:
    """Where its wheels put it."""
    spec = importlib.util.find_spec("nvidia")
    assert spec is not None and spec.submodule_search_locations is not None
    return Path(next(iter(spec.submodule_search_locations))) / "cu13"


def compile_cuda(source: Path, target: Path, *flags: str) -> Path:
    """Compiles a .cu for the stand-in's kind of device; its runtime is found at run time, under its name."""
    (target.parent / "libcudart.so").unlink(missing_ok=True)
    (target.parent / "libcudart.so").symlink_to(LIBRARIES / "libcudart.so.13")
    libraries = ["-cudart", "shared", f"-L{target.parent}", f"-L{toolkit() / 'lib'}"]
    command = [toolkit() / "bin" / "nvcc", "-std=c++20", "-arch=sm_90", *flags, *libraries, "-o", target, source]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return target


def compile_cubin(source: Path, target: Path) -> Path:
    """Device code alone, for a program of the driver's API to load."""
    command = [toolkit() / "bin" / "nvcc", "-std=c++20", "-arch=sm_90", "-cubin", "-o", target, source]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return target
