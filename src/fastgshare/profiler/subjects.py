"""Subjects: what a profile is of, so that one that was made of something else is never used by mistake."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.errors import InvalidValue
from fastgshare.domain.profiles import Subject

CPUINFO: Final = Path("/proc/cpuinfo")


def subject(function: str, files: Sequence[Path], device: Device, *, cpuinfo: Path = CPUINFO) -> Subject:
    """A function on a device. files: of its model, of its handler; at least one.

    Raises `InvalidValue` naming a file that cannot be read.
    """
    return Subject(function, digest(files), device_type(device, cpuinfo=cpuinfo))


def digest(files: Sequence[Path]) -> str:
    """SHA-256 of a file in hexadecimal digits; of several, that of their digests one behind the other."""
    found = [_digest(path) for path in files]
    return found[0] if len(found) == 1 else hashlib.sha256("".join(found).encode()).hexdigest()


def device_type(device: Device, *, cpuinfo: Path = CPUINFO) -> str:
    """What stands for all devices like this one: what was measured on it holds for them."""
    match device.kind:
        case DeviceKind.CPU:
            cores = "core" if device.sm_count == 1 else "cores"
            return f"{_cpu_name(cpuinfo)} ({device.sm_count} {cores})"
        case DeviceKind.STANDIN:
            return f"stand-in for a GPU, {device.sm_count} SMs"
        case _:
            return device.type or f"{device.kind}, {device.sm_count} SMs"


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InvalidValue("model", str(path), f"a file that can be read ({error.strerror})") from None


def _cpu_name(cpuinfo: Path) -> str:
    try:
        lines = cpuinfo.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.machine()
