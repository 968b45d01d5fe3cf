"""What ``fastgshare profile`` shows while trials are run, and in the end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Protocol, Self

import click
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table

from fastgshare.cli.output import print_json_line, stderr, stdout, table
from fastgshare.domain.devices import DeviceKind
from fastgshare.domain.functions import Slo
from fastgshare.domain.profiles import Configuration, Trial
from fastgshare.profiler.experiments import Conclusion, Progress, keeps
from fastgshare.spec.profiles import dump

if TYPE_CHECKING:
    from fastgshare.cli.profile import Order

_STANDIN: Final = "on the stand-in for a GPU, a test double: no figure of it is a GPU's"
_BAR: Final = 30


class Show(Protocol):
    """Is told what happens; entered while trials are run."""

    def __enter__(self) -> Self:
        """Begin."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End, whatever comes after."""

    def trial(self, trial: Trial) -> None:
        """A trial has ended and is kept."""

    def progress(self, progress: Progress) -> None:
        """How far it is."""

    def interrupted(self, trials: Sequence[Trial]) -> None:
        """It was called off."""

    def conclude(self, conclusion: Conclusion) -> None:
        """It is over."""


def show_for(order: Order, path: Path, as_json: bool) -> Show:
    """For programs, or for people: with a bar where they look on. path: of the store."""
    return JsonShow(order, path) if as_json else TextShow(order, path, stderr())


class JsonShow:
    """A JSON object a line: every trial, then the summary."""

    def __init__(self, order: Order, path: Path) -> None:
        self._order = order
        self._path = path

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is left behind."""

    def trial(self, trial: Trial) -> None:
        """Print it."""
        print_json_line({"event": "trial", **dump(trial)})

    def progress(self, progress: Progress) -> None:
        """Programs count trials."""

    def interrupted(self, trials: Sequence[Trial]) -> None:
        """Say so."""
        print_json_line({"event": "interrupted", "trials": len(trials), "store": str(self._path)})

    def conclude(self, conclusion: Conclusion) -> None:
        """Print the summary."""
        order = self._order
        facts = {
            "function": order.subject.function,
            "model_digest": order.subject.model_digest,
            "device_type": order.subject.device_type,
            "standin": order.device.kind is DeviceKind.STANDIN,
            "configurations": conclusion.done,
            "grid": len(order.grid),
            "new": conclusion.new,
            "because": conclusion.because,
            "took_s": sum(trial.took_s for trial in conclusion.trials),
            "store": str(self._path),
        }
        print_json_line({"event": "summary", **facts})


class TextShow:
    """For people: a bar and the surface so far on a terminal, else a line a trial; the surface in the end."""

    def __init__(self, order: Order, path: Path, console: Console) -> None:
        self._order = order
        self._path = path
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None

    def __enter__(self) -> Self:
        order = self._order
        on = f" ({_STANDIN})" if order.device.kind is DeviceKind.STANDIN else ""
        self._console.print(
            escape(f"profile of {order.function.name} on {order.subject.device_type}{on}"), soft_wrap=True
        )
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def trial(self, trial: Trial) -> None:
        """A line of its own where nobody looks on."""
        if self._live is None:
            self._console.print(escape(sentence(trial)), soft_wrap=True)

    def progress(self, progress: Progress) -> None:
        """Draw anew."""
        if self._live is not None:
            bar = ProgressBar(total=progress.most, completed=progress.done, width=_BAR)
            words = escape(state(progress))
            self._live.update(Group(surface(progress.trials, self._order.slo), bar, words), refresh=True)

    def interrupted(self, trials: Sequence[Trial]) -> None:
        """Say what is kept."""
        count = len({trial.given for trial in trials})
        click.echo(f"interrupted; {count} configurations are kept in {self._path}: the same call goes on", err=True)

    def conclude(self, conclusion: Conclusion) -> None:
        """Print the surface, and why there is no more of it."""
        stdout().print(surface(conclusion.trials, self._order.slo))
        known = f"{conclusion.done} of {len(self._order.grid)} configurations tried, {conclusion.new} of them now"
        click.echo(f"{known}; {conclusion.because}; kept in {self._path}")


def state(progress: Progress) -> str:
    """How far it is, in words."""
    left = "" if progress.left_s is None else f", at most {_time(progress.left_s)} left"
    now = "" if progress.running is None else f"; now {_words(progress.running)}"
    return f"{progress.done} of at most {progress.most} configurations{left}{now}"


def sentence(trial: Trial) -> str:
    """A trial in one line."""
    where = _words(trial.given)
    snapped = f" (asked for: {trial.asked.sm:g}% SM)" if trial.asked != trial.given else ""
    load = f" at {trial.offered_rps:.1f} requests a second" if trial.offered_rps else ""
    if trial.figures is None:
        return f"{where}{snapped}{load}: {trial.outcome}: {trial.reason}"
    figures = trial.figures
    p99 = "" if figures.p99_s is None else f", 99% within {figures.p99_s * 1000:.1f} ms"
    error = f" +-{figures.rps_error:.1f}" if figures.rps_error else ""
    noise = f"; {trial.reason}" if trial.reason else ""
    return f"{where}{snapped}{load}: {figures.rps:.1f}{error} answers a second{p99}{noise}"


def surface(trials: Sequence[Trial], slo: Slo | None) -> Table:
    """Answers a second by SMs (and batch) and quota; behind a stroke, of these within the promise."""
    quotas = sorted({trial.given.quota for trial in trials})
    rows = sorted({(trial.given.batch, trial.given.sm) for trial in trials})
    several = len({batch for batch, _ in rows}) > 1
    found = table(["SM %", *(["BATCH"] if several else []), *(f"QUOTA {quota:g}" for quota in quotas)])
    for batch, sm in rows:
        cells = [_cell(trials, Configuration(sm, quota, batch), slo) for quota in quotas]
        found.add_row(f"{sm:g}", *([str(batch)] if several else []), *cells)
    return found


def _cell(trials: Sequence[Trial], point: Configuration, slo: Slo | None) -> str:
    of_it = [trial for trial in trials if trial.given == point]
    capacity = [trial for trial in of_it if not trial.offered_rps]
    if not capacity:
        return ""
    figures = capacity[-1].figures
    if figures is None:
        return str(capacity[-1].outcome)
    rated = [trial for trial in of_it if trial.offered_rps and trial.figures is not None]
    if slo is None or not rated:
        return f"{figures.rps:.1f}"
    within = [trial.figures.rps for trial in rated if trial.figures is not None and keeps(trial, slo)]
    return f"{figures.rps:.1f} / {max(within, default=0.0):.1f}"


def _words(point: Configuration) -> str:
    batch = f", batch {point.batch}" if point.batch > 1 else ""
    return f"{point.sm:g}% SM x {point.quota:g}{batch}"


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
