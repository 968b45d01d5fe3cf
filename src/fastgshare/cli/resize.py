"""``fastgshare resize``."""

from __future__ import annotations

import os

import click

from fastgshare.cli import options
from fastgshare.cli.guests import document, homes, read_device
from fastgshare.cli.output import print_json
from fastgshare.spec.devices import ALLOWED, DeviceRequest


@click.command()
@click.argument("name")
@click.option(
    "--share", required=True, metavar="SHARE", help="What is to change, as request=0.5,limit=0.8,mem=3GiB; sm cannot."
)
@click.option("--device", callback=read_device, metavar="DEVICE", help=f"Where it is, if on several: {ALLOWED}.")
@options.as_json
def resize(name: str, share: str, device: DeviceRequest | None, as_json: bool) -> None:
    """Change the share of a program that `fastgshare run` has started, while it runs: within one window.

    Its quota and its memory cap can change, as long as there is room beside the others; its SMs are fixed when it
    starts. What it uses already stays its own, if that is more than a new cap.
    """
    from fastgshare.cluster.residents import resize as change

    resident = change(name, share, homes(device), os.environ)
    if as_json:
        print_json(document(resident))
