from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from tests.runtime.conftest import save_model

from fastgshare.domain.errors import InvalidValue
from fastgshare.domain.requests import Request
from fastgshare.runtime.bursts import Bursts
from fastgshare.runtime.handlers import BadRequest
from fastgshare.runtime.models import DeviceFailed, Model
from fastgshare.runtime.onnx_backend import OnnxBackend
from fastgshare.runtime.tensors import TensorHandler
from fastgshare.runtime.turns import Turn


def serve(path: Path) -> TensorHandler:
    session = OnnxBackend().open(path, threads=1, spin=False)
    return TensorHandler(Model(str(path), session, Turn(Bursts(), time.monotonic)))


def request(document: object) -> Request:
    return Request(0, "f", json.dumps(document).encode(), 0.0, 0.0)


def tensor(shape: list[int], data: object, **fields: object) -> dict[str, object]:
    return {"name": "x", "shape": shape, "datatype": "FP32", "data": data, **fields}


def ask(handler: TensorHandler, document: object) -> object:
    (result,) = handler.handle([request(document)])
    return result


def test_tensors_in_tensors_out(doubling: Path) -> None:
    answer = ask(serve(doubling), {"id": "7", "inputs": [tensor([2, 3], [1, 2, 3, 4, 5, 6.5])]})
    assert answer == {
        "id": "7",
        "model_name": str(doubling),
        "outputs": [{"name": "y", "shape": [2, 3], "datatype": "FP32", "data": [2, 4, 6, 8, 10, 13]}],
    }


def test_data_may_be_nested(doubling: Path) -> None:
    answer = ask(serve(doubling), {"inputs": [tensor([2, 3], [[1, 2, 3], [4, 5, 6]])], "outputs": [{"name": "y"}]})
    assert isinstance(answer, dict)
    assert answer["outputs"][0]["data"] == [2, 4, 6, 8, 10, 12]


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ([], "the body is not a JSON object"),
        ({}, "inputs: a JSON array is needed"),
        ({"inputs": []}, "inputs: none given; needed: x"),
        ({"inputs": [7]}, "an input is not a JSON object"),
        ({"inputs": [tensor([1, 3], [1, 2, 3], name="z")]}, "inputs: z given; needed: x"),
        ({"inputs": [tensor([1, 4], [1, 2, 3, 4])]}, "input 'x': shape [1, 4] is not allowed; allowed: [any, 3]"),
        ({"inputs": [tensor([3], [1, 2, 3])]}, "input 'x': shape [3] is not allowed; allowed: [any, 3]"),
        ({"inputs": [tensor([-1, 3], [1, 2, 3])]}, "input 'x': shape [-1, 3] is not allowed"),
        ({"inputs": [tensor([1, 3], [1, 2])]}, "input 'x': 2 values in data; allowed: 3, as shape [1, 3] says"),
        ({"inputs": [tensor([1, 3], ["1", 2, 3])]}, "input 'x': data holds values that are not FP32"),
        ({"inputs": [tensor([1, 3], [[1], 2, 3])]}, "data is nested unevenly"),
        ({"inputs": [tensor([1, 3], [1, 2, 3], datatype="INT8")]}, "datatype 'INT8' is not allowed; allowed: FP32"),
        ({"inputs": [tensor([1, 3], [1, 2, 3])], "outputs": [{"name": "q"}]}, "outputs: 'q' is not one; allowed: y"),
    ],
)
def test_what_does_not_fit_is_named(doubling: Path, document: object, words: str) -> None:
    error = ask(serve(doubling), document)
    assert isinstance(error, BadRequest)
    assert words in str(error)


def test_a_body_that_is_no_json_is_named(doubling: Path) -> None:
    (error,) = serve(doubling).handle([Request(0, "f", b"\xff{", 0.0, 0.0)])
    assert isinstance(error, BadRequest)
    assert "the body is not JSON" in str(error)


def identity(tmp_path: Path, onnx_type: int) -> TensorHandler:
    x = helper.make_tensor_value_info("x", onnx_type, ["n"])
    y = helper.make_tensor_value_info("y", onnx_type, ["n"])
    return serve(save_model(tmp_path / "identity.onnx", [helper.make_node("Identity", ["x"], ["y"])], x, y))


@pytest.mark.parametrize(
    ("onnx_type", "datatype", "data"),
    [
        (TensorProto.INT64, "INT64", [-(2**63), 2**63 - 1]),
        (TensorProto.UINT8, "UINT8", [0, 255]),
        (TensorProto.BOOL, "BOOL", [True, False]),
        (TensorProto.STRING, "BYTES", ["a", "ä"]),
        (TensorProto.DOUBLE, "FP64", [0.1, -1e300]),
    ],
)
def test_every_datatype_comes_back(tmp_path: Path, onnx_type: int, datatype: str, data: list[object]) -> None:
    row = {"name": "x", "shape": [2], "datatype": datatype, "data": data}
    answer = ask(identity(tmp_path, onnx_type), {"inputs": [row]})
    assert isinstance(answer, dict)
    assert answer["outputs"] == [{**row, "name": "y"}]


@pytest.mark.parametrize("data", [[1.5], [256], [-1], [True], ["1"], [None]])
def test_numbers_are_never_bent_to_fit(tmp_path: Path, data: list[object]) -> None:
    row = {"name": "x", "shape": [1], "datatype": "UINT8", "data": data}
    assert isinstance(ask(identity(tmp_path, TensorProto.UINT8), {"inputs": [row]}), BadRequest)


def test_a_model_with_other_tensors_needs_a_handler(tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match=r"without a handler, a model with tensors of .* \(x: tensor\(bfloat16\)\)"):
        identity(tmp_path, TensorProto.BFLOAT16)


@given(st.lists(st.lists(st.integers(-9, 9), max_size=3), min_size=1, max_size=5))
@settings(max_examples=30, deadline=None)
def test_a_batch_answers_what_each_would_get_alone(
    tmp_path_factory: pytest.TempPathFactory, columns: list[list[int]]
) -> None:
    handler = _shared(tmp_path_factory)
    requests = [request({"inputs": [tensor([len(c), 3], [[v] * 3 for v in c])]}) for c in columns]
    requests.insert(1, request({"inputs": []}))
    together = handler.handle(requests)
    for one, result in zip(requests, together, strict=True):
        (alone,) = handler.handle([one])
        assert str(result) == str(alone)


_HANDLERS: list[TensorHandler] = []


def _shared(factory: pytest.TempPathFactory) -> TensorHandler:
    if not _HANDLERS:
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])
        y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])
        node = helper.make_node("Mul", ["x", "two"], ["y"])
        _HANDLERS.append(serve(save_model(factory.mktemp("m") / "doubling.onnx", [node], x, y)))
    return _HANDLERS[0]


def test_a_first_dimension_that_is_no_batch_is_not_taken_for_one(tmp_path: Path) -> None:
    """The model gives its input once more below itself: two rows a row."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["m", 3])
    handler = serve(save_model(tmp_path / "m.onnx", [helper.make_node("Concat", ["x", "x"], ["y"], axis=0)], x, y))
    with pytest.raises(ValueError, match="is no batch"):
        handler.handle([request({"inputs": [tensor([1, 3], [1, 2, 3])]})] * 2)


def test_a_sample_is_found_that_the_model_accepts(doubling: Path) -> None:
    sample = serve(doubling).sample
    assert sample is not None
    assert json.loads(sample) == {"inputs": [tensor([1, 3], [0, 0, 0])]}


def test_sizes_that_do_not_go_together_are_the_senders_fault(tmp_path: Path) -> None:
    xs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", "m"]) for name in "ab"]
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", "m"])
    graph = helper.make_graph([helper.make_node("Add", ["a", "b"], ["y"])], "add", xs, [y])
    path = tmp_path / "add.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    rows = [tensor([1, n], np.zeros(n).tolist(), name=name) for name, n in (("a", 2), ("b", 3))]
    error = ask(serve(path), {"inputs": rows})
    assert isinstance(error, BadRequest)
    assert "the model refuses these inputs" in str(error)


def test_a_device_that_fails_is_not_the_senders_fault(doubling: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise DeviceFailed("an illegal address")

    handler = serve(doubling)
    monkeypatch.setattr("fastgshare.runtime.onnx_backend.OnnxSession.run", fail)
    with pytest.raises(DeviceFailed):
        ask(handler, {"inputs": [tensor([1, 3], [1, 2, 3])]})
