"""Trials with everything real: node daemon, cluster, runtime, LoadGen."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fastgshare import native
from fastgshare.cluster.attempts import Attempt
from fastgshare.cluster.devices import cpu_device
from fastgshare.cluster.trials import Conditions, DeviceRunner
from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.errors import InvalidValue
from fastgshare.domain.functions import Batching, Function, Slo
from fastgshare.domain.profiles import Configuration, Outcome, Subject, Trial
from fastgshare.domain.shares import Share

SUBJECT = Subject("f", "0" * 64, "a device")
CPU = cpu_device()
STANDIN = Device("standin", DeviceKind.STANDIN, 100, 2**30)
SHORT = Conditions(seconds=0.3, warm_s=10, stretch_s=0.1, tolerance=0.9)
"""Whoever asserts nothing on speed need not wait until it is steady."""
HANDLER = """
import os

def bad(request):
    raise ValueError("no such thing")

def dies(request):
    os._exit(3)

def hungry(request):
    raise MemoryError("a large array")

class Sampled:
    sample = b"sample"

    def __init__(self, context):
        pass

    def __call__(self, request):
        assert request.body in (b"sample", b"given"), request.body
        return request.body
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory whose path is short enough for sockets."""
    path = Path(tempfile.mkdtemp(prefix="fgs-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """y[n, 64] = x[n, 64] w."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 64])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 64])
    weights = [numpy_helper.from_array(np.ones((64, 64), dtype=np.float32), "w")]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "multiply", [x], [y], weights)
    path = tmp_path / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture
def code(tmp_path: Path) -> Path:
    path = tmp_path / "handler.py"
    path.write_text(HANDLER)
    return path


def function(*, model: Path | None = None, handler: str | None = None, mem_bytes: int = 0) -> Function:
    share = Share(100, 1, 1, mem_bytes)
    return Function("f", share, model=None if model is None else str(model), handler=handler)


def left_in(place: Path) -> list[Path]:
    return [path for path in place.iterdir() if path.suffix in (".sock", ".state")]


async def trial_of(
    function: Function,
    device: Device,
    place: Path,
    point: Configuration,
    conditions: Conditions = SHORT,
    also: list[Trial] | None = None,
) -> Trial:
    others: list[Trial] = [] if also is None else also
    async with (
        asyncio.timeout(100),
        DeviceRunner(function, device, place, conditions, also=others.append) as runner,
    ):
        return await runner.run(SUBJECT, point, seed=3)


async def test_a_share_of_the_cpu_is_measured_and_its_rates_are_sought(place: Path, model: Path) -> None:
    also: list[Trial] = []
    conditions = replace(SHORT, slo=Slo(30.0, 0.9), rates=2)
    asked = Configuration(100 / CPU.sm_count * 0.9, 0.6, batch=2)
    found = await trial_of(
        replace(function(model=model), batch=Batching(4, 0.001)), CPU, place, asked, conditions, also
    )
    figures = found.figures
    assert found.outcome is Outcome.MEASURED
    assert not found.reason or found.reason.startswith("other programs used")
    assert figures is not None
    assert (found.asked, found.given) == (asked, Configuration(CPU.sm_step, 0.6, 2))
    assert figures.rps > 0
    assert figures.rps_error > 0
    assert 0 < (figures.p50_s or 0) <= (figures.p95_s or 0) <= (figures.p99_s or 0)
    assert (figures.mem_bytes or 0) > 2**20
    assert 0 < (figures.sm_utilisation or 0) <= 1
    assert 0 < (figures.received_quota or 0) <= 1
    assert found.histogram
    assert {"fastgshare", "python", "kernel", "onnxruntime", "mlcommons-loadgen"} <= found.versions.keys()
    assert (found.seed, found.source, found.offered_rps) == (3, "trial", 0)
    rates = [trial for trial in also if trial.offered_rps]
    assert len(rates) == len(also) == 2
    assert [trial.within_s for trial in rates if trial.within_s] == [30.0]  # of the higher one alone
    assert rates[-1].figures is not None
    assert not left_in(place)


async def test_a_share_of_the_stand_in_is_measured_in_device_time_and_memory(place: Path, model: Path) -> None:
    found = await trial_of(function(model=model), STANDIN, place, Configuration(24, 0.5))
    assert (found.outcome, found.reason, found.given) == (Outcome.MEASURED, "", Configuration(24, 0.5))
    assert found.figures is not None
    assert found.figures.rps > 0
    assert 64 * 64 * 4 <= (found.figures.mem_bytes or 0) <= STANDIN.mem_bytes
    assert not left_in(place)


async def test_the_sample_is_the_functions_own_or_what_is_given(place: Path, code: Path) -> None:
    sampled = function(handler=f"{code}:Sampled")
    assert (await trial_of(sampled, CPU, place, Configuration(100, 1))).outcome is Outcome.MEASURED
    given = replace(SHORT, body=b"given")
    assert (await trial_of(sampled, CPU, place, Configuration(100, 1), given)).outcome is Outcome.MEASURED
    with pytest.raises(InvalidValue, match="input: None is not allowed"):
        await trial_of(function(handler=f"{code}:bad"), CPU, place, Configuration(100, 1))


@pytest.mark.parametrize(
    ("handler", "mem_bytes", "outcome", "reason"),
    [
        ("bad", 0, Outcome.CRASHED, "no such thing"),
        ("dies", 0, Outcome.CRASHED, "exit status 3"),
        ("hungry", 0, Outcome.OUT_OF_MEMORY, "a large array"),
        ("nowhere", 0, Outcome.CRASHED, "nowhere"),
        ("Sampled", 2**60, Outcome.REFUSED, "mem"),
    ],
)
async def test_what_goes_wrong_is_an_outcome(
    place: Path, code: Path, handler: str, mem_bytes: int, outcome: Outcome, reason: str
) -> None:
    conditions = replace(SHORT, body=b"")
    found = await trial_of(
        function(handler=f"{code}:{handler}", mem_bytes=mem_bytes), CPU, place, Configuration(100, 1), conditions
    )
    assert (found.outcome, found.figures) == (outcome, None)
    assert reason in found.reason


async def test_one_that_is_never_steady_is_unstable(place: Path, code: Path) -> None:
    conditions = replace(SHORT, warm_s=0.3, tolerance=0.0)
    found = await trial_of(function(handler=f"{code}:Sampled"), CPU, place, Configuration(100, 1), conditions)
    assert found.outcome is Outcome.UNSTABLE
    assert "requests a second in stretches of" in found.reason


async def test_a_device_that_is_lost_is_an_outcome_and_the_next_trial_has_another(
    place: Path, code: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = Attempt._warm_up

    async def lose_then_start(attempt: Attempt, feed: object) -> float:
        fault = native.library("standin/bin/standin-fault")
        process = await asyncio.create_subprocess_exec(fault, place / "standin.state", "xid=79", "lose")
        assert await process.wait() == 0
        return await start(attempt, feed)  # type: ignore[arg-type]

    async with asyncio.timeout(100), DeviceRunner(function(model=model), STANDIN, place, SHORT) as runner:
        with monkeypatch.context() as patch:
            patch.setattr(Attempt, "_warm_up", lose_then_start)
            lost = await runner.run(SUBJECT, Configuration(24, 1), seed=0)
        assert (lost.outcome, lost.figures) == (Outcome.DEVICE_LOST, None)
        assert (await runner.run(SUBJECT, Configuration(50, 1), seed=1)).outcome is Outcome.MEASURED
