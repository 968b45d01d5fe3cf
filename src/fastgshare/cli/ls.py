"""``fastgshare ls``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
_PROBLEM_CHARACTERS = 160


@click.command()
@options.gateway
@options.as_json
def ls(gateway: Gateway, as_json: bool) -> None:
    """List the functions: their shares, how many replicas answer, and what keeps the others away.

    Long problems are shortened; --json has their full text.
    """
    statuses = gateway.functions()
    if as_json:
        print_json(statuses)
        return
    found = table(("NAME", "READY", "SHARE OF EACH", "INVOCATIONS"))
    ordered = sorted(statuses, key=lambda status: str(status.get("name")))
    for status in ordered:
        found.add_row(*map(escape, _row(status)))
    if ordered:
        stdout().print(found)
        _tell_problems(ordered)
    else:
        click.echo("no functions yet; deploy some with: fastgshare deploy -f functions.yaml", err=True)


def _row(status: Mapping[str, Any]) -> tuple[str, ...]:
    replicas = f"{status.get('availableReplicas', 0)}/{status.get('replicas', 0)}"
    return str(status.get("name")), replicas, _share(status), f"{status.get('invocationCount', 0):g}"


def _tell_problems(statuses: Sequence[Mapping[str, Any]]) -> None:
    """A line for every function with a problem, below the table: a column would be as wide as the longest."""
    lines = [f"{status.get('name')}: {_problem(status)}" for status in statuses if _problem(status)]
    if lines:
        click.echo("\n" + "\n".join(lines))


def _problem(status: Mapping[str, Any]) -> str:
    text = " ".join(str(status.get("fastgshare", {}).get("problem", "")).split())
    return text if len(text) <= _PROBLEM_CHARACTERS else text[: _PROBLEM_CHARACTERS - 3].rstrip() + "..."


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
