"""``fastgshare profile``."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from fastgshare.cli import options
from fastgshare.cli.group import FAILED
from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.errors import NotFound
from fastgshare.domain.functions import Function, Slo
from fastgshare.domain.profiles import Configuration, Outcome, Subject, Trial
from fastgshare.spec.devices import ALLOWED, DeviceRequest, parse_device

if TYPE_CHECKING:
    from fastgshare.cli.profile_shows import Show
    from fastgshare.profiler.experiments import Conclusion, Planner
    from fastgshare.state.profiles import ProfileStore

_FRACTION: Final = 0.99
_PLACE: Final = "profiling"
"""In the state directory: where the device is shared while trials are run."""


def _device(context: click.Context, parameter: click.Parameter, text: str) -> DeviceRequest:
    return parse_device(text)


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be profiled, and how. grid: what the device can give; asked: what was asked for instead of it."""

    function: Function
    device: Device
    subject: Subject
    grid: tuple[Configuration, ...]
    asked: dict[Configuration, Configuration]
    full: bool
    budget: int
    slo: Slo | None
    seconds: float
    body: bytes | None
    partitioner: str
    seed: int

    @property
    def most(self) -> int:
        """Configurations that are tried at most."""
        return len(self.grid) if self.full else min(self.budget, len(self.grid))


@click.command()
@click.argument("name", metavar="FUNCTION")
@click.option(
    "-f",
    "--file",
    type=click.Path(path_type=Path),
    default=Path("functions.yaml"),
    show_default=True,
    help="Where the function stands.",
)
@click.option(
    "--device", "request", callback=_device, default="cpu", show_default=True, metavar="DEVICE", help=f"{ALLOWED}."
)
@options.partitioner
@click.option("--full-grid", "full", is_flag=True, help="Try every configuration, instead of those that matter.")
@click.option(
    "--budget",
    type=click.IntRange(1, 10_000),
    default=12,
    show_default=True,
    help="Try at most so many configurations, those from before too.",
)
@click.option(
    "--slo-ms",
    type=options.FiniteRange(min=0, min_open=True),
    metavar="MILLISECONDS",
    help="Seek the highest rate within this latency; the function's own promise unless said otherwise.",
)
@click.option(
    "--batch",
    "batches",
    type=click.IntRange(1, 1024),
    multiple=True,
    help="Requests worked on as one, may be given several times; the function's own unless said otherwise.",
)
@click.option(
    "--seconds",
    type=options.FiniteRange(min=0.1, max=600),
    default=2.0,
    show_default=True,
    help="How long each load is kept up; longer where little is answered in that time.",
)
@click.option(
    "--input",
    "input_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The body of all requests; the function's own sample unless said otherwise.",
)
@click.option("--seed", type=click.IntRange(0, 2**31 - 2), default=0, show_default=True, help="Of the loads.")
@options.state
@options.as_json
def profile(
    name: str,
    file: Path,
    request: DeviceRequest,
    partitioner: str,
    full: bool,
    budget: int,
    slo_ms: float | None,
    batches: tuple[int, ...],
    seconds: float,
    input_file: Path | None,
    seed: int,
    directory: Path,
    as_json: bool,
) -> int:
    """Measure what shares of a device are worth to a function.

    The function is started on one share after the other, as `fastgshare up` would start it, and driven by MLPerf's
    LoadGen: for its capacity, and for the highest rate within its latency bound. Every trial is kept as soon as it has
    ended: after Ctrl-C, or worse, the same call goes on where it was. What is known already is not measured again.
    With --json every trial is a JSON object on a line of its own, and so is the summary.
    """
    from fastgshare.cli.profile_shows import show_for
    from fastgshare.state.profiles import FILE, ProfileStore

    function = _function(name, file)
    order = Order(
        *(function, *_ground(function, request, partitioner, batches or (function.batch.max_size,), directory)),
        *(full, budget, _slo(function, slo_ms), seconds, input_file.read_bytes() if input_file else None),
        *(partitioner, seed),
    )
    with closing(ProfileStore(directory / FILE)) as store:
        return _profile(order, store, directory, show_for(order, directory / FILE, as_json))


def _function(name: str, file: Path) -> Function:
    from fastgshare.spec import references
    from fastgshare.spec.functions import load_file

    for function in load_file(file):
        if function.name == name:
            references.check(function)
            return function
    raise NotFound(f"in {file}, function", name)


def _slo(function: Function, slo_ms: float | None) -> Slo | None:
    if slo_ms is None:
        return function.slo
    return Slo(slo_ms / 1000, function.slo.fraction if function.slo else _FRACTION)


def _ground(
    function: Function, request: DeviceRequest, partitioner: str, batches: tuple[int, ...], directory: Path
) -> tuple[Device, Subject, tuple[Configuration, ...], dict[Configuration, Configuration]]:
    """The device, what is profiled on it, and the paper's grid as far as the device has it."""
    from fastgshare.cli.platforms import divide, partitioners_of
    from fastgshare.cluster.devices import find_device
    from fastgshare.profiler.grids import paper_grid, snapped
    from fastgshare.profiler.subjects import subject
    from fastgshare.spec import references

    device = _named(find_device(request, os.environ))
    (divided,) = divide([device], partitioners_of([device], partitioner, directory / _PLACE, os.environ))
    asked: dict[Configuration, Configuration] = {}
    for point in paper_grid(batches):
        (given,) = snapped(divided, [point])
        asked[given] = min(asked.get(given, point), point, key=lambda each: abs(each.sm - given.sm))
    return device, subject(function.name, references.files(function), device), tuple(asked), asked


def _named(device: Device) -> Device:
    """The device with what it is sold as: profiles are of device types."""
    from fastgshare.cluster.gpus import find_gpus

    if device.kind is not DeviceKind.GPU:
        return device
    names = {gpu.uuid: gpu.name for gpu in find_gpus(os.environ)}
    return replace(device, type=names.get(device.id, device.type))


def _profile(order: Order, store: ProfileStore, directory: Path, show: Show) -> int:
    try:
        with show:
            conclusion = asyncio.run(_run(order, store, directory, show))
    except (KeyboardInterrupt, asyncio.CancelledError):
        show.interrupted(store.trials(order.subject))
        return FAILED
    show.conclude(conclusion)
    measured = any(trial.outcome is Outcome.MEASURED for trial in conclusion.trials)
    return 0 if measured else FAILED


async def _run(order: Order, store: ProfileStore, directory: Path, show: Show) -> Conclusion:
    from fastgshare.cluster.trials import Conditions, DeviceRunner
    from fastgshare.profiler.experiments import Experiment
    from fastgshare.state.locks import StateLock

    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    keep = _Keeper(store, show.trial)
    conditions = Conditions(seconds=order.seconds, slo=order.slo, body=order.body)
    place = directory / _PLACE
    with StateLock(place):
        async with DeviceRunner(
            order.function, order.device, place, conditions, partitioner=order.partitioner, also=keep.add
        ) as runner:
            experiment = Experiment(
                *(order.subject, runner, keep, _planner(order)),
                most=order.most,
                asked=order.asked,
                slo=order.slo,
                seed=order.seed,
                heard=show.progress,
            )
            return await experiment.run()


def _planner(order: Order) -> Planner:
    from fastgshare.profiler.experiments import whole
    from fastgshare.profiler.plans import next_trial

    if order.full:
        return whole(order.grid)

    def next_one(trials: Sequence[Trial]) -> Configuration | None:
        # The experiment counts configurations; each may have several trials.
        return next_trial(order.grid, trials, slo=order.slo, budget=len(trials) + 1, seed=order.seed)

    return next_one


class _Keeper:
    """`profiler.ports.Profiles` that says of every trial that it was kept."""

    def __init__(self, store: ProfileStore, kept: Callable[[Trial], None]) -> None:
        self._store = store
        self._kept = kept

    def add(self, trial: Trial) -> None:
        """Keep a trial."""
        self._store.add(trial)
        self._kept(trial)

    def trials(self, subject: Subject) -> Sequence[Trial]:
        """As the store."""
        return self._store.trials(subject)

    def subjects(self) -> Sequence[Subject]:
        """As the store."""
        return self._store.subjects()
