from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pytest

from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.errors import InvalidValue
from fastgshare.domain.functions import Slo
from fastgshare.domain.profiles import Configuration, Figures, Outcome, Subject, Trial
from fastgshare.profiler.experiments import Conclusion, Experiment, Progress, keeps, whole
from fastgshare.profiler.subjects import device_type, digest, subject

SUBJECT = Subject("f", "0" * 64, "a device")
GRID = tuple(Configuration(sm, quota) for sm in (50.0, 100.0) for quota in (0.5, 1.0))
SLO = Slo(0.1)


class Shelf:
    """A store in memory."""

    def __init__(self) -> None:
        self.kept: list[Trial] = []

    def add(self, trial: Trial) -> None:
        self.kept.append(trial)

    def trials(self, subject: Subject) -> Sequence[Trial]:
        return [trial for trial in self.kept if trial.subject == subject]

    def subjects(self) -> Sequence[Subject]:
        return list(dict.fromkeys(trial.subject for trial in self.kept))


class ScriptedRunner:
    """Trials that end as a test says: by configuration, an outcome, or an exception."""

    def __init__(self, **_: object) -> None:
        self.script: dict[Configuration, Outcome | BaseException] = {}
        self.ran: list[tuple[Configuration, int]] = []

    async def run(self, subject: Subject, configuration: Configuration, *, seed: int) -> Trial:
        self.ran.append((configuration, seed))
        said = self.script.get(configuration, Outcome.MEASURED)
        if isinstance(said, BaseException):
            raise said
        return trial(configuration, said, subject=subject)


def trial(
    point: Configuration,
    outcome: Outcome = Outcome.MEASURED,
    *,
    subject: Subject = SUBJECT,
    rps: float = 0.0,
    within_s: float = 0.0,
    p99_s: float | None = 0.05,
    source: str = "trial",
) -> Trial:
    figures = Figures(10 * point.area, p99_s=p99_s) if outcome is Outcome.MEASURED else None
    load = {"offered_rps": rps, "within_s": within_s, "source": source}
    return Trial(subject, point, point, outcome, figures, took_s=2.0, **load)  # type: ignore[arg-type]


async def run(shelf: Shelf, runner: ScriptedRunner, *, most: int = 99, slo: Slo | None = None) -> Conclusion:
    return await Experiment(SUBJECT, runner, shelf, whole(GRID), most=most, slo=slo).run()


async def test_all_of_a_grid_is_tried_once_and_kept() -> None:
    shelf, runner = Shelf(), ScriptedRunner()
    conclusion = await run(shelf, runner)
    assert [trial.given for trial in shelf.kept] == list(GRID)
    assert [seed for _, seed in runner.ran] == [0, 1, 2, 3]
    assert (conclusion.new, conclusion.done, conclusion.because) == (4, 4, "a further trial would change nothing")


async def test_what_is_in_the_store_is_not_measured_again() -> None:
    shelf, runner = Shelf(), ScriptedRunner()
    runner.script[GRID[2]] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        await run(shelf, runner)
    assert [trial.given for trial in shelf.kept] == list(GRID[:2])
    conclusion = await run(shelf, again := ScriptedRunner())
    assert [point for point, _ in again.ran] == list(GRID[2:])
    assert (conclusion.new, conclusion.done) == (2, 4)


async def test_a_trial_that_fails_is_kept_as_that_and_the_experiment_goes_on() -> None:
    shelf, runner = Shelf(), ScriptedRunner()
    runner.script = dict(zip(GRID, [Outcome.CRASHED, Outcome.OUT_OF_MEMORY, Outcome.UNSTABLE], strict=False))
    conclusion = await run(shelf, runner)
    outcomes = [trial.outcome for trial in conclusion.trials]
    assert outcomes == [Outcome.CRASHED, Outcome.OUT_OF_MEMORY, Outcome.UNSTABLE, Outcome.MEASURED]
    await run(shelf, again := ScriptedRunner())
    assert not again.ran


async def test_a_lost_device_is_tried_again_but_only_the_next_time() -> None:
    shelf, runner = Shelf(), ScriptedRunner()
    runner.script[GRID[0]] = Outcome.DEVICE_LOST
    await run(shelf, runner)
    assert [point for point, _ in runner.ran] == list(GRID)
    await run(shelf, again := ScriptedRunner())
    assert [point for point, _ in again.ran] == [GRID[0]]


async def test_trials_of_other_subjects_and_of_production_count_for_nothing() -> None:
    shelf, runner = Shelf(), ScriptedRunner()
    shelf.add(trial(GRID[0], subject=Subject("f", "1" * 64, "a device")))
    shelf.add(trial(GRID[1], subject=Subject("f", "0" * 64, "another device")))
    shelf.add(trial(GRID[2], source="production"))
    await run(shelf, runner)
    assert len(runner.ran) == 4


@pytest.mark.parametrize(
    ("kept", "again"),
    [
        ([trial(GRID[0])], True),  # its rates were never sought
        ([trial(GRID[0]), trial(GRID[0], rps=3, within_s=0.1)], False),
        ([trial(GRID[0], rps=3, within_s=0.1)], True),  # it ended before the capacity was kept
        ([trial(GRID[0]), trial(GRID[0], rps=3, within_s=0.2)], True),  # sought for another bound
        ([trial(GRID[0]), trial(GRID[0], rps=3, p99_s=0.3)], False),  # no rate keeps it
        ([trial(GRID[0], Outcome.CRASHED)], False),
    ],
)
async def test_a_promise_is_sought_where_it_was_not_yet(kept: list[Trial], again: bool) -> None:
    shelf, runner = Shelf(), ScriptedRunner()
    shelf.kept = kept
    await Experiment(SUBJECT, runner, shelf, whole(GRID[:1]), most=9, slo=SLO).run()
    assert bool(runner.ran) is again


async def test_no_more_configurations_are_tried_than_wanted_and_a_planner_that_repeats_itself_ends_it() -> None:
    shelf, runner = Shelf(), ScriptedRunner()
    assert (await run(shelf, runner, most=2)).because == "2 configurations have been tried"
    stuck = await Experiment(SUBJECT, runner, shelf, lambda trials: GRID[0], most=9).run()
    assert (stuck.new, stuck.because) == (0, "the most useful trial is one that was made already")


async def test_progress_says_what_is_done_and_how_long_the_rest_takes_at_most() -> None:
    seen: list[Progress] = []
    await Experiment(SUBJECT, ScriptedRunner(), Shelf(), whole(GRID), most=4, heard=seen.append).run()
    assert [(each.done, each.running, each.left_s) for each in seen[:3]] == [
        (0, GRID[0], None),
        (1, None, 6.0),
        (1, GRID[1], 6.0),
    ]
    assert (seen[-1].done, seen[-1].left_s) == (4, 0.0)


async def test_what_was_asked_for_is_told_to_the_runner() -> None:
    runner, asked = ScriptedRunner(), Configuration(60, 0.5)
    planner = whole(GRID[:1])
    await Experiment(SUBJECT, runner, Shelf(), planner, most=1, asked={GRID[0]: asked}, seed=7).run()
    assert runner.ran == [(asked, 7)]


def test_a_promise_is_kept_by_the_percentile_that_is_as_strict() -> None:
    found = trial(GRID[0], p99_s=0.2)
    assert not keeps(found, Slo(0.1, 0.99))
    assert keeps(found, Slo(0.2, 0.99))
    assert not keeps(found, Slo(0.2, 0.5))  # nobody measured that
    assert not keeps(trial(GRID[0], Outcome.CRASHED), Slo(0.2))


def test_a_subject_is_its_files_and_its_kind_of_device(tmp_path: Path) -> None:
    model, handler, cpuinfo = tmp_path / "m.onnx", tmp_path / "h.py", tmp_path / "cpuinfo"
    model.write_bytes(b"a")
    handler.write_bytes(b"b")
    cpuinfo.write_text("processor: 0\nmodel name\t: A Fine CPU\n")
    cpu = Device("cpu", DeviceKind.CPU, 2)
    one = subject("f", [model], cpu, cpuinfo=cpuinfo)
    assert one == Subject("f", hashlib.sha256(b"a").hexdigest(), "A Fine CPU (2 cores)")
    both = digest([model, handler])
    handler.write_bytes(b"c")
    assert len({one.model_digest, both, digest([model, handler]), digest([handler, model])}) == 4
    assert device_type(Device("x", DeviceKind.STANDIN, 132)) == "stand-in for a GPU, 132 SMs"
    assert device_type(Device("x", DeviceKind.GPU, 132, type="A GPU")) == "A GPU"
    with pytest.raises(InvalidValue, match="a file that can be read"):
        digest([tmp_path / "none"])
