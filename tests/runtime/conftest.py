from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.runtime.running_instances import SHARE, RunningInstance, Starter, running

from fastgshare.dispatch.frames import Hello, Ready, encode
from fastgshare.domain.functions import Batching, Function
from fastgshare.spec.functions import dump


@pytest.fixture
def start() -> Iterator[Starter]:
    """Starts instances: start(handler=..., model=..., mem_bytes=..., batch=...)."""
    with ExitStack() as stack:

        def starter(
            handler: str | None = None,
            model: str | None = None,
            *,
            batch: int = 1,
            mem_bytes: int = 0,
            threads: int = 1,
            ready: bool = True,
            function: Function | None = None,
            **fields: object,
        ) -> RunningInstance:
            made = function or Function("f", SHARE, model=model, handler=handler)
            made = replace(made, batch=Batching(batch), **fields) if fields or batch > 1 else made
            instance = stack.enter_context(running())
            document = {
                "instance_id": "f-1",
                "function": dump(made),
                "threads": threads,
                "spin": False,
                "daemon_socket": None,
                "mem_bytes": mem_bytes,
            }
            instance.peer.sendall(encode(Hello(document)))
            if ready:
                first = instance.receive()
                assert isinstance(first, Ready), first
            return instance

        yield starter


@pytest.fixture
def handler_file(tmp_path: Path) -> Callable[[str], Path]:
    def write(source: str) -> Path:
        path = tmp_path / "handler.py"
        path.write_text(source)
        return path

    return write


def save_model(path: Path, nodes: list[onnx.NodeProto], x: onnx.ValueInfoProto, y: onnx.ValueInfoProto) -> Path:
    graph = helper.make_graph(
        nodes, "tiny", [x], [y], [numpy_helper.from_array(np.array(2.0, dtype=np.float32), "two")]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model.metadata_props.add(key="maker", value="tests")
    onnx.save(model, path)
    return path


@pytest.fixture
def doubling(tmp_path: Path) -> Path:
    """y[n, 3] = 2 x[n, 3]."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])
    return save_model(tmp_path / "doubling.onnx", [helper.make_node("Mul", ["x", "two"], ["y"])], x, y)


@pytest.fixture
def hungry(tmp_path: Path) -> Path:
    """y has the shape that x says: as much memory as is asked for."""
    x = helper.make_tensor_value_info("x", TensorProto.INT64, [2])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [])
    nodes = [
        helper.make_node("Expand", ["two", "x"], ["large"]),
        helper.make_node("ReduceSum", ["large"], ["y"], keepdims=0),
    ]
    return save_model(tmp_path / "hungry.onnx", nodes, x, y)
