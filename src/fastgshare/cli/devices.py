"""``fastgshare devices``."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from fastgshare.cli import options
from fastgshare.cli.output import print_json, print_json_line, stdout, table
from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.readings import Reading, XidVerdict, describe_xid, judge_xid
from fastgshare.spec.devices import ALLOWED, DeviceRequest, parse_device

if TYPE_CHECKING:
    from fastgshare.cluster.watches import Watches

_PATIENCE_S: Final = 15.0
_PERIOD_S: Final = 1.0
_GIBIBYTE: Final = 2**30
_KINDS: Final = {
    DeviceKind.CPU: "CPU",
    DeviceKind.GPU: "GPU",
    DeviceKind.STANDIN: "stand-in (a test double, not a GPU)",
    DeviceKind.ABSTRACT: "abstract",
}
_COLUMNS: Final = (
    *("DEVICE", "KIND", "SMS", "MEMORY GiB", "USED GiB", "BUSY %", "SMS USED %", "OCCUPANCY %"),
    *("POWER W", "TEMP C", "CLOCK MHz", "STATE"),
)


def _requests(context: click.Context, parameter: click.Parameter, texts: tuple[str, ...]) -> list[DeviceRequest]:
    return [parse_device(text) for text in texts]


@click.command()
@click.option(
    "--device",
    "requests",
    callback=_requests,
    multiple=True,
    metavar="DEVICE",
    help=f"A device: {ALLOWED}. May be given several times; the CPU and all GPUs unless said otherwise.",
)
@click.option("--watch", "keeps_on", is_flag=True, help="Go on, once a second, until Ctrl-C.")
@options.as_json
def devices(requests: Sequence[DeviceRequest], keeps_on: bool, as_json: bool) -> None:
    """Show the devices that are here, and what they say of themselves.

    A figure that a device does not have is a dash, and absent in JSON. BUSY is the time in which a kernel ran, of
    whichever process. On the stand-in it is what `fastgshare run` has started there.
    """
    from fastgshare.cluster.devices import find_devices

    found = find_devices(requests, os.environ) if requests else devices_here()
    with suppress(KeyboardInterrupt):
        asyncio.run(_show(found, keeps_on, as_json))


def devices_here() -> tuple[Device, ...]:
    """The CPU, and the GPUs that this process may see."""
    from fastgshare.cluster.devices import cpu_device
    from fastgshare.cluster.gpus import NoGpu, find_gpus

    try:
        gpus = find_gpus(os.environ)
    except NoGpu:
        gpus = ()
    return (
        cpu_device(),
        *(Device(gpu.uuid, DeviceKind.GPU, gpu.sm_count, gpu.mem_bytes, type=gpu.name) for gpu in gpus),
    )


async def _show(found: Sequence[Device], keeps_on: bool, as_json: bool) -> None:
    from fastgshare.cluster.watches import Watches

    async with Watches(found, env=os.environ, states=_states(found), period_s=_PERIOD_S) as watches:
        await watches.settled(_PATIENCE_S)
        if not keeps_on:
            print_json(document(found, watches)) if as_json else stdout().print(rows(found, watches))
        elif as_json:
            await _repeat(lambda: print_json_line(document(found, watches)))
        elif (console := stdout()).is_terminal:
            with Live(rows(found, watches), console=console, auto_refresh=False) as live:
                await _repeat(lambda: live.update(rows(found, watches), refresh=True))
        else:
            await _repeat(lambda: console.print(rows(found, watches)))


async def _repeat(show: Callable[[], None]) -> None:
    while True:
        show()
        await asyncio.sleep(_PERIOD_S)


def _states(found: Sequence[Device]) -> Mapping[str, Path]:
    """By stand-in, the file in which programs on it share its state, if there are any."""
    from fastgshare.cluster.homes import Home

    paths = {d.id: Home.of(d, os.environ).state_path for d in found if d.kind is DeviceKind.STANDIN}
    return {id: path for id, path in paths.items() if path.exists()}


def document(found: Sequence[Device], watches: Watches) -> dict[str, Any]:
    """The devices and what they say, for JSON."""
    from fastgshare.manager import counter_lines

    counts = watches.xid_counts()
    return {
        "devices": [
            {
                "id": device.id,
                "kind": str(device.kind),
                "type": device.type,
                "sm_count": device.sm_count,
                "mem_bytes": device.mem_bytes,
                "reading": counter_lines.document(watches.reading(device.id)),
                "xid_counts": {str(xid): count for xid, count in counts[device.id].items()},
            }
            for device in found
        ]
    }


def rows(found: Sequence[Device], watches: Watches) -> Table:
    """The devices and what they say, for people."""
    shown = table(_COLUMNS)
    counts = watches.xid_counts()
    for device in found:
        reading = watches.reading(device.id)
        cells = (*_facts(device), *_figures(reading), state(reading, counts[device.id]))
        shown.add_row(*map(escape, cells))
    return shown


def _facts(device: Device) -> tuple[str, ...]:
    kind = f"{_KINDS[device.kind]}: {device.type}" if device.type else _KINDS[device.kind]
    return (device.id, kind, str(device.sm_count), _figure(device.mem_bytes or None, 1 / _GIBIBYTE, ".1f"))


def _figures(reading: Reading) -> tuple[str, ...]:
    return (
        _figure(reading.mem_used_bytes, 1 / _GIBIBYTE, ".1f"),
        _figure(reading.utilisation, 100, ".0f"),
        _figure(reading.sm_utilisation, 100, ".1f"),
        _figure(reading.sm_occupancy, 100, ".1f"),
        _figure(reading.power_w, 1, ".0f"),
        _figure(reading.temperature_c, 1, ".0f"),
        _figure(reading.sm_clock_mhz, 1, ".0f"),
    )


def _figure(value: float | None, factor: float, form: str) -> str:
    return "-" if value is None else format(value * factor, form)


def state(reading: Reading, xids: Mapping[int, int]) -> str:
    """How a device is, in words: what its XIDs ask for, or why it cannot be read."""
    if reading.lost:
        return "lost"
    drains = any(judge_xid(number) is XidVerdict.DRAIN for number in xids)
    found = [describe_xid(number) + (f", {count} times" if count > 1 else "") for number, count in sorted(xids.items())]
    words = [*(["to be reset"] if drains else []), *found, *([reading.problem] if reading.problem else [])]
    return "; ".join(words) or "ok"
