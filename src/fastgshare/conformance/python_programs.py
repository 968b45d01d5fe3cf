"""Programs as people write them in Python, where the packages are installed that they need."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Final

from fastgshare.conformance.allocations import CAP_BYTES, OUT_OF_MEMORY
from fastgshare.conformance.gating import QUOTA, gated
from fastgshare.conformance.ground import Ground, Place, Probe, share
from fastgshare.conformance.rows import Row, judged, not_applicable
from fastgshare.domain.shares import Share

_ROOM: Final = "fastgshare.conformance.programs"
_LAUNCHES: Final = {
    "cuda-bindings": ("cuLaunchKernel", "cuLaunchKernelEx", "cuGraphLaunch"),
    "numba-cuda": ("kernels",),
}
_MODULES: Final = {"cuda-bindings": "bindings", "numba-cuda": "numba_kernels"}
_PARTS: Final = 8  # of the cap in a block; the programs know it too
_KERNEL_NS: Final = 1_000_000  # on the stand-in, which cannot know how long a compiled kernel takes


async def rows(ground: Ground) -> list[Row]:
    """cuda-bindings and numba-cuda: launches gated, memory refused."""
    return [row for package in _LAUNCHES for row in await _of_package(ground, package)]


async def _of_package(ground: Ground, package: str) -> list[Row]:
    names = [*_LAUNCHES[package], "over the cap"]
    if not _installed(package):
        return [not_applicable(f"program: {package}, {name}", "package not installed") for name in names]
    words = ground.python(f"{_ROOM}.{_MODULES[package]}", str(CAP_BYTES))
    probe = await ground.start_program(_place(), words, {"kernel_ns": str(_KERNEL_NS)})
    await probe.finish()
    return [_row(package, name, probe) for name in names]


def _installed(package: str) -> bool:
    """Whether what its program imports is there."""
    needed: Sequence[str] = ("cuda", "cuda.bindings") if package == "cuda-bindings" else ("numba", "numba_cuda")
    return all(_found(module) for module in needed)


def _found(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _place() -> Place:
    given, rect = share(QUOTA)
    return Share(given.sm_partition, given.quota_request, given.quota_limit, CAP_BYTES), rect


def _row(package: str, name: str, probe: Probe) -> Row:
    row = f"program: {package}, {name}"
    line = next((line for line in probe.lines if line.get("name") == name), None)
    if line is None:
        return judged(row, False, probe.what_went_wrong())
    if name != "over the cap":
        return gated(row, line)
    holds = _PARTS - 1 <= line["blocks"] <= _PARTS and line["refusal"] == OUT_OF_MEMORY
    return judged(row, holds, f"{line['blocks']} of {_PARTS} eighths of the cap, then error {line['refusal']}")
