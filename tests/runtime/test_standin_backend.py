from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fastgshare.manager.environments import STANDIN_DRIVER
from fastgshare.native import library
from fastgshare.runtime.models import Outline, Tensor
from fastgshare.runtime.standin_backend import StandinBackend, StandinSession
from fastgshare.runtime.standin_device import NODE_NS

Calls = list[tuple[str, int]]


class RecordingDevice:
    def __init__(self) -> None:
        self.calls: Calls = []

    def __getattr__(self, name: str) -> Any:
        def call(number: int = 0) -> int:
            self.calls.append((name, number))
            return 4096

        return call


class Doubling:
    """A network of three nodes and 100 bytes of weights, on the CPU."""

    inputs = outputs = (Tensor("x", "FP32", (None,)),)
    metadata: Mapping[str, str] = {"maker": "tests"}

    def outline(self) -> Outline:
        return Outline(3, 100)

    def run(self, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> list[NDArray[Any]]:
        return [2 * inputs["x"]]

    def open(self, path: Path, *, threads: int, spin: bool) -> Doubling:
        return self


def test_a_network_is_acted_out_while_the_cpu_finds_the_answer() -> None:
    device = RecordingDevice()
    session = StandinSession(Doubling(), device)  # type: ignore[arg-type]
    assert device.calls == [("allocate", 100)]
    (answer,) = session.run({"x": np.arange(3)}, ["y"])
    assert answer.tolist() == [0, 2, 4]
    assert device.calls[1:] == [("launch", 3), ("synchronise", 0)]
    assert (session.inputs, session.metadata, session.outline()) == (
        Doubling.inputs,
        Doubling.metadata,
        Outline(3, 100),
    )


def test_what_was_launched_is_waited_for_also_when_the_answer_is_an_error() -> None:
    device = RecordingDevice()
    session = StandinSession(Doubling(), device)  # type: ignore[arg-type]
    with pytest.raises(KeyError):
        session.run({}, ["y"])
    assert device.calls[-1] == ("synchronise", 0)


def test_memory_is_given_back_with_the_model() -> None:
    device = RecordingDevice()
    session = StandinSession(Doubling(), device)  # type: ignore[arg-type]
    del session
    assert device.calls == [("allocate", 100), ("free", 4096)]


PROGRAM = """
import json, time
from fastgshare.runtime.models import DeviceFailed
from fastgshare.runtime.standin_device import StandinDevice

device = StandinDevice()
said = []
for size_bytes in (60 << 20, 60 << 20):
    try:
        held = device.allocate(size_bytes)
    except MemoryError as error:
        said.append(str(error))
device.free(held)
device.free(device.allocate(60 << 20))
began_ns = time.monotonic_ns()
device.launch(200)
device.synchronise()
took_ns = time.monotonic_ns() - began_ns
try:
    device.free(12345)
except DeviceFailed as error:
    said.append(str(error))
print(json.dumps({"said": said, "took_ns": took_ns}))
"""


def on_the_standin(source: str) -> subprocess.CompletedProcess[str]:
    folder = str(library(STANDIN_DRIVER).parent)
    env = {**os.environ, "LD_LIBRARY_PATH": folder, "FASTGSHARE_STANDIN": f"mem={100 << 20}"}
    return subprocess.run(
        [sys.executable, "-c", source], check=False, env=env, capture_output=True, text=True, timeout=30
    )


def test_the_standin_counts_memory_and_takes_its_time() -> None:
    found = on_the_standin(PROGRAM)
    assert found.returncode == 0, found.stderr
    document = json.loads(found.stdout)
    full, wrong = document["said"]
    assert full == "the stand-in's memory for this share is full"
    assert wrong.startswith("cuMemFree_v2 of the stand-in failed: ")
    assert "(stand-in)" in wrong
    assert document["took_ns"] >= 200 * NODE_NS


def test_without_a_stand_in_nothing_is_acted_out() -> None:
    source = (
        "from fastgshare.runtime.standin_device import StandinDevice as S; import fastgshare.runtime.standin_device"
    )
    hidden = f"{source} as d; d.DRIVER = 'libnone.so.1'; S()"
    found = on_the_standin(hidden)
    assert "device: 'standin' is not allowed; allowed: a stand-in whose driver is found (libnone.so.1" in found.stderr


def test_an_own_backend_opens_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastgshare.runtime.standin_backend.StandinDevice", RecordingDevice)
    backend = StandinBackend(Doubling())
    first, second = (backend.open(Path("net.onnx"), threads=1, spin=False) for _ in range(2))
    assert first.outline() == second.outline() == Outline(3, 100)
