"""``fastgshare ps``."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

import click
from rich.markup import escape

from fastgshare.cli import options
from fastgshare.cli.guests import document, homes, read_device
from fastgshare.cli.output import print_json, stdout, table
from fastgshare.spec.devices import ALLOWED, DeviceRequest

if TYPE_CHECKING:
    from fastgshare.cluster.residents import Resident

_MEBIBYTE = 2**20


@click.command()
@click.option("--device", callback=read_device, metavar="DEVICE", help=f"Only those on this device: {ALLOWED}.")
@options.as_json
def ps(device: DeviceRequest | None, as_json: bool) -> None:
    """List the programs that `fastgshare run` has started: where they are, and what they have had of their shares."""
    from fastgshare.cluster.residents import list_residents

    found = list_residents(homes(device), os.environ)
    if as_json:
        print_json({"programs": [document(resident) for resident in found]})
        return
    rows = table(("NAME", "PID", "DEVICE", "SM %", "REQUEST", "LIMIT", "MEMORY MiB", "RECEIVED", "COMMAND"))
    for resident in found:
        rows.add_row(*map(escape, _row(resident)))
    if found:
        stdout().print(rows)
    else:
        click.echo("no programs; start one with: fastgshare run --share sm=50,request=0.5 -- COMMAND", err=True)


def _row(resident: Resident) -> tuple[str, ...]:
    guest, figures = resident.guest, resident.figures
    share = guest.share
    cap = f" of {share.mem_bytes / _MEBIBYTE:g}" if share.mem_bytes else ""
    memory = f"{figures.mem_bytes / _MEBIBYTE:g} (peak {figures.mem_peak_bytes / _MEBIBYTE:g}){cap}"
    received = f"{figures.received_s / figures.observed_s:.3f}" if figures.observed_s else "-"
    return (
        *(guest.name, str(guest.pid), resident.device.id, f"{share.sm_partition:g}", f"{share.quota_request:g}"),
        *(f"{share.quota_limit:g}", memory, received, shlex.join(guest.command)),
    )
