"""Versions: of all that a trial was made with."""

from __future__ import annotations

import platform
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from fastgshare import __version__
from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.functions import Function

_PACKAGES: Final = ("onnxruntime", "onnxruntime-gpu", "torch", "numpy", "mlcommons-loadgen", "hdrhistogram")
_DRIVER: Final = Path("/sys/module/nvidia/version")


def versions(device: Device, function: Function, *, driver: Path = _DRIVER) -> dict[str, str]:
    """By name: this package, Python, the kernel, frameworks, the load generator, and a GPU's driver."""
    found = {"fastgshare": __version__, "python": platform.python_version(), "kernel": platform.release()}
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    if device.kind is DeviceKind.GPU:
        with suppress(OSError):
            found["driver"] = driver.read_text().strip()
    return found
