"""``fastgshare scale``."""

from __future__ import annotations

import click

from fastgshare.cli import options
from fastgshare.cli.gateways import Gateway
from fastgshare.cli.output import print_json
from fastgshare.cli.waiting import Before, Readiness, wait_until_ready
from fastgshare.domain.errors import FastGShareError


class NotReady(FastGShareError):
    """Not all replicas that are wanted became ready."""


@click.command()
@click.argument("name")
@click.argument("replicas", type=click.IntRange(min=0))
@options.no_wait
@options.timeout_s
@options.gateway
@options.as_json
def scale(name: str, replicas: int, no_wait: bool, timeout_s: float, gateway: Gateway, as_json: bool) -> None:
    """Want so many REPLICAS of the function NAME, and wait until they are ready."""
    before = Before.of(gateway.function(name))
    gateway.scale(name, replicas)
    result = Readiness(name, 0, replicas) if no_wait else wait_until_ready(gateway, {name: before}, timeout_s)[0]
    if as_json:
        counted = {} if no_wait else {"available": result.available, "problem": result.problem}
        print_json({"name": name, "replicas": result.wanted, **counted})
    if result.problem:
        raise NotReady(f"{name}: {result.problem}")
    if not as_json:
        click.echo(
            f"{name} will have {replicas} replicas" if no_wait else f"{name} ready ({result.available}/{replicas})"
        )
