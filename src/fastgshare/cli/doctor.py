"""``fastgshare doctor``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict

import click
from rich.console import Console
from rich.markup import escape

from fastgshare.cli import options
from fastgshare.cli.machines import Machine
from fastgshare.cli.mechanisms import Mechanism, hints, mechanisms
from fastgshare.cli.output import print_json, stdout, table


@click.command()
@options.as_json
def doctor(as_json: bool) -> int:
    """Say what this machine has, what that allows, and what every mechanism guarantees here.

    The guarantees are: reserve (nobody else gets it), cap (you get no more), advisory (nothing stops whoever ignores
    it), none (it is not there). The exit status is 1 if something is missing that nothing works without.
    """
    machine = Machine.here()
    found = mechanisms(machine)
    advice = hints(machine)
    missing = [m.name for m in found if m.needed and not m.there]
    if as_json:
        documents = [{**asdict(m), "there": m.there} for m in found]
        print_json({"machine": asdict(machine), "mechanisms": documents, "hints": advice, "missing": missing})
        return 1 if missing else 0
    _print(stdout(), machine, found, advice)
    verdict = f"cannot work here: {', '.join(missing)} missing" if missing else "this machine can share its CPU"
    click.echo(f"\n{verdict}")
    return 1 if missing else 0


def _print(console: Console, machine: Machine, found: Sequence[Mechanism], advice: Sequence[str]) -> None:
    facts = table(("THIS MACHINE", ""))
    for name, value in _facts(machine):
        facts.add_row(name, escape(value))
    rows = table(("MECHANISM", "SHARES", "GUARANTEE", "BECAUSE"))
    for m in found:
        rows.add_row(*map(escape, (m.name, m.shares, m.guarantee, m.because)))
    console.print(facts, "", rows, sep="\n")
    lines = [*(f"{m.name}: {m.advice}" for m in found if m.advice), *advice]
    if lines:
        console.print("\n[bold]WHAT YOU CAN DO[/bold]", *(f"- {escape(line)}" for line in lines), sep="\n")


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
    if not machine.nvidia.driver:
        return "no driver"
    running = "running" if machine.nvidia.mps else "not running"
    return f"driver {machine.nvidia.driver}; {_listed(machine.nvidia.devices)}; MPS {running}"


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
