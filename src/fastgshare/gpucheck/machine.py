"""The machine: what device, driver and packages the figures are of, and how its SMs can be divided."""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from fastgshare.gpucheck.benches import Bench
from fastgshare.gpucheck.findings import Findings

PACKAGES: Final = (
    "fastgshare",
    "torch",
    "transformers",
    "timm",
    "numpy",
    "nvidia-ml-py",
    "cuda-bindings",
    "numba-cuda",
)
_SMI_FACTS: Final = (
    *("name", "driver_version", "pstate", "compute_mode", "persistence_mode", "mig.mode.current"),
    *("clocks.sm", "clocks.max.sm", "clocks.mem", "power.limit", "temperature.gpu", "memory.total", "memory.used"),
)
_MPS_PROGRAM: Final = "nvidia-cuda-mps-control"
_PATIENCE_S: Final = 10.0
_ASK_TORCH: Final = """
import torch
from transformers import BertModel, ResNetForImageClassification, ViTForImageClassification
torch.nn.LSTM(8, 8).cuda()(torch.zeros(1, 1, 8).cuda())
print(f"CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}, {torch.cuda.get_device_name(0)}")
"""
_FACT: Final = {"what": "what", "value": "value"}
_WAYS: Final = {
    "name": "mechanism",
    "there": "there",
    "guarantee": "guarantee",
    "grid": "grid",
    "resizes_live": "resizes live",
    "because": "because",
    "advice": "advice",
}


async def work(bench: Bench, findings: Findings) -> None:
    """Facts first, for they cost nothing; then what has to be probed."""
    table = findings.table("Facts", _FACT)
    for what, value in {**_host(), **_device(bench)}.items():
        table.rows.append({"what": what, "value": value})
    if not bench.is_standin:
        for what, value in (await asyncio.to_thread(_smi, bench.device.id)).items():
            table.rows.append({"what": what, "value": value})
    for package in PACKAGES:
        table.rows.append({"what": package, "value": _version(package)})
    await _mechanisms(bench, findings)
    if not bench.is_standin:
        table.rows.append({"what": "torch on the device", "value": await _torch(bench)})


def _host() -> dict[str, object]:
    pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cores": len(os.sched_getaffinity(0)),
        "memory": f"{pages / 2**30:.1f} GiB",
        "kernel": platform.release().partition("-")[0],
        "python": platform.python_version(),
        "user": "root" if os.geteuid() == 0 else "not root",
        "driver of the kernel": _first_line(Path("/proc/driver/nvidia/version")) or "none",
        _MPS_PROGRAM: shutil.which(_MPS_PROGRAM) or "not on the PATH",
    }


def _device(bench: Bench) -> dict[str, object]:
    device = bench.device
    kind = "the stand-in, a test double: no GPU was used" if bench.is_standin else "GPU"
    return {
        "device": device.type or device.id,
        "kind": kind,
        "SMs": device.sm_count,
        "device memory": f"{device.mem_bytes / 2**30:.1f} GiB",
    }


def _smi(device_id: str) -> dict[str, object]:
    """What the driver's own program says; whatever it does not know is absent."""
    try:
        said = _output(
            ["nvidia-smi", f"--query-gpu={','.join(_SMI_FACTS)}", "--format=csv,noheader", f"--id={device_id}"]
        )
    except (OSError, subprocess.SubprocessError) as error:
        return {"nvidia-smi": f"says nothing: {error}"}
    values = (value.strip() for value in said.strip().split(","))
    return {fact: value for fact, value in zip(_SMI_FACTS, values, strict=False) if not value.startswith("[")}


def _output(command: Sequence[str]) -> str:
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=_PATIENCE_S)
    return done.stdout


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


async def _torch(bench: Bench) -> str:
    """What torch says of itself. After this it has been read from the disk, and no measurement waits for that."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _ASK_TORCH),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=bench.of_programs(),
    )
    try:
        said, errors = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    lines = (said if process.returncode == 0 else errors).decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it says nothing"


def _first_line(path: Path) -> str:
    try:
        return path.read_text(errors="replace").partition("\n")[0]
    except OSError:
        return ""


async def _mechanisms(bench: Bench, findings: Findings) -> None:
    table = findings.table("How its SMs can be divided", _WAYS)
    for found in await bench.probe():
        row = {name: getattr(found, name) for name in _WAYS}
        table.rows.append(row | {"guarantee": str(found.guarantee), "sm_unit": found.sm_unit})
