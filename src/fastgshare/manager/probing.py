"""What there is for dividing a device's SMs, what each way guarantees, and why one is not there.

Facts about NVIDIA's mechanisms are from its documentation of MPS and of the driver; docs/partitioners.md says where.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.errors import NotFound
from fastgshare.domain.partitions import Guarantee, Partitioning
from fastgshare.manager.environments import STANDIN_DRIVER
from fastgshare.manager.gpus import ComputeMode, Gpu, NoGpu, find_gpus
from fastgshare.manager.mps_programs import find_control, mps_runs, pipes_of
from fastgshare.native import library

_STATIC_SINCE: Final = 13010
_STATIC_LEAST: Final = (8, 0)
_HOPPER: Final = 9
_ASK_ADMIN: Final = "who administers the machine can let programs in: nvidia-smi -c DEFAULT"
_BUILD: Final = "install fastgshare again (pip install .)"
GET_CONTROL: Final = (
    "install the package of the driver that has it (Debian, Ubuntu: nvidia-compute-utils-VERSION; Fedora, RHEL: "
    "nvidia-driver-cuda); into a container the NVIDIA Container Toolkit mounts it where the host has it, with "
    "NVIDIA_DRIVER_CAPABILITIES=compute,utility"
)


@dataclass(frozen=True, slots=True)
class Situation:
    """What decides. program: MPS's control program, None if it is not there. missing: why not.

    running: the pipe directory of an MPS that serves this environment already, None for none.
    gpu: what the driver says of the device, None if it says nothing; silence: why.
    """

    device: Device
    program: Path | None
    missing: str
    running: Path | None
    gpu: Gpu | None
    silence: str

    @property
    def mode(self) -> ComputeMode:
        """The compute mode; the usual one where nobody says."""
        return self.gpu.compute_mode if self.gpu is not None else ComputeMode.DEFAULT

    @property
    def takes_running(self) -> bool:
        """Whether the MPS that runs already is the one to use: none of ours could be beside it, or be started."""
        return self.running is not None and (self.mode is ComputeMode.EXCLUSIVE or self.program is None)


def situation(device: Device, env: Mapping[str, str], *, gpu: Gpu | None = None, thorough: bool = False) -> Situation:
    """What there is for a device.

    gpu: what the driver says of it, where that is known. thorough: ask a stand-in's driver too, of which nothing
    decides what can be chosen.
    """
    if not device.takes_turns:
        return Situation(device, None, "only GPUs have it", None, None, "")
    program, missing = None, ""
    try:
        program = find_control(device, env)
    except NotFound as error:
        missing = str(error)
    silence = ""
    if gpu is None and (device.kind is DeviceKind.GPU or thorough):
        try:
            gpu = _find(device, env)
        except (NoGpu, NotFound) as error:
            silence = str(error)
    runs = device.kind is DeviceKind.GPU and mps_runs(env)
    return Situation(device, program, missing, pipes_of(env) if runs else None, gpu, silence)


def partitionings(device: Device, env: Mapping[str, str], gpu: Gpu | None = None) -> tuple[Partitioning, ...]:
    """All ways of dividing a device's SMs, the strongest first. gpu: what the driver says of it, where known."""
    found = situation(device, env, gpu=gpu, thorough=True)
    if not device.takes_turns:
        return (none(found),)
    return (mps_static(found), green_contexts(found), mps(found), none(found))


def mps(found: Situation) -> Partitioning:
    """MPS's active-thread percentage, fixed when a process starts."""
    unit = "whole percent of the SMs; how many SMs a percent really is, the driver decides"
    report = Partitioning("mps", Guarantee.CAP, unit, 0, False, True, "")
    if found.mode is ComputeMode.PROHIBITED:
        return _prohibited(report)
    if found.takes_running:
        because = f"an MPS that is not ours runs ({found.running}) and is used, for one trust group: " + (
            "the compute mode EXCLUSIVE_PROCESS lets no second one in"
            if found.mode is ComputeMode.EXCLUSIVE
            else f"none can be started here, {found.missing}"
        )
        return replace(report, because=because)
    if found.program is None:
        return replace(report, there=False, because=found.missing, advice=_get_control(found))
    because = f"{found.program}: a control daemon for every trust group, with a server that a fault does not leave"
    if found.mode is ComputeMode.EXCLUSIVE:
        because = f"{found.program}: one server, for one trust group, is let in (compute mode EXCLUSIVE_PROCESS)"
        return replace(report, because=because, advice=f"for several trust groups: {_ASK_ADMIN}")
    if found.running is not None:
        because += f"; the MPS in {found.running} is not ours: what it serves takes turns with us, outside our tokens"
    return replace(report, because=because)


def mps_static(found: Situation) -> Partitioning:
    """MPS's static partitions: SMs of their own, named when a process starts."""
    older = found.gpu is not None and found.gpu.capability[0] < _HOPPER
    unit = 4 if older else 8
    grid = f"steps of {unit} SMs"
    report = Partitioning("mps-static", Guarantee.RESERVE, grid, unit, False, False, "")
    if found.device.kind is DeviceKind.STANDIN:
        return replace(report, because="the stand-in does not model it")
    if found.gpu is None:
        return replace(report, because=found.silence or "the driver was not asked")
    if found.mode is ComputeMode.PROHIBITED:
        return _prohibited(report)
    if found.gpu.cuda_version < _STATIC_SINCE:
        because = f"the driver knows CUDA up to {_version(found.gpu.cuda_version)}; it came with 13.1"
        return replace(report, because=because, advice="a newer driver has it")
    if found.gpu.capability < _STATIC_LEAST:
        return replace(report, because="the GPU is older than Ampere")
    if found.program is None:
        return replace(report, because=found.missing, advice=_get_control(found))
    because = f"{found.program} -S, CUDA {_version(found.gpu.cuda_version)}; probed, not used yet"
    return replace(report, there=True, because=because)


def green_contexts(found: Situation) -> Partitioning:
    """Green contexts: sets of SMs within a process, which may take another for its next work."""
    report = Partitioning("green-contexts", Guarantee.CAP, "sets of SMs", 0, True, False, "")
    if found.gpu is None:
        return replace(report, because=found.silence or "the driver was not asked")
    green = found.gpu.green
    if green.problem:
        advice = "" if found.device.kind is DeviceKind.STANDIN else "a driver for CUDA 12.4 or later has them"
        of_standin = " (the stand-in has none)" if found.device.kind is DeviceKind.STANDIN else ""
        return replace(report, because=f"{green.problem}{of_standin}", advice=advice)
    grid = f"at least {green.least_sms} SMs, in steps of {green.sm_step}"
    because = "the driver has them, a process chooses its own; probed, not used yet"
    return replace(report, grid=grid, sm_unit=green.sm_step, there=True, because=because)


def none(found: Situation) -> Partitioning:
    """Nothing divides the SMs: processes take turns on all of them."""
    report = Partitioning("none", Guarantee.NONE, "all of the SMs", 0, False, True, "")
    if not found.device.takes_turns:
        return replace(report, because="the kernel gives every process its cores; nothing else is needed")
    if found.mode is ComputeMode.PROHIBITED:
        return _prohibited(report)
    if found.mode is ComputeMode.EXCLUSIVE and found.running is not None:
        because = "the compute mode EXCLUSIVE_PROCESS lets the MPS that runs in, and nobody beside it"
        return replace(report, there=False, because=because, advice=_ASK_ADMIN)
    if found.mode is ComputeMode.EXCLUSIVE:
        because = "the compute mode EXCLUSIVE_PROCESS lets one process in at a time"
        return replace(report, because=because, advice=_ASK_ADMIN)
    return replace(report, because="processes take turns on all SMs: tokens are exclusive, a fault hits one process")


def _get_control(found: Situation) -> str:
    return _BUILD if found.device.kind is DeviceKind.STANDIN else GET_CONTROL


def _prohibited(report: Partitioning) -> Partitioning:
    return replace(report, there=False, because="the compute mode PROHIBITED lets nobody in", advice=_ASK_ADMIN)


def _find(device: Device, env: Mapping[str, str]) -> Gpu:
    """What the driver says of a device. Raises `NoGpu`, or `NotFound` for a stand-in that was not built."""
    if device.kind is DeviceKind.GPU:
        for gpu in find_gpus({**env, "CUDA_VISIBLE_DEVICES": device.id}):
            return gpu
    folder = library(STANDIN_DRIVER).parent
    sizes = f"sms={device.sm_count},mem={device.mem_bytes}"
    told = {"LD_LIBRARY_PATH": str(folder), "FASTGSHARE_STANDIN": sizes}
    (gpu,) = find_gpus({"PATH": env.get("PATH", os.defpath)} | told)
    return gpu


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"
