"""The devices of this machine: its CPU, its GPUs, and stand-ins for GPUs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from fastgshare.cluster.cgroups import Cgroups
from fastgshare.cluster.gpus import NoGpu, find_gpus
from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.errors import InvalidValue
from fastgshare.domain.functions import Function
from fastgshare.spec.devices import DeviceRequest
from fastgshare.spec.frameworks import check_framework

CPU: Final = "cpu"


def find_device(request: DeviceRequest | None, env: Mapping[str, str]) -> Device:
    """The device that is asked for; None: the first GPU that a program with this environment sees.

    Raises `InvalidValue` if it is not there.
    """
    if request is None:
        request = DeviceRequest(DeviceKind.GPU)
        otherwise = "standin (a stand-in for a GPU) or cpu"
    else:
        otherwise = "a GPU that is there, standin (a stand-in for one) or cpu"
    if request.kind is DeviceKind.CPU:
        return cpu_device()
    if request.kind is DeviceKind.STANDIN:
        return Device(str(request), DeviceKind.STANDIN, request.sms, request.mem_bytes)
    try:
        gpus = find_gpus(env)
    except NoGpu as error:
        raise InvalidValue("device", str(request), f"{otherwise}: {error}") from None
    if request.index >= len(gpus):
        raise InvalidValue("device", str(request), f"cuda:0 to cuda:{len(gpus) - 1}, {otherwise}")
    gpu = gpus[request.index]
    return Device(gpu.uuid, DeviceKind.GPU, gpu.sm_count, gpu.mem_bytes)


def find_devices(requests: Sequence[DeviceRequest], env: Mapping[str, str]) -> tuple[Device, ...]:
    """Devices that are asked for, in order. A stand-in that is asked for again is another one, ``standin#2``.

    Raises `InvalidValue` for one that is not there, or is asked for twice.
    """
    found: list[Device] = []
    for request in requests:
        device = find_device(request, env)
        same = [other for other in found if other.id.partition("#")[0] == device.id]
        if same and device.kind is not DeviceKind.STANDIN:
            raise InvalidValue("device", str(request), "every device once; stand-ins as often as you like")
        found.append(replace(device, id=f"{device.id}#{len(same) + 1}") if same else device)
    return tuple(found)


def check_function(device: Device, function: Function) -> None:
    """Raise `InvalidValue` for a function that a device has no share for, or whose model nothing here can open."""
    device.check(function.share)
    if function.model is not None:
        check_framework(function.model, device.kind, f"device {device.id}")


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
