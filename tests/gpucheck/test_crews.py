"""Crews of real processes on the stand-in: they load, obey, shrink and go."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.errors import InstanceFailed
from fastgshare.gpucheck.benches import Bench
from fastgshare.gpucheck.crews import Crew, Worker, places, task
from fastgshare.gpucheck.loops import Task
from fastgshare.gpucheck.names import EXCLUSIVE, LAUNCHES, SHARES, SMALL_LAUNCHES, TIME_SHARING, Mode
from fastgshare.gpucheck.programs import worker_words
from fastgshare.gpucheck.replay_worker import SMALL, answer, words
from fastgshare.sim import traces


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    with tempfile.TemporaryDirectory(prefix="fg-") as directory:  # sockets want a short path
        device = Device("standin", DeviceKind.STANDIN, 132, 2**36)
        bench = Bench(device, Path(directory), os.environ, lambda text: None)
        bench.begin("test", 60)
        yield bench
        await bench.close()


@pytest.mark.parametrize("mode", [EXCLUSIVE, TIME_SHARING, SHARES], ids=lambda mode: mode.name)
async def test_workers_answer_side_by_side_in_every_mode(bench: Bench, mode: Mode) -> None:
    async with Crew(bench, mode, places(mode, 2), worker_words(bench)) as crew:
        both = await crew.perform([task("bert", 1, 0.02, 0.2), task(LAUNCHES, 1, 0.02, 0.2)])
        alone = await crew.perform([None, task("bert", 1, 0.02, 0.2)])

    assert crew.workers[0].ready["models"] == list(bench.models)
    assert [line["status"] for line in (*both, *alone)] == ["ran"] * 3, both
    assert all(line["requests"] > 0 and line["p99_ms"] > 0 for line in (*both, *alone))
    assert all(worker.process.returncode is not None for worker in crew.workers)


async def test_a_crew_that_shrinks_gives_who_stays_more(bench: Bench) -> None:
    async with Crew(bench, TIME_SHARING, places(TIME_SHARING, 3), worker_words(bench)) as crew:
        everybody = list(crew.workers)
        await crew.shrink(1)
        (line,) = await crew.perform([task("bert", 1, 0.05, 0.2)])

    assert line["status"] == "ran"
    assert crew.workers == everybody[:1]


async def test_what_a_worker_cannot_do_is_a_line_too(bench: Bench) -> None:
    async with Crew(bench, EXCLUSIVE, places(EXCLUSIVE, 1), worker_words(bench)) as crew:
        (wrong,) = await crew.perform([task("nothing", 1, 0.0, 0.1)])
        crew.workers[0].process.kill()
        (dead,) = await crew.perform([task("bert", 1, 0.0, 0.1)])

    assert (wrong["status"], dead["status"]) == ("failed", "failed")
    assert "nothing" in wrong["why"] and "ended" in dead["why"]


async def test_what_frameworks_say_between_the_lines_is_passed_over(tmp_path: Path) -> None:
    code = "print('Loading weights'); print(7); print('{\"status\": \"ready\"}')"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    (tmp_path / "errors").write_text("Traceback\nRuntimeError: no device\n")
    worker = Worker("one", process, tmp_path / "errors")

    assert await worker.line(30) == {"status": "ready"}
    with pytest.raises(InstanceFailed, match="ended: RuntimeError: no device"):
        await worker.line(30)
    await worker.leave()


def test_a_task_of_the_replay_program_settles_and_ends_when_it_should() -> None:
    now_ns = time.monotonic_ns()
    found = words(Task("bert", 1, now_ns + 10**9, now_ns + 3 * 10**9, rate=2.5, seed=7), Path("b.trace"), now_ns)

    assert found[1:] == [
        *("b.trace", "--seed", "7", "--settle", "1.000000"),
        *("--seconds", "2.000000", "--rate", "2.500000"),
    ]


def test_the_trace_of_small_kernels_has_as_many_as_torch_launches() -> None:
    assert traces.load(str(SMALL)).launches == SMALL_LAUNCHES


def test_what_the_replay_program_says_is_what_a_worker_says() -> None:
    said = {"requests": 3, "rps": 1.5, "unanswered": 1, "latency_ms": {"p50": 2.0, "p90": 3.0, "p99": 4.0, "max": 5.0}}

    assert answer(said) == {"requests": 3, "rps": 1.5, "unanswered": 1, "p50_ms": 2.0, "p99_ms": 4.0}
