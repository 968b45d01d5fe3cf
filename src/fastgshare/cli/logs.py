"""``fastgshare logs``."""

from __future__ import annotations

import contextlib

import click

from fastgshare.cli import options
from fastgshare.cli.gateways import Gateway
from fastgshare.cli.output import print_json_line


@click.command()
@click.argument("name")
@click.option("--tail", type=click.IntRange(min=0), default=100, show_default=True, help="How many of the last lines.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what will be written, until Ctrl-C.")
@options.gateway
@options.as_json
def logs(name: str, tail: int, follow: bool, gateway: Gateway, as_json: bool) -> None:
    """Print what instances of the function NAME wrote: when, which instance, its text.

    With --json every line is a JSON object on a line of its own.
    """
    with contextlib.suppress(KeyboardInterrupt) if follow else contextlib.nullcontext():
        for line in gateway.logs(name, tail, follow):
            if as_json:
                print_json_line(line)
            else:
                click.echo(f"{line.get('timestamp', '')} {line.get('instance', '')} {line.get('text', '')}")
