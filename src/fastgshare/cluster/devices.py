"""The devices of this machine: the CPU."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from fastgshare.domain.devices import Device, DeviceKind

CGROUPS: Final = Path("/sys/fs/cgroup")
CPU: Final = "cpu"


def cpu_device(*, cgroups: Path = CGROUPS, membership: Path = Path("/proc/self/cgroup")) -> Device:
    """The CPU: the cores that this process may use and the memory that it may fill.

    Cores are those of the affinity mask (which a cpuset narrows), as many of them as a cgroup's CPU quota pays for;
    memory is the machine's, or the cgroup's limit if that is less.
    """
    cores = sorted(os.sched_getaffinity(0))
    folders = own_cgroups(cgroups, membership)
    usable = cores[: min([len(cores), *(max(1, int(q)) for q in map(_cpu_quota, folders) if q is not None)])]
    machine_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    mem_bytes = min([machine_bytes, *(m for m in map(_mem_limit, folders) if m is not None)])
    return Device(CPU, DeviceKind.CPU, len(usable), mem_bytes, tuple(usable))


def own_cgroups(cgroups: Path = CGROUPS, membership: Path = Path("/proc/self/cgroup")) -> list[Path]:
    """The folders of this process's cgroup (version 2) and of all above it that can be seen, innermost first."""
    relative = next((line[3:] for line in _read(membership).splitlines() if line.startswith("0::")), None)
    if relative is None or not (cgroups / "cgroup.controllers").is_file():
        return []
    inner = cgroups / relative.strip().lstrip("/")
    folders = [inner, *inner.parents]
    return [folder for folder in folders[: folders.index(cgroups) + 1] if folder.is_dir()] if cgroups in folders else []


def _cpu_quota(folder: Path) -> float | None:
    """Cores that a cgroup may use at once; None if it sets no bound."""
    words = _read(folder / "cpu.max").split()
    if len(words) != 2 or words[0] == "max":
        return None
    return int(words[0]) / int(words[1])


def _mem_limit(folder: Path) -> int | None:
    """Bytes that a cgroup may fill; None if it sets no bound."""
    text = _read(folder / "memory.max").strip()
    return int(text) if text.isdecimal() else None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
