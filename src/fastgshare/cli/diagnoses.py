"""What keeps programs on this machine from its GPUs, and what a person can do about it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from fastgshare.cli.machines import Machine
from fastgshare.cli.nvidia import NODES, Nvidia
from fastgshare.manager.gpus import ComputeMode, Gpu

_DOCKER: Final = "docker run --gpus all (or --runtime=nvidia -e NVIDIA_VISIBLE_DEVICES=all)"
_CAPABILITIES: Final = "NVIDIA_DRIVER_CAPABILITIES=compute,utility"
_WAYS_IN: Final = {
    "docker": f"start it with {_DOCKER} and -e {_CAPABILITIES}; the host needs the NVIDIA Container Toolkit",
    "podman": "start it with podman run --device nvidia.com/gpu=all; the host needs nvidia-ctk cdi generate",
    "kubernetes": "ask for one (resources.limits: nvidia.com/gpu: 1); the node needs NVIDIA's device plugin",
}
_STATUSES: Final = {
    100: "CUDA sees none: look at CUDA_VISIBLE_DEVICES, and at what nvidia-smi -L lists",
    802: "the GPUs' fabric is not ready: on HGX machines start nvidia-fabricmanager of the driver's version",
    803: "the driver's library and its kernel module differ in version: reboot after an update, or use the host's",
    804: "a forward-compatible library (cuda-compat) is in front of the driver's: it is for data centre GPUs alone",
    805: "an MPS control daemon is to serve this environment and does not: start it, or unset CUDA_MPS_PIPE_DIRECTORY",
    999: "the driver is in a bad state: reload it (sudo modprobe -r nvidia_uvm; sudo modprobe nvidia_uvm), or reboot",
}
"""What to do about a status of the CUDA driver's first calls."""
_SHM_BYTES: Final = 64 * 2**20
_MEMLOCK_BYTES: Final = 64 * 2**20


def diagnose(machine: Machine, gpus: Sequence[Gpu], silence: str) -> list[str]:
    """What is in the way, the deepest cause first, each in a sentence that says what to do; empty without any GPU.

    gpus: those that the driver shows; if none, silence says why.
    """
    if not machine.nvidia.is_about and not gpus:
        return []
    lines = list(_way_to_driver(machine.nvidia, machine.rights.user_id))
    if not lines and not gpus and silence:
        lines.append(_unexplained(silence, machine.nvidia))
    lines += [line for gpu in gpus for line in _restrictions(gpu)]
    return [*lines, *_surroundings(machine), *_packages(machine.nvidia)]


def _way_to_driver(found: Nvidia, user_id: int) -> Iterator[str]:
    """From the card to the library: who misses one thing need not hear of what follows from it."""
    steps: tuple[Callable[[Nvidia], str], ...] = (_module, _nodes, _libraries)
    if problem := next(filter(None, (step(found) for step in steps)), ""):
        yield problem
    for node in found.nodes:
        if not node.usable:
            yield _locked(node.path, f"{node.mode:04o}", node.owner, node.group, user_id, found.container)


def _module(found: Nvidia) -> str:
    if found.driver or found.container:
        return ""
    cards = f"a GPU is there (PCI {_named(found.cards)})"
    if found.nouveau:
        return f"{cards}, but the nouveau driver has it: install NVIDIA's, blacklist nouveau, and reboot"
    return (
        f"{cards}, but NVIDIA's kernel module is not loaded: sudo modprobe nvidia; if there is no such module, install "
        "the driver; after a kernel update build it again (sudo dkms autoinstall); Secure Boot refuses an unsigned one"
    )


def _nodes(found: Nvidia) -> str:
    names = {node.path.removeprefix("/dev/") for node in found.nodes}
    if not any(name.removeprefix("nvidia").isdecimal() for name in names):
        if found.container:
            way = _WAYS_IN.get(found.container, _WAYS_IN["docker"])
            asked = found.asked.get("NVIDIA_VISIBLE_DEVICES")
            said = f" (NVIDIA_VISIBLE_DEVICES is {asked!r})" if asked is not None else ""
            return f"no GPU was given to this container{said}: {way}"
        return "the driver is loaded but has no device nodes (/dev/nvidia0): sudo nvidia-modprobe -c 0 -u"
    missing = [f"/dev/{name}" for name in NODES if name not in names]
    if not missing:
        return ""
    if found.container:
        return f"{_named(missing)} is not in this container: add it (--device), or leave that to the container toolkit"
    return f"{_named(missing)} is missing: sudo nvidia-modprobe -c 0 -u (or sudo modprobe nvidia-uvm)"


def _libraries(found: Nvidia) -> str:
    missing = [name for name, path in found.libraries.items() if not path]
    if not missing:
        return ""
    if found.container:
        said = found.asked.get("NVIDIA_DRIVER_CAPABILITIES", "not set")
        return f"{_named(missing)} is not in this container: start it with -e {_CAPABILITIES} (now: {said})"
    package = f"libnvidia-compute-{found.driver.partition('.')[0] or 'VERSION'} (Fedora, RHEL: nvidia-driver-cuda-libs)"
    return f"{_named(missing)} is not found: install {package}, of the same version as the kernel module"


def _locked(path: str, mode: str, owner: str, group: str, user_id: int, container: str) -> str:
    what = f"user {user_id} may not open {path} ({owner}:{group}, mode {mode})"
    if container:
        return f"{what}: start the container with --group-add {group}, or as a user who may"
    if group in ("root", "0"):
        return f"{what}: have it made for all (options nvidia NVreg_DeviceFileMode=0666 in /etc/modprobe.d)"
    return f"{what}: sudo usermod -aG {group} USER, and log in again"


def _unexplained(silence: str, found: Nvidia) -> str:
    status = re.search(r"status (\d+)", silence)
    advice = _STATUSES.get(int(status[1])) if status is not None else None
    hidden = found.asked.get("CUDA_VISIBLE_DEVICES")
    said = f" (CUDA_VISIBLE_DEVICES is {hidden!r})" if hidden is not None else ""
    return f"{silence}{said}: {advice or 'look at what nvidia-smi and dmesg say'}"


def _restrictions(gpu: Gpu) -> Iterator[str]:
    if gpu.compute_mode is ComputeMode.PROHIBITED:
        yield f"{gpu.name}: compute mode PROHIBITED lets no program in (sudo nvidia-smi -c DEFAULT; we never change it)"
    if gpu.compute_mode is ComputeMode.EXCLUSIVE:
        yield (
            f"{gpu.name}: its compute mode EXCLUSIVE_PROCESS lets one MPS server in, so one trust group "
            "(for several: sudo nvidia-smi -c DEFAULT; we never change it)"
        )
    if gpu.mig and not gpu.uuid.startswith("MIG-"):
        yield f"{gpu.name}: MIG is on: its parts are devices of their own, named by CUDA_VISIBLE_DEVICES=MIG-..."


def _surroundings(machine: Machine) -> Iterator[str]:
    shm, memlock = machine.kernel.shm_bytes, machine.limits["MEMLOCK"][0]
    if shm < _SHM_BYTES:
        where = "--shm-size=1g, or --ipc=host" if machine.nvidia.container else "mount a larger tmpfs there"
        yield f"/dev/shm has {shm // 2**20} MiB free, which MPS and frameworks may fill: {where}"
    if memlock is not None and memlock < _MEMLOCK_BYTES:
        where = "--ulimit memlock=-1" if machine.nvidia.container else "ulimit -l unlimited (LimitMEMLOCK= in systemd)"
        yield f"{memlock // 2**10} KiB may be locked, little for pinned memory: {where}"
    if not machine.pipes.usable:
        yield (
            f"{machine.pipes.path} cannot be written to, and MPS needs a directory for its sockets: "
            "set XDG_RUNTIME_DIR to one of yours, with a short path"
        )


def _packages(found: Nvidia) -> Iterator[str]:
    if not found.packages.get("nvidia-ml-py"):
        yield "a GPU's utilisation and losses are read with nvidia-ml-py, which is missing: pip install nvidia-ml-py"
    torch, onnx = found.packages.get("torch", ""), found.packages.get("onnxruntime-gpu", "")
    if not torch and not onnx:
        yield "models on a GPU need torch or onnxruntime-gpu, and neither is installed (handlers that use CUDA do not)"
    elif torch.endswith("+cpu") and not onnx:
        yield f"torch {torch} computes on the CPU alone: models on a GPU need a build for CUDA, or onnxruntime-gpu"
    if onnx and found.packages.get("onnxruntime"):
        yield "onnxruntime and onnxruntime-gpu are both installed, and the former may hide the latter: uninstall it"


def _named(names: Sequence[str]) -> str:
    return ", ".join(names)
