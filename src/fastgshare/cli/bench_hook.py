"""``fastgshare bench hook``: what an interposer adds to a call, and to the start of a process."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Final

import click
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from fastgshare.cli import options
from fastgshare.cli.output import print_json, stderr, stdout, table
from fastgshare.conformance.overheads import ROUNDS, Cost, measure
from fastgshare.domain.errors import FastGShareError
from fastgshare.native import library

_STANDIN: Final = "Measured on the stand-in, a test double, whose calls do nothing here. No GPU was used."
_WHAT: Final = {
    "alloc_free_10": "cuMemAlloc + cuMemFree, 10 live allocations",
    "alloc_free_10000": "cuMemAlloc + cuMemFree, 10,000 live allocations",
}
_START: Final = "startup_"


@click.command()
@options.preload
@click.option(
    "--rounds",
    type=click.IntRange(1, 1000),
    default=ROUNDS,
    show_default=True,
    help="How often processes with and without it alternate.",
)
@options.as_json
def hook(preload: Path | None, rounds: int, as_json: bool) -> None:
    """Time driver calls with and without an interposer, on a stand-in whose calls do nothing.

    Nanoseconds per launch and per pair of allocation and release, by the processor's own counter, on one core, with a
    valid token; and what a process takes from its start to its first launch, one alone and 64 at once.
    """
    costs = asyncio.run(_measure(preload, rounds, quiet=as_json))
    if as_json:
        print_json({name: cost.document() for name, cost in costs.items()})
    else:
        _print(costs, preload)


async def _measure(preload: Path | None, rounds: int, *, quiet: bool) -> dict[str, Cost]:
    columns = (TextColumn("timing"), BarColumn(), TimeRemainingColumn())
    with (
        tempfile.TemporaryDirectory(prefix="fastgshare-") as directory,
        Progress(*columns, console=stderr(), transient=True, disable=quiet) as progress,
    ):
        task = progress.add_task("", total=rounds)
        try:
            return await measure(Path(directory), preload, rounds, lambda: progress.advance(task))
        except OSError as error:
            raise FastGShareError(f"the programs could not be run: {error}") from error


def _print(costs: dict[str, Cost], preload: Path | None) -> None:
    click.echo(_STANDIN)
    click.echo(f"On trial: {preload or library('libfasthook.so')}\n")
    rows = table(["call", "alone p50 ns", "p99 ns", "added p50 ns", "p99 ns"])
    for name, cost in costs.items():
        if not name.startswith(_START):
            figures = (cost.native_p50_ns, cost.native_p99_ns, cost.added_p50_ns, cost.added_p99_ns)
            rows.add_row(_WHAT.get(name, name), *(f"{figure:.1f}" for figure in figures))
    stdout().print(rows)
    click.echo("")
    starts = table(["start to first launch", "alone ms", "added ms", "CPU alone ms", "CPU added ms"])
    for name, cost in costs.items():
        if name.startswith(_START) and cost.cpu is not None:
            figures_ms = (cost.native_p50_ns, cost.added_p50_ns, *cost.cpu)
            starts.add_row(f"{name.removeprefix(_START)} at once", *(f"{figure / 1e6:.3f}" for figure in figures_ms))
    stdout().print(starts)
