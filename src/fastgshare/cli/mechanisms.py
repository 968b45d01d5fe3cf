"""What a machine's facts mean for sharing it: mechanism by mechanism, with its guarantee and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fastgshare.cli.machines import Machine
from fastgshare.domain.partitions import Guarantee
from fastgshare.manager.probing import GET_CONTROL

_FILES_FOR_MANY: Final = 1024
_NICE_OF_DAEMON: Final = -10
_STEADY_CLOCKS: Final = ("tsc", "arch_sys_counter", "kvm-clock", "hyperv_clocksource_tsc_page")


@dataclass(frozen=True, slots=True)
class Mechanism:
    """A mechanism: what it shares, what it guarantees here, why, and what to do about it ("" for nothing).

    needed: whether nothing works without it.
    """

    name: str
    shares: str
    guarantee: str
    because: str
    advice: str = ""
    needed: bool = True

    @property
    def there(self) -> bool:
        """Whether this machine has it."""
        return self.guarantee != Guarantee.NONE


def mechanisms(machine: Machine) -> list[Mechanism]:
    """All mechanisms that this version knows, on a machine."""
    return [
        _affinity(machine),
        _tokens(machine),
        _priority(machine),
        _data_limit(),
        _memory_groups(machine),
        _no_leftovers(machine),
        _hook(machine),
        _mps(machine),
    ]


def hints(machine: Machine) -> list[str]:
    """What would make things better, beyond the mechanisms: one sentence each."""
    found = []
    cpu, kernel = machine.cpu, machine.kernel
    if cpu.quota is not None and cpu.quota < len(cpu.usable):
        found.append(
            f"a control group grants the time of {cpu.quota:g} of {len(cpu.usable)} cores, so the device has "
            f"{len(cpu.sm_ids)}; raise its CPU quota to use them all"
        )
    if cpu.quota is not None and cpu.quota < 1:
        found.append("less than one core is granted: no share can hold what it promises; raise the CPU quota")
    if cpu.shared_cores:
        pairs = ", ".join("+".join(map(str, pair)) for pair in cpu.shared_cores[:4])
        found.append(f"logical cores {pairs} share physical ones: instances there slow each other down")
    if kernel.clock_source and kernel.clock_source not in _STEADY_CLOCKS:
        found.append(f"reading the clock source {kernel.clock_source} is slow; tsc makes tokens cheaper")
    files = machine.limits["NOFILE"][0]
    if files is not None and files < _FILES_FOR_MANY:
        found.append(f"{files} open files are few for many connections; raise it with: ulimit -n 4096")
    return found


def _affinity(machine: Machine) -> Mechanism:
    cores = ", ".join(map(str, machine.cpu.sm_ids))
    because = f"instances run on the cores of their rect only (cores {cores}); other processes may run there too"
    advice = "keep other work off these cores (taskset, systemd AllowedCPUs=) to make it a reserve"
    return Mechanism("CPU affinity", "space: sm", Guarantee.CAP, because, advice)


def _tokens(machine: Machine) -> Mechanism:
    name, shares = "tokens", "time: request, limit"
    if machine.native.problem:
        return Mechanism(name, shares, Guarantee.NONE, f"the native library {machine.native.problem}", "build it")
    if not machine.kernel.memfd:
        return Mechanism(name, shares, Guarantee.NONE, "the kernel has no memfd_create", "use Linux 3.17 or newer")
    because = (
        "every instance computes only while it holds a token: reserve and cap among instances, "
        "advisory towards everything else on the machine"
    )
    return Mechanism(name, shares, Guarantee.RESERVE, because)


def _priority(machine: Machine) -> Mechanism:
    name, shares = "daemon's priority", "time: prompt grants"
    if machine.rights.nice <= _NICE_OF_DAEMON:
        because = f"the daemon runs at nice {_NICE_OF_DAEMON}, before the instances that it grants tokens to"
        return Mechanism(name, shares, Guarantee.ADVISORY, because, needed=False)
    return Mechanism(
        name,
        shares,
        Guarantee.NONE,
        f"this user may not go below nice {machine.rights.nice}: on busy cores, loans come later; slots do not",
        f"allow it (LimitNICE={_NICE_OF_DAEMON} in systemd, or CAP_SYS_NICE)",
        needed=False,
    )


def _data_limit() -> Mechanism:
    because = "RLIMIT_DATA: beyond it allocations fail inside the instance, which goes on"
    return Mechanism("memory limit", "memory: mem", Guarantee.CAP, because)


def _memory_groups(machine: Machine) -> Mechanism:
    name, shares = "memory cgroup", "memory: mem"
    if "memory" in machine.groups.writable:
        because = "groups can be made here, but RLIMIT_DATA is used: it fails an allocation instead of ending a process"
        return Mechanism(name, shares, Guarantee.ADVISORY, because, needed=False)
    because = "no group can be made here; the memory limit above does not need it"
    return Mechanism(name, shares, Guarantee.NONE, because, needed=False)


def _no_leftovers(machine: Machine) -> Mechanism:
    name, shares = "PR_SET_PDEATHSIG", "nothing is left behind"
    if not machine.kernel.pidfd:
        because = "the kernel has no pidfd_open, by which ends are seen"
        return Mechanism(name, shares, Guarantee.NONE, because, "use Linux 5.3 or newer")
    because = "instances and the daemon live no longer than the platform, however that ends: the kernel sees to it"
    return Mechanism(name, shares, Guarantee.CAP, because)


def _hook(machine: Machine) -> Mechanism:
    name, shares = "CUDA hook", "time and memory on a GPU"
    if not machine.interposers.hook:
        because = "its library was not built; install fastgshare again (pip install .)"
        return Mechanism(name, shares, Guarantee.NONE, because, needed=False)
    devices = ["GPUs"] if machine.nvidia.driver else []
    devices += ["the stand-in for a GPU"] if machine.interposers.standin else []
    because = f"preloaded by run and up on {' and '.join(devices) or 'GPUs (none here)'}: launches wait for tokens, "
    because += "allocations end at the cap"
    return Mechanism(name, shares, Guarantee.CAP, because, needed=False)


def _mps(machine: Machine) -> Mechanism:
    name, shares = "NVIDIA MPS", "space on a GPU"
    if not machine.nvidia.driver:
        return Mechanism(name, shares, Guarantee.NONE, "no NVIDIA driver was found", needed=False)
    if machine.nvidia.control:
        because = (
            f"{machine.nvidia.control} is started for every trust group: a process gets no more SMs than its share, "
        )
        because += "fixed when it starts"
        return Mechanism(name, shares, Guarantee.CAP, because, needed=False)
    if machine.nvidia.mps:
        because = "MPS runs, though none can be started here: it is used, for one trust group"
        return Mechanism(name, shares, Guarantee.CAP, because, needed=False)
    because = "nvidia-cuda-mps-control is not found: programs on a GPU take turns on all of its SMs"
    return Mechanism(name, shares, Guarantee.NONE, because, GET_CONTROL, needed=False)
