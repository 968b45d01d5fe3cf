"""The backend of torch on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.torch.networks import Doubler, Hungry, Pair, Several, export, export_doubler

import torch
from fastgshare.runtime.models import Outline, Session, Tensor
from fastgshare.runtime.torch_backend import TorchBackend

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # TorchScript is, and still loads


def opened(path: Path, device: str = "cpu", threads: int = 1) -> Session:
    return TorchBackend(device).open(path, threads=threads, spin=False)


@pytest.fixture
def doubler(tmp_path: Path) -> Session:
    return opened(export_doubler(tmp_path / "doubler.pt2"))


def test_a_program_says_what_it_takes_and_gives(doubler: Session) -> None:
    assert doubler.inputs == (Tensor("x", "FP32", (None, 3)),)
    assert doubler.outputs == (Tensor("output", "FP32", (None, 3)),)
    assert doubler.outline() == Outline(1, 12)
    assert doubler.metadata == {}


@pytest.mark.parametrize("rows", [2, 1, 7])
def test_it_computes_for_any_number_of_rows(doubler: Session, rows: int) -> None:
    x = np.arange(3 * rows, dtype=np.float32).reshape(rows, 3)
    (y,) = doubler.run({"x": x}, ["output"])
    assert y.dtype == np.float32
    assert np.array_equal(y, 2 * x)


def test_arrays_that_others_own_are_taken_as_they_are(doubler: Session) -> None:
    read_only = np.frombuffer(np.ones(6, np.float32).tobytes(), np.float32).reshape(2, 3)
    backwards = np.ones((2, 3), np.float32)[:, ::-1]
    for x in (read_only, backwards):
        assert doubler.run({"x": x}, ["output"])[0].tolist() == [[2, 2, 2], [2, 2, 2]]


@pytest.mark.parametrize(
    ("inputs", "outputs", "words"),
    [
        ({}, ["output"], "input 'x' is missing"),
        ({"x": np.zeros((1, 3), np.float32), "z": np.zeros(1)}, ["output"], "input 'z' is not allowed; allowed: x"),
        ({"x": np.zeros((1, 3))}, ["output"], "input 'x': FP64 is not allowed; allowed: FP32"),
        ({"x": np.zeros((1, 3), np.float32)}, ["y"], "output 'y' is not allowed; allowed: output"),
    ],
)
def test_what_it_does_not_have_is_refused(doubler: Session, inputs: Any, outputs: list[str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        doubler.run(inputs, outputs)


def test_a_shape_that_it_was_not_exported_for_is_refused(doubler: Session) -> None:
    with pytest.raises(Exception, match="x"):
        doubler.run({"x": np.zeros((1, 4), np.float32)}, ["output"])


def test_names_constants_and_nested_outputs(tmp_path: Path) -> None:
    ids, mask = torch.ones(4, dtype=torch.int64), torch.ones(4, dtype=torch.int64)
    session = opened(export(tmp_path / "pair.pt2", Pair(), (ids, 1.5), mask=mask))
    assert session.inputs == (Tensor("ids", "INT64", (4,)), Tensor("mask", "INT64", (4,)))
    assert {tensor.name: tensor.datatype for tensor in session.outputs} == {
        "logits": "FP32",
        "hidden_0": "INT64",
        "hidden_1": "INT64",
    }
    given = {"mask": np.array([1, 0, 1, 0]), "ids": np.array([1, 2, 3, 4])}
    less, logits = session.run(given, ["hidden_1", "logits"])
    assert (less.tolist(), logits.tolist()) == ([0, 2, 2, 4], [1.5, 3.0, 4.5, 6.0])


def test_outputs_without_names_are_counted(tmp_path: Path) -> None:
    session = opened(export(tmp_path / "several.pt2", Several(), (torch.zeros(3),)))
    assert [tensor.name for tensor in session.outputs] == ["output_0", "output_1"]
    more, total = session.run({"x": np.arange(3, dtype=np.float32)}, ["output_0", "output_1"])
    assert (more.tolist(), total.item(), total.shape) == ([1, 2, 3], 3.0, ())


def test_short_floats_come_and_go_as_long_ones(tmp_path: Path) -> None:
    module = Doubler().to(torch.bfloat16)
    session = opened(export(tmp_path / "short.pt2", module, (torch.zeros(1, 3, dtype=torch.bfloat16),)))
    assert session.inputs[0].datatype == session.outputs[0].datatype == "FP32"
    (y,) = session.run({"x": np.ones((1, 3), np.float32)}, ["output"])
    assert (y.dtype, y.tolist()) == (np.dtype(np.float32), [[2, 2, 2]])


def test_torchscript_takes_what_it_is_given(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(Several()), tmp_path / "several.pt")
    session = opened(tmp_path / "several.pt")
    assert [(tensor.name, tensor.datatype) for tensor in session.inputs] == [("x", "ANY")]
    assert [tensor.name for tensor in session.outputs] == ["output_0", "output_1"]
    assert session.run({"x": np.arange(3.0)}, ["output_1"])[0].item() == 3.0
    assert session.outline().nodes >= 2


def test_torchscript_with_one_output_and_weights(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.trace(Doubler(), torch.zeros(1, 3)), tmp_path / "doubler.pt")
    session = opened(tmp_path / "doubler.pt")
    assert [tensor.name for tensor in session.outputs] == ["output"]
    assert session.outline().weight_bytes == 12
    assert session.run({"x": np.ones((2, 3), np.float32)}, ["output"])[0].tolist() == [[2, 2, 2], [2, 2, 2]]


def test_more_memory_than_there_is_is_a_memory_error(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(Hungry()), tmp_path / "hungry.pt")
    session = opened(tmp_path / "hungry.pt")
    assert session.run({"size": np.array(5)}, ["output"])[0].item() == 0.0
    with pytest.raises(MemoryError):
        session.run({"size": np.array(2**50)}, ["output"])


@pytest.mark.parametrize("suffix", [".pt2", ".pt"])
def test_what_is_no_model_is_one_line(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(b"not a network at all")
    with pytest.raises(ValueError) as raised:
        opened(path)
    assert len(str(raised.value).splitlines()) == 1


def test_forward_may_take_only_tensors(tmp_path: Path) -> None:
    class Lists(torch.nn.Module):
        def forward(self, x: list[torch.Tensor]) -> torch.Tensor:
            return x[0]

    torch.jit.save(torch.jit.script(Lists()), tmp_path / "lists.pt")
    with pytest.raises(ValueError, match="takes or gives other things than tensors"):
        opened(tmp_path / "lists.pt")


def test_a_gpu_that_torch_does_not_find_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ImportError, match="finds no GPU that it can use"):
        TorchBackend("cuda:0")


def test_it_computes_on_so_many_threads(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    try:
        opened(export_doubler(tmp_path / "doubler.pt2"), threads=2)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_program_moves_to_its_device_with_all_that_it_makes_there(tmp_path: Path) -> None:
    """To the device on which nothing is computed: what a program for the CPU leaves behind would be refused there."""
    path = export(tmp_path / "several.pt2", Several(), (torch.zeros(3),))
    backend = TorchBackend("meta")
    network = backend._program(path)
    results = network.call([torch.zeros(3, device="meta")])
    assert {result.device.type for result in results} == {"meta"}
