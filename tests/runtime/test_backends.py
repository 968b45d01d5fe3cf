"""Which backend opens a model, and what an instance says of one that nothing opens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from tests.runtime.running_instances import SHARE

from fastgshare.domain.devices import DeviceKind
from fastgshare.domain.errors import InvalidValue
from fastgshare.domain.functions import Function
from fastgshare.runtime import backends
from fastgshare.runtime.backends import choose_backend
from fastgshare.runtime.models import DeviceFailed
from fastgshare.runtime.onnx_backend import CUDA, OnnxBackend, OnnxSession
from fastgshare.runtime.standin_backend import StandinBackend
from fastgshare.runtime.start import parse_start
from fastgshare.spec.frameworks import EXPORTED, ONNX
from fastgshare.spec.functions import dump

DOCUMENT: dict[str, object] = {
    "instance_id": "f-1",
    "function": dump(Function("f", SHARE, handler="h.py:h")),
    "threads": 1,
    "spin": False,
    "daemon_socket": None,
    "mem_bytes": 0,
}


@pytest.mark.parametrize("kind", ["cpu", "gpu", "standin"])
def test_a_start_says_what_the_device_is(kind: str) -> None:
    assert parse_start({**DOCUMENT, "device": kind}).device is DeviceKind(kind)


def test_a_start_that_says_nothing_of_it_means_the_cpu() -> None:
    assert parse_start(DOCUMENT).device is DeviceKind.CPU


@pytest.mark.parametrize("kind", ["tpu", "abstract", None, 3, "CPU"])
def test_a_device_of_no_known_kind_is_refused(kind: object) -> None:
    with pytest.raises(InvalidValue) as raised:
        parse_start({**DOCUMENT, "device": kind})
    assert str(raised.value) == f"device: {kind!r} is not allowed; allowed: cpu, gpu, standin"


def test_onnx_runtime_opens_onnx_and_on_a_stand_in_it_is_acted_out() -> None:
    backend, form = choose_backend("net.onnx", DeviceKind.CPU)
    acted, same = choose_backend("net.onnx", DeviceKind.STANDIN)
    assert isinstance(backend, OnnxBackend)
    assert isinstance(acted, StandinBackend)
    assert form is same is ONNX
    assert choose_backend("other.onnx", DeviceKind.CPU)[0] is backend


def test_a_framework_that_is_broken_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(module: str, kind: DeviceKind) -> Any:
        raise OSError("libtorch.so: cannot\nallocate memory")

    monkeypatch.setattr(backends, "check_framework", lambda *_: EXPORTED)
    monkeypatch.setattr(backends, "_backend", broken)
    with pytest.raises(InvalidValue) as raised:
        choose_backend("net.pt2", DeviceKind.CPU)
    assert str(raised.value).endswith(
        ".pt2 where torch can compute on a cpu device (libtorch.so: cannot allocate memory)"
    )


class Recorded:
    """In the place of a session of ONNX Runtime: what it was made with; running it fails as it is told."""

    providers: tuple[str, ...] = (CUDA, "CPUExecutionProvider")
    made: dict[str, Any]
    failure = ""

    def __init__(self, path: str, options: object, **made: Any) -> None:
        Recorded.made = made

    def get_providers(self) -> list[str]:
        return list(self.providers)

    def get_inputs(self) -> list[Any]:
        return []

    get_outputs = get_inputs

    def get_modelmeta(self) -> Any:
        return type("Meta", (), {"custom_metadata_map": {}})

    def run(self, *_: object) -> None:
        raise RuntimeError(self.failure)


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> type[Recorded]:
    monkeypatch.setattr(ort, "InferenceSession", Recorded)
    monkeypatch.setattr(ort, "preload_dlls", lambda: None, raising=False)
    return Recorded


def test_on_a_gpu_memory_grows_as_it_is_asked_for_and_nothing_falls_back(recorded: type[Recorded]) -> None:
    OnnxBackend(on_gpu=True).open(Path("net.onnx"), threads=1, spin=False)
    (cuda, options), cpu = recorded.made["providers"]
    assert (cuda, cpu, recorded.made["enable_fallback"]) == (CUDA, "CPUExecutionProvider", 0)
    assert options["arena_extend_strategy"] == "kSameAsRequested"


def test_a_provider_that_cannot_be_loaded_is_said(recorded: type[Recorded], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded, "providers", ("CPUExecutionProvider",))
    with pytest.raises(ValueError, match="CUDA provider cannot be loaded"):
        OnnxBackend(on_gpu=True).open(Path("net.onnx"), threads=1, spin=False)


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        ("CUDA failure 2: out of memory ; GPU=0", MemoryError),
        ("BFCArena::AllocateRawInternal Failed to allocate memory for requested buffer of size 8", MemoryError),
        ("CUDA failure 700: an illegal memory access was encountered", DeviceFailed),
        ("Got invalid dimensions for input: x", RuntimeError),
    ],
)
def test_failures_of_a_run_are_told_apart(
    recorded: type[Recorded], monkeypatch: pytest.MonkeyPatch, failure: str, error: type[Exception]
) -> None:
    monkeypatch.setattr(recorded, "failure", failure)
    session = OnnxSession(recorded("net.onnx", None), Path("net.onnx"))  # type: ignore[arg-type]
    with pytest.raises(error, match=failure.partition(":")[0].partition(" ")[0]):
        session.run({}, [])


def test_a_real_session_knows_its_outline(doubling: Path) -> None:
    session = OnnxBackend().open(doubling, threads=1, spin=False)
    assert (session.outline().nodes, session.outline().weight_bytes) == (1, 4)
    assert session.run({"x": np.ones((1, 3), np.float32)}, ["y"])[0].tolist() == [[2, 2, 2]]
