"""``fastgshare doctor``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict

import click
from rich.console import Console
from rich.markup import escape

from fastgshare.cli import options
from fastgshare.cli.guests import read_device
from fastgshare.cli.inspections import Inspection, inspect
from fastgshare.cli.machines import Machine
from fastgshare.cli.mechanisms import Mechanism, hints, mechanisms
from fastgshare.cli.output import print_json, stdout, table
from fastgshare.domain.devices import DeviceKind
from fastgshare.manager.gpus import Gpu
from fastgshare.spec.devices import ALLOWED, DeviceRequest


@click.command()
@click.option(
    "--device",
    "request",
    callback=read_device,
    metavar="DEVICE",
    help=f"What to look at in particular: {ALLOWED}; all GPUs unless said otherwise.",
)
@options.as_json
def doctor(request: DeviceRequest | None, as_json: bool) -> int:
    """Say what this machine has, what that allows, what every mechanism guarantees here, and what is in the way.

    The guarantees are: reserve (nobody else gets it), cap (you get no more), advisory (nothing stops whoever ignores
    it), none (it is not there). Partitioners divide the SMs of a GPU; they are shown for every GPU, or for --device.
    The exit status is 1 if something is missing that nothing works without, or the device that was named.
    """
    machine = Machine.here()
    found, seen = mechanisms(machine), inspect(machine, request)
    advice = hints(machine)
    missing = [m.name for m in found if m.needed and not m.there] + seen.missing
    if as_json:
        print_json(_document(machine, found, seen, advice, missing))
        return 1 if missing else 0
    _print(stdout(), machine, found, seen, advice)
    verdict = (
        f"cannot work here: {', '.join(missing)} missing" if missing else f"this machine can share {seen.shareable}"
    )
    click.echo(f"\n{verdict}")
    return 1 if missing else 0


def _document(
    machine: Machine, found: Sequence[Mechanism], seen: Inspection, advice: Sequence[str], missing: Sequence[str]
) -> dict[str, object]:
    return {
        "machine": asdict(machine),
        "mechanisms": [{**asdict(m), "there": m.there} for m in found],
        "gpus": [asdict(gpu) for gpu in seen.gpus],
        "partitioners": [
            {"device": device.id, "kind": str(device.kind), "partitionings": [asdict(way) for way in ways]}
            for device, ways in seen.devices
        ],
        "problems": seen.problems,
        "hints": advice,
        "missing": missing,
    }


def _print(
    console: Console, machine: Machine, found: Sequence[Mechanism], seen: Inspection, advice: Sequence[str]
) -> None:
    facts = table(("THIS MACHINE", ""))
    for name, value in [*_facts(machine), *map(_gpu, seen.gpus)]:
        facts.add_row(name, escape(value))
    rows = table(("MECHANISM", "SHARES", "GUARANTEE", "BECAUSE"))
    for m in found:
        rows.add_row(*map(escape, (m.name, m.shares, m.guarantee, m.because)))
    console.print(facts, "", rows, sep="\n")
    _print_partitioners(console, seen)
    lines = [*(f"{m.name}: {m.advice}" for m in found if m.advice), *advice, *seen.problems]
    lines += [f"{way.name}: {way.advice}" for _, ways in seen.devices for way in ways if way.advice]
    if lines := list(dict.fromkeys(lines)):
        console.print("\n[bold]WHAT YOU CAN DO[/bold]", *(f"- {escape(line)}" for line in lines), sep="\n")


def _print_partitioners(console: Console, seen: Inspection) -> None:
    for device, ways in seen.devices:
        named = f"{device.id} (a stand-in, not a GPU)" if device.kind is DeviceKind.STANDIN else device.id
        rows = table(("PARTITIONER", "THERE", "GUARANTEE", "GRID", "LIVE", "BECAUSE"))
        for way in ways:
            cells = (way.name, _yes(way.there), way.guarantee, way.grid, _yes(way.resizes_live), way.because)
            rows.add_row(*map(escape, cells))
        console.print("", f"[bold]DEVICE {escape(named)}[/bold]", rows, sep="\n")
    if not seen.devices:
        console.print(f"\npartitioners: no device to divide ({escape(seen.silence)}); try --device standin")


def _gpu(gpu: Gpu) -> tuple[str, str]:
    mig = {None: "unknown", True: "on", False: "off"}[gpu.mig]
    major, minor = gpu.capability
    return (
        f"GPU {gpu.index}",
        f"{gpu.name}, {gpu.sm_count} SMs, {_gib(gpu.mem_bytes)}, capability {major}.{minor}, CUDA up to "
        f"{gpu.cuda_version // 1000}.{gpu.cuda_version % 1000 // 10}, compute mode {gpu.compute_mode}, MIG {mig}",
    )


def _facts(machine: Machine) -> Iterator[tuple[str, str]]:
    """Facts in words."""
    cpu, memory, groups, kernel = machine.cpu, machine.memory, machine.groups, machine.kernel
    yield "cores", f"{cpu.cores} of {cpu.model}; usable: {_listed(map(str, cpu.usable))}"
    granted = "" if cpu.quota is None else f" (a control group grants {cpu.quota:g})"
    yield "CPU device", f"{len(cpu.sm_ids)} SMs{granted}; sm in steps of {100 / len(cpu.sm_ids):g}%"
    bound = "" if memory.cgroup_bytes is None else f"; a control group grants {_gib(memory.cgroup_bytes)}"
    yield "memory", f"{_gib(memory.machine_bytes)}{bound}"
    writable = f"; can be made: {_listed(groups.writable)}"
    yield "cgroups", f"version {groups.version}: {_listed(groups.controllers)}{writable}" if groups.version else "none"
    yield "limits", _listed(f"{name} {_bounds(*bounds)}" for name, bounds in machine.limits.items())
    yield "rights", f"user {machine.rights.user_id}, nice down to {machine.rights.nice}, {_realtime(machine)}"
    yield "native library", f"{machine.native.path} {machine.native.version} {machine.native.problem}".strip()
    yield "kernel", f"{kernel.release}; memfd: {_yes(kernel.memfd)}; pidfd: {_yes(kernel.pidfd)}"
    yield "time", f"clock source {kernel.clock_source or 'unknown'}, timer slack {kernel.timer_slack_ns / 1000:g} us"
    yield "/dev/shm", _gib(kernel.shm_bytes) + " free" if kernel.shm_bytes else "none"
    yield "NVIDIA", _nvidia(machine)
    found = machine.interposers
    yield "for GPUs", f"hook: {found.hook or 'not built'}; stand-in (not a GPU): {found.standin or 'not built'}"


def _nvidia(machine: Machine) -> str:
    found = machine.nvidia
    inside = f"; in a container ({found.container})" if found.container else ""
    if not found.driver:
        return f"no driver{inside}" + (f"; cards on the PCI bus: {_listed(found.cards)}" if found.cards else "")
    running = "running" if found.mps else "not running"
    nodes = _listed(f"{node.path} {node.owner}:{node.group} {node.mode:04o}" for node in found.nodes)
    return f"driver {found.driver}; {_listed(found.devices)}; MPS of others {running}; {nodes}{inside}"


def _realtime(machine: Machine) -> str:
    priority = machine.rights.realtime
    return f"realtime up to priority {priority}" if priority else "no realtime"


def _bounds(soft: int | None, hard: int | None) -> str:
    texts = ["unlimited" if bound is None else str(bound) for bound in (soft, hard)]
    return texts[0] if texts[0] == texts[1] else f"{texts[0]} (up to {texts[1]})"


def _listed(texts: Iterable[str]) -> str:
    return ", ".join(texts) or "none"


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"


def _yes(there: bool) -> str:
    return "yes" if there else "no"
