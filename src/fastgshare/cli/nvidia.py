"""What this machine has of NVIDIA's, as facts."""

from __future__ import annotations

import grp
import importlib.metadata
import os
import pwd
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from fastgshare.manager.mps_programs import CONTROL, PIPES, mps_runs

NODES: Final = ("nvidiactl", "nvidia-uvm")
"""Device nodes that CUDA needs beside those of the GPUs."""
LIBRARIES: Final = ("libcuda.so.1", "libnvidia-ml.so.1")
PACKAGES: Final = ("nvidia-ml-py", "torch", "onnxruntime", "onnxruntime-gpu")
ASKED: Final = ("NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES", "CUDA_VISIBLE_DEVICES", PIPES)
_VENDOR: Final = "0x10de"
_DISPLAYS: Final = "0x03"
_DRIVER: Final = Path("proc/driver/nvidia")
_MPS_PIPES: Final = "tmp/nvidia-mps"
_PLACES: Final = (
    *("usr/lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu", "usr/lib64", "usr/lib", "lib64", "lib"),
    *("usr/local/nvidia/lib64", "usr/local/nvidia/lib", "usr/local/cuda/compat", "usr/lib/wsl/lib"),
)
"""Where distributions and container toolkits put the driver's libraries."""
_PROGRAMS: Final = ("usr/bin", "usr/local/bin", "usr/local/nvidia/bin", "opt/nvidia/bin")


@dataclass(frozen=True, slots=True)
class Node:
    """A device node. mode: its permissions, as in 0o666. usable: whether this process may read and write it."""

    path: str
    mode: int
    owner: str
    group: str
    usable: bool


@dataclass(frozen=True, slots=True)
class Nvidia:
    """driver: its kernel module's version, "" if that is not loaded. devices: models, as the module names them.

    mps: whether an MPS control daemon serves this environment. cards: GPUs on the PCI bus, with a driver or without.
    nouveau: whether another driver has them. nodes: device nodes that are there. libraries, control: paths of the
    driver's libraries and of MPS's control program, "" for what is not found. container: its kind, "" outside of one.
    asked: variables that say which GPUs are to be seen. packages: versions of Python packages, "" for what is missing.
    """

    driver: str
    devices: tuple[str, ...]
    mps: bool
    cards: tuple[str, ...] = ()
    nouveau: bool = False
    nodes: tuple[Node, ...] = ()
    libraries: Mapping[str, str] = field(default_factory=dict)
    control: str = ""
    container: str = ""
    asked: Mapping[str, str] = field(default_factory=dict)
    packages: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_about(self) -> bool:
        """Whether anything of a GPU is here."""
        return bool(self.driver or self.cards or self.nodes)

    @classmethod
    def here(cls, root: Path, env: Mapping[str, str]) -> Nvidia:
        """This machine's. root: of the file system that is looked at."""
        version = _text(root / _DRIVER / "version").split("Kernel Module")[-1].split()
        return cls(
            driver=next((word for word in version if word[:1].isdigit()), ""),
            devices=tuple(_models(root)),
            mps=mps_runs({PIPES: str(root / _MPS_PIPES), **env}),
            cards=tuple(_cards(root)),
            nouveau=any(line.startswith("nouveau ") for line in _text(root / "proc/modules").splitlines()),
            nodes=tuple(_nodes(root)),
            libraries={name: _library(root, env, name) for name in LIBRARIES},
            control=_control(root, env),
            container=_container(root, env),
            asked={name: env[name] for name in ASKED if name in env},
            packages={name: _version(name) for name in PACKAGES},
        )


def _models(root: Path) -> Iterator[str]:
    for path in sorted((root / _DRIVER).glob("gpus/*/information")):
        for line in _text(path).splitlines():
            if line.startswith("Model"):
                yield line.partition(":")[2].strip()


def _cards(root: Path) -> Iterator[str]:
    for folder in sorted((root / "sys/bus/pci/devices").glob("*")):
        if _text(folder / "vendor").strip() == _VENDOR and _text(folder / "class").startswith(_DISPLAYS):
            yield folder.name


def _nodes(root: Path) -> Iterator[Node]:
    for path in sorted((root / "dev").glob("nvidia*")):
        name = path.name
        if name in NODES or name.removeprefix("nvidia").isdecimal():
            with suppress(OSError):
                found = path.stat()
                owner, group = _user(found.st_uid), _group(found.st_gid)
                yield Node(
                    f"/dev/{name}", stat.S_IMODE(found.st_mode), owner, group, os.access(path, os.R_OK | os.W_OK)
                )


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _group(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def _library(root: Path, env: Mapping[str, str], name: str) -> str:
    said = [Path(part) for part in env.get("LD_LIBRARY_PATH", "").split(":") if part]
    paths = (folder / name for folder in [*said, *(root / place for place in _PLACES)])
    return next((str(path) for path in paths if path.exists()), "")


def _control(root: Path, env: Mapping[str, str]) -> str:
    found = shutil.which(CONTROL, path=env.get("PATH") or os.defpath)
    paths = (root / place / CONTROL for place in _PROGRAMS)
    return found or next((str(path) for path in paths if os.access(path, os.X_OK)), "")


def _container(root: Path, env: Mapping[str, str]) -> str:
    if "KUBERNETES_SERVICE_HOST" in env:
        return "kubernetes"
    if (root / "run/.containerenv").exists():
        return "podman"
    if (root / ".dockerenv").exists():
        return "docker"
    return "container" if "container=" in _text(root / "proc/1/environ").replace("\0", "\n") else ""


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
