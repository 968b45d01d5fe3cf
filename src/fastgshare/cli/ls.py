"""``fastgshare ls``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click
from rich.markup import escape

from fastgshare.cli import options
from fastgshare.cli.gateways import Gateway
from fastgshare.cli.output import print_json, stdout, table
from fastgshare.domain.errors import InvalidValue
from fastgshare.domain.shares import Share
from fastgshare.spec.openfaas import load_deployment

_MEBIBYTE = 2**20


@click.command()
@options.gateway
@options.as_json
def ls(gateway: Gateway, as_json: bool) -> None:
    """List the functions: their shares, how many replicas answer, and what keeps the others away."""
    statuses = gateway.functions()
    if as_json:
        print_json(statuses)
        return
    found = table(("NAME", "READY", "SHARE OF EACH", "INVOCATIONS", "PROBLEM"))
    for status in sorted(statuses, key=lambda status: str(status.get("name"))):
        found.add_row(*map(escape, _row(status)))
    if statuses:
        stdout().print(found)
    else:
        click.echo("no functions yet; deploy some with: fastgshare deploy -f functions.yaml", err=True)


def _row(status: Mapping[str, Any]) -> tuple[str, ...]:
    replicas = f"{status.get('availableReplicas', 0)}/{status.get('replicas', 0)}"
    problem = str(status.get("fastgshare", {}).get("problem", ""))
    return str(status.get("name")), replicas, _share(status), f"{status.get('invocationCount', 0):g}", problem


def _share(status: Mapping[str, Any]) -> str:
    """The share in words; "" for a function that is not ours."""
    try:
        share = load_deployment({**status, "service": status.get("name")}).share
    except InvalidValue:
        return ""
    return describe(share)


def describe(share: Share) -> str:
    """A share as people say it: ``50% SMs x 30-60% time, 512 MiB``."""
    low, high = f"{share.quota_request * 100:g}", f"{share.quota_limit * 100:g}"
    time = low if low == high else f"{low}-{high}"
    memory = f", {share.mem_bytes / _MEBIBYTE:g} MiB" if share.mem_bytes else ""
    return f"{share.sm_partition:g}% SMs x {time}% time{memory}"
