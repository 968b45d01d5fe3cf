"""``fastgshare bench``: measurements of the mechanisms themselves."""

from __future__ import annotations

import click

from fastgshare.cli.bench_hook import hook
from fastgshare.cli.bench_standin import standin
from fastgshare.cli.bench_tokens import tokens


@click.group()
def bench() -> None:
    """Measure the mechanisms themselves, on this machine."""


bench.add_command(tokens)
bench.add_command(hook)
bench.add_command(standin)
