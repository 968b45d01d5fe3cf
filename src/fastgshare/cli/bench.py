"""``fastgshare bench``: measurements of the mechanisms themselves."""

from __future__ import annotations

import click

from fastgshare.cli.bench_tokens import tokens


@click.group()
def bench() -> None:
    """Measure the mechanisms themselves, on this machine."""


bench.add_command(tokens)
