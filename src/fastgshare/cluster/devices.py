"""The devices of this machine: the CPU."""

from __future__ import annotations

import os
from typing import Final

from fastgshare.cluster.cgroups import Cgroups
from fastgshare.domain.devices import Device, DeviceKind

CPU: Final = "cpu"


def cpu_device(cgroups: Cgroups | None = None) -> Device:
    """The CPU: the cores that this process may use and the memory that it may fill.

    Cores are those of the affinity mask (which a cpuset narrows), as many of them as a cgroup's CPU quota pays for;
    memory is the machine's, or the cgroup's limit if that is less.
    """
    cgroups = Cgroups.of_this_process() if cgroups is None else cgroups
    cores = tuple(sorted(os.sched_getaffinity(0)))
    quota = cgroups.cpu_quota()
    usable = cores if quota is None else cores[: max(1, int(quota))]
    limit = cgroups.memory_bytes()
    mem_bytes = machine_bytes() if limit is None else min(limit, machine_bytes())
    return Device(CPU, DeviceKind.CPU, len(usable), mem_bytes, usable)


def machine_bytes() -> int:
    """Memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
