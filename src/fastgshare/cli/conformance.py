"""``fastgshare conformance``: does an interposer hold what it promises?"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import click
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from fastgshare.cli import options
from fastgshare.cli.output import print_json, stderr, stdout, table
from fastgshare.cluster.devices import find_device
from fastgshare.conformance.rows import Report, Verdict
from fastgshare.conformance.suite import TOPICS, run
from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.errors import FastGShareError, InvalidValue
from fastgshare.domain.functions import DEFAULT_GROUP
from fastgshare.manager.partitioners import choose
from fastgshare.native import library
from fastgshare.spec.devices import parse_device

_COLOURS: Final = {Verdict.PASS: "green", Verdict.FAIL: "bold red", Verdict.NOT_APPLICABLE: "dim"}
STANDIN: Final = (
    "The device is the stand-in, a test double: kernels take the time that its model says. No GPU was used."
)


def _device(context: click.Context, parameter: click.Parameter, text: str) -> Device:
    device = find_device(parse_device(text), os.environ)
    if device.kind not in (DeviceKind.GPU, DeviceKind.STANDIN):
        raise InvalidValue("device", text, "standin[:sms=132,mem=80GiB] or cuda:N; programs on the CPU have no driver")
    return device


@click.command()
@click.option(
    "--device",
    callback=_device,
    default="standin",
    show_default=True,
    metavar="DEVICE",
    help="Where the programs run: standin[:sms=132,mem=80GiB], a stand-in for a GPU, or cuda:N.",
)
@options.preload
@click.option(
    "--topic",
    "topics",
    type=click.Choice(list(TOPICS)),
    multiple=True,
    help="Try these topics alone; give one per topic.",
)
@options.as_json
def conformance(device: Device, preload: Path | None, topics: tuple[str, ...], as_json: bool) -> int:
    """Judge an interposer: is every launch gated, every allocation counted, every quota exact?

    Runs real programs on shares of the device and goes by what the device did, never by what the interposer says.
    Prints a row for every promise: pass, fail, or not applicable where the driver lacks the call. Exits with status 1
    if one fails.
    """
    report = _try(device, preload, topics or tuple(TOPICS), quiet=as_json)
    if as_json:
        print_json(report.document())
    else:
        _print(report, device, preload)
    return 1 if report.count(Verdict.FAIL) else 0


def _try(device: Device, preload: Path | None, topics: tuple[str, ...], *, quiet: bool) -> Report:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    chosen = [topic for topic in TOPICS if topic in topics]
    with (
        tempfile.TemporaryDirectory(prefix="fastgshare-") as directory,
        Progress(*columns, console=stderr(), transient=True, disable=quiet) as progress,
    ):
        task = progress.add_task("", total=len(chosen))
        begins = _follow(progress, task, chosen)
        try:
            return asyncio.run(_run(device, Path(directory), preload, chosen, begins))
        except OSError as error:
            raise FastGShareError(f"the programs could not be run: {error}") from error


async def _run(
    device: Device, directory: Path, preload: Path | None, topics: list[str], begins: Callable[[str], None]
) -> Report:
    """On a GPU the programs share its SMs by MPS, where that is there; a stand-in assumes so by itself."""
    if device.kind is not DeviceKind.GPU:
        return await run(device, directory, preload=preload, topics=topics, begins=begins)
    partitioner = choose(device, "auto", directory / "mps", os.environ)
    await partitioner.start()
    try:
        await partitioner.open(DEFAULT_GROUP)
        base = partitioner.environment(DEFAULT_GROUP, os.environ)
        return await run(device, directory, preload=preload, topics=topics, base=base, begins=begins)
    finally:
        await partitioner.stop()


def _follow(progress: Progress, task: TaskID, topics: list[str]) -> Callable[[str], None]:
    def begins(topic: str) -> None:
        progress.update(task, description=topic, completed=topics.index(topic))

    return begins


def _print(report: Report, device: Device, preload: Path | None) -> None:
    if device.kind is DeviceKind.STANDIN:
        click.echo(STANDIN)
    click.echo(f"On trial: {preload or library('libfasthook.so')}\n")
    rows = table(["result", "what was tried", "figure"])
    for row in report.rows:
        colour = _COLOURS[row.result]
        rows.add_row(f"[{colour}]{row.result}[/]", escape(row.name), escape(row.figure))
    stdout().print(rows)
    click.echo(
        f"\n{report.count(Verdict.PASS)} passed, {report.count(Verdict.FAIL)} failed, "
        f"{report.count(Verdict.NOT_APPLICABLE)} not applicable"
    )
