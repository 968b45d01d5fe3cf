"""Inspections: the devices that could be shared here, how their SMs can be divided, and what is in the way."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from fastgshare.cli.diagnoses import diagnose
from fastgshare.cli.machines import Machine
from fastgshare.cluster.devices import find_device
from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.errors import InvalidValue
from fastgshare.domain.partitions import Partitioning
from fastgshare.manager.gpus import Gpu, NoGpu, find_gpus
from fastgshare.manager.probing import partitionings
from fastgshare.spec.devices import DeviceRequest


@dataclass(frozen=True, slots=True)
class Inspection:
    """gpus: those that the driver shows; if none, silence says why. devices: with all ways of dividing them.

    problems: what is in the way, and what to do. missing: devices that were asked for and are not there.
    """

    gpus: tuple[Gpu, ...]
    silence: str
    devices: tuple[tuple[Device, tuple[Partitioning, ...]], ...]
    problems: list[str]
    missing: list[str]

    @property
    def shareable(self) -> str:
        """What can be shared, in words."""
        count = len(self.gpus)
        return {0: "its CPU", 1: "its CPU and its GPU"}.get(count, f"its CPU and its {count} GPUs")


def inspect(machine: Machine, request: DeviceRequest | None, env: Mapping[str, str] | None = None) -> Inspection:
    """Look at one device, or at all GPUs if none is named."""
    env = os.environ if env is None else env
    gpus, silence = _gpus(env)
    problems, missing = diagnose(machine, gpus, silence), []
    devices = [Device(gpu.uuid, DeviceKind.GPU, gpu.sm_count, gpu.mem_bytes, type=gpu.name) for gpu in gpus]
    if request is not None:
        try:
            devices = [find_device(request, env)]
        except InvalidValue as error:
            devices, missing = [], [f"device {request}"]
            problems.append(str(error))
    known = {gpu.uuid: gpu for gpu in gpus}
    reports = tuple((device, partitionings(device, env, known.get(device.id))) for device in devices)
    return Inspection(gpus, silence, reports, problems, missing)


def _gpus(env: Mapping[str, str]) -> tuple[tuple[Gpu, ...], str]:
    try:
        return find_gpus(env), ""
    except NoGpu as error:
        return (), str(error)
