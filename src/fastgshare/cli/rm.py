"""``fastgshare rm``."""

from __future__ import annotations

import click

from fastgshare.cli import options
from fastgshare.cli.gateways import Gateway
from fastgshare.cli.output import print_json
from fastgshare.domain.errors import NotFound


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@options.gateway
@options.as_json
def rm(names: tuple[str, ...], gateway: Gateway, as_json: bool) -> int:
    """Remove functions. Requests that their instances work on are still answered."""
    removed, missing = [], []
    for name in dict.fromkeys(names):
        try:
            gateway.remove(name)
            removed.append(name)
        except NotFound as error:
            missing.append(name)
            click.echo(f"error: {error}", err=True)
        else:
            click.echo(f"removed {name}", err=as_json)
    if as_json:
        print_json({"removed": removed, "not_found": missing})
    return 1 if missing else 0
