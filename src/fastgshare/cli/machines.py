"""What this machine has, as facts."""

from __future__ import annotations

import ctypes
import os
import platform
import resource
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fastgshare import __version__
from fastgshare.cli.nvidia import Nvidia
from fastgshare.cluster.cgroups import CONTROLLERS, Cgroups
from fastgshare.cluster.devices import cpu_device, machine_bytes
from fastgshare.domain.errors import NotFound
from fastgshare.manager.environments import HOOK, STANDIN_DRIVER

_CAP_SYS_NICE: Final = 23
_PR_GET_TIMERSLACK: Final = 30
_LIMITS: Final = ("NOFILE", "NPROC", "DATA", "AS", "MEMLOCK", "NICE", "RTPRIO")


@dataclass(frozen=True, slots=True)
class Cpu:
    """cores: all logical cores; usable: those that this process may run on; sm_ids: those of the CPU device.

    quota: cores' worth of time that a control group grants, None for no bound. shared_cores: pairs of usable logical
    cores that are one physical core.
    """

    model: str
    cores: int
    usable: tuple[int, ...]
    sm_ids: tuple[int, ...]
    quota: float | None
    shared_cores: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of the machine, and what a control group grants of them (None for no bound)."""

    machine_bytes: int
    cgroup_bytes: int | None


@dataclass(frozen=True, slots=True)
class Groups:
    """Control groups: their version (0: none), which controllers bound this process, which can be used by it."""

    version: int
    controllers: tuple[str, ...]
    writable: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rights:
    """nice: the lowest nice value this process may take. realtime: the highest realtime priority, 0 for none."""

    user_id: int
    nice: int
    realtime: int


@dataclass(frozen=True, slots=True)
class Native:
    """The native library: where it is, and why it cannot be used if it cannot."""

    path: str
    version: str
    problem: str


@dataclass(frozen=True, slots=True)
class Kernel:
    """What the kernel offers for timing and for shared memory."""

    release: str
    clock_source: str
    timer_slack_ns: int
    shm_bytes: int
    memfd: bool
    pidfd: bool


@dataclass(frozen=True, slots=True)
class Pipes:
    """The directory in which sockets of devices, and of MPS, are made; whether this process can make some there."""

    path: str
    usable: bool


@dataclass(frozen=True, slots=True)
class Interposers:
    """The library that holds programs to their share of a GPU, and the stand-in for one: paths, "" if not built."""

    hook: str
    standin: str


@dataclass(frozen=True, slots=True)
class Machine:
    """All of it. limits: soft and hard bound of every resource limit that matters, None for none."""

    cpu: Cpu
    memory: Memory
    groups: Groups
    limits: dict[str, tuple[int | None, int | None]]
    rights: Rights
    native: Native
    kernel: Kernel
    nvidia: Nvidia
    pipes: Pipes
    interposers: Interposers

    @classmethod
    def here(cls, root: Path = Path("/")) -> Machine:
        """This machine."""
        cgroups = Cgroups.of_this_process()
        return cls(
            cpu=_cpu(root, cgroups),
            memory=Memory(machine_bytes(), cgroups.memory_bytes()),
            groups=_groups(cgroups),
            limits={name: _limit(name) for name in _LIMITS},
            rights=_rights(root),
            native=_native(),
            kernel=_kernel(root),
            nvidia=Nvidia.here(root, os.environ),
            pipes=_pipes(root),
            interposers=Interposers(_library(HOOK), _library(STANDIN_DRIVER)),
        )


def _cpu(root: Path, cgroups: Cgroups) -> Cpu:
    usable = tuple(sorted(os.sched_getaffinity(0)))
    names = (line.partition(":")[2].strip() for line in _lines(root / "proc/cpuinfo") if line.startswith("model name"))
    model = next(names, platform.machine())
    quota, device = cgroups.cpu_quota(), cpu_device(cgroups)
    return Cpu(model, os.cpu_count() or len(usable), usable, device.sm_ids, quota, _shared_cores(root, usable))


def _shared_cores(root: Path, usable: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    folders = {core: root / f"sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list" for core in usable}
    siblings = {core: set(_numbers(_text(path))) & set(usable) for core, path in folders.items()}
    return tuple(sorted({tuple(sorted(others)) for others in siblings.values() if len(others) > 1}))


def _numbers(text: str) -> Iterator[int]:
    """The numbers of a list such as ``0,4-6``."""
    for part in text.split(","):
        first, _, last = part.partition("-")
        if first.strip().isdecimal():
            yield from range(int(first), int(last or first) + 1)


def _groups(cgroups: Cgroups) -> Groups:
    writable = tuple(name for name in CONTROLLERS if cgroups.writable(name))
    return Groups(cgroups.version, tuple(cgroups.folders), writable)


def _limit(name: str) -> tuple[int | None, int | None]:
    soft, hard = resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))
    return tuple(None if bound == resource.RLIM_INFINITY else bound for bound in (soft, hard))  # type: ignore[return-value]


def _rights(root: Path) -> Rights:
    status = dict(line.partition(":")[::2] for line in _lines(root / "proc/self/status"))
    capable = int(status.get("CapEff", "0").strip() or "0", 16) >> _CAP_SYS_NICE & 1
    nice = -20 if capable else min(os.getpriority(os.PRIO_PROCESS, 0), 20 - (_limit("NICE")[0] or 0))
    realtime = 99 if capable else _limit("RTPRIO")[0] or 0
    return Rights(os.getuid(), nice, realtime)


def _native() -> Native:
    from fastgshare import native
    from fastgshare.manager import gate

    try:
        path = str(native.library("libfastgate.so"))
    except NotFound as error:
        return Native(error.name, __version__, "it was not built; install fastgshare again (pip install .)")
    try:
        gate.library()
    except (OSError, AttributeError) as error:
        return Native(path, __version__, f"it cannot be loaded: {error}")
    return Native(path, __version__, "")


def _library(name: str) -> str:
    from fastgshare import native

    try:
        return str(native.library(name))
    except NotFound:
        return ""


def _kernel(root: Path) -> Kernel:
    shm = root / "dev/shm"
    usage = os.statvfs(shm) if shm.is_dir() else None
    return Kernel(
        release=platform.release(),
        clock_source=_text(root / "sys/devices/system/clocksource/clocksource0/current_clocksource").strip(),
        timer_slack_ns=int(ctypes.CDLL(None).prctl(_PR_GET_TIMERSLACK, 0, 0, 0, 0)),
        shm_bytes=usage.f_bsize * usage.f_bavail if usage else 0,
        memfd=_has_memfd(),
        pidfd=_has_pidfd(),
    )


def _has_memfd() -> bool:
    """Whether sealed shared memory can be made."""
    try:
        os.close(os.memfd_create("fastgshare-doctor", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING))
    except OSError:
        return False
    return True


def _has_pidfd() -> bool:
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:
        return False
    return True


def _pipes(root: Path) -> Pipes:
    given = os.environ.get("XDG_RUNTIME_DIR", "")
    path = Path(given) if given and (root / given.lstrip("/")).is_dir() else Path("/tmp")
    return Pipes(str(path), os.access(root / str(path).lstrip("/"), os.W_OK | os.X_OK))


def _lines(path: Path) -> list[str]:
    return _text(path).splitlines()


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
