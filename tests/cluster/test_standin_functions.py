"""Functions of the platform on the stand-in for a GPU: the same way in as for any program."""

from __future__ import annotations

import json
import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper
from tests.cluster.hosts import Host, running_host
from tests.runtime.running_instances import running

from fastgshare.cluster.local import LocalCluster
from fastgshare.dispatch.frames import Hello, Ready, encode
from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.errors import InstanceFailed
from fastgshare.domain.functions import Function
from fastgshare.domain.instances import Instance
from fastgshare.domain.rects import Placement, Rect
from fastgshare.domain.shares import Share
from fastgshare.manager.node import NodeDaemon
from fastgshare.spec.functions import dump, load_file

EXAMPLES = Path(__file__).parents[2] / "examples"
HANDLER = '''
import ctypes, json, os

PTX = b""".version 7.0
.target sm_70
.address_size 64
//.standin full_ns=@0 blocks_per_sm=2 bandwidth=100
.visible .entry spin(.param .u64 ns)
{ ret; }
\\0"""

def ok(status):
    if status:
        raise RuntimeError(f"status {status}")

class Spinner:
    """Holds the device for a millisecond per request, and says what it sees of it."""

    sample = b""

    def __init__(self, context):
        self.cuda = cuda = ctypes.CDLL("libcuda.so.1")
        device, current, module, self.kernel = ctypes.c_int(), *(ctypes.c_void_p() for _ in range(3))
        ok(cuda.cuInit(0))
        ok(cuda.cuDeviceGet(ctypes.byref(device), 0))
        ok(cuda.cuDevicePrimaryCtxRetain(ctypes.byref(current), device))
        ok(cuda.cuCtxSetCurrent(current))
        ok(cuda.cuModuleLoadData(ctypes.byref(module), PTX))
        ok(cuda.cuModuleGetFunction(ctypes.byref(self.kernel), module, b"spin"))
        name = ctypes.create_string_buffer(100)
        ok(cuda.cuDeviceGetName(name, 100, device))
        self.name = name.value.decode()

    def __call__(self, request):
        ns = ctypes.c_uint64(1_000_000)
        arguments = (ctypes.c_void_p * 1)(ctypes.cast(ctypes.byref(ns), ctypes.c_void_p))
        for _ in range(5):
            ok(self.cuda.cuLaunchKernel(self.kernel, 264, 1, 1, 256, 1, 1, 0, None, arguments, None))
        ok(self.cuda.cuCtxSynchronize())
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        ok(self.cuda.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)))
        percent = os.environ["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"]
        return {"device": self.name, "total": total.value, "percent": percent, "pid": os.getpid()}
'''
FUNCTIONS = """
functions:
  - name: spinner
    handler: handler.py:Spinner
    share: {sm: 40, request: 0.4, limit: 0.8, mem: 1GiB}
    replicas: {min: 2}
"""


@pytest.fixture
def host() -> Iterator[Host]:
    with running_host() as found:
        yield found


def up(host: Host, functions: str, until: str, *, count: int = 1) -> tuple[Any, list[dict[str, Any]]]:
    """A platform on the stand-in, and as many events of a kind as it was to wait for."""
    folder = host.directory / "app"
    folder.mkdir(exist_ok=True)
    (folder / "handler.py").write_text(HANDLER)
    (folder / "functions.yaml").write_text(functions)
    state = ("--state", str(host.directory / "state"))
    arguments = ("--device", "standin:sms=100,mem=16GiB", "--listen", "127.0.0.1:0", "--json", *state)
    run = host.start("up", "-f", str(folder / "functions.yaml"), *arguments)
    assert run.stdout is not None
    found: list[dict[str, Any]] = []
    for line in run.stdout:
        found += [event for event in (json.loads(line),) if event["event"] == until]
        if len(found) == count:
            return run, found
    raise AssertionError(run.stderr.read() if run.stderr else "")


def ask(url: str, body: bytes) -> Any:
    return json.load(urllib.request.urlopen(url, body, timeout=30))


def test_a_function_that_uses_the_device_is_held_to_its_share(host: Host) -> None:
    run, (event,) = up(host, FUNCTIONS, "function")
    assert (event["available"], event["problem"]) == (2, "")
    answers = [ask(event["url"], b"") for _ in range(8)]
    for answer in answers:
        assert (answer["device"], answer["percent"], answer["total"]) == ("Stand-in GPU (not real)", "40", 2**30)
    assert _received(event["url"])
    run.send_signal(signal.SIGTERM)
    assert run.wait() == 0
    assert not list(Path(host.directory / "state" / "node").glob("standin.state"))


def _received(url: str) -> list[str]:
    """Lines of the metrics that say that instances held a token."""
    metrics = urllib.request.urlopen(f"{url.rpartition('/function/')[0]}/metrics", timeout=30).read().decode()
    lines = [line for line in metrics.splitlines() if line.startswith("fastgshare_received_seconds_total")]
    return [line for line in lines if float(line.rpartition(" ")[2]) > 0]


def test_functions_written_for_the_cpu_give_the_same_answers(host: Host) -> None:
    """Two examples side by side, as their functions.yaml has them."""
    examples = {f["name"]: f for f in yaml.safe_load((EXAMPLES / "functions.yaml").read_text())["functions"]}
    inputs = {"filetype": "unnamed", "topic": "sentence.txt"}
    chosen = [examples[name] | {"handler": f"{EXAMPLES}/{examples[name]['handler']}"} for name in inputs]
    run, events = up(host, yaml.safe_dump({"functions": chosen}), "function", count=2)
    assert all((event["available"], event["problem"]) == (1, "") for event in events)
    functions = {function.name: function for function in load_file(EXAMPLES / "functions.yaml")}
    for event in events:
        body = (EXAMPLES / "data" / inputs[event["name"]]).read_bytes()
        assert ask(event["url"], body) == on_the_cpu(functions[event["name"]], body)
    assert {name for name in inputs if any(f'"{name}"' in line for line in _received(events[0]["url"]))} == set(inputs)
    assert any("a stand-in for a GPU, a test double" in line for line in _log(events[0]))
    run.send_signal(signal.SIGTERM)
    assert run.wait() == 0


def on_the_cpu(function: Function, body: bytes) -> Any:
    document = {"instance_id": "f-1", "function": dump(function), "threads": 1, "spin": False, "daemon_socket": None}
    with running() as instance:
        instance.peer.sendall(encode(Hello({**document, "mem_bytes": 0})))
        assert isinstance(instance.receive(), Ready)
        return json.loads(instance.ask(body)[0].body)


def _log(event: dict[str, Any]) -> list[str]:
    url = f"{event['url'].rpartition('/function/')[0]}/system/logs?name={event['name']}&tail=100"
    return [json.loads(line)["text"] for line in urllib.request.urlopen(url, timeout=30)]


def test_a_model_that_is_larger_than_its_share_is_refused_and_its_neighbour_serves(host: Host) -> None:
    folder = host.directory / "app"
    folder.mkdir()
    scale(folder / "large.onnx", 20 * 2**20)
    scale(folder / "small.onnx", 3)
    share = "{sm: 40, request: 0.4, mem: 64Mi}"
    functions = [f"{{name: {name}, model: {name}.onnx, share: {share}}}" for name in ("large", "small")]
    _, events = up(host, f"functions: [{', '.join(functions)}]", "function", count=2)
    large, small = sorted(events, key=lambda event: str(event["name"]))
    assert (large["available"], small["available"]) == (0, 1)
    allowed = f"a model that fits into the share's mem of {64 * 2**20} bytes"
    assert f"large.onnx' is not allowed; allowed: {allowed} (the stand-in's memory" in large["problem"]
    tensor = {"name": "x", "shape": [2, 3], "datatype": "FP32", "data": [1, 2, 3, 4, 5, 6]}
    answer = ask(small["url"], json.dumps({"inputs": [tensor]}).encode())
    assert answer["outputs"][0]["data"] == [2, 4, 6, 8, 10, 12]


def scale(path: Path, width: int) -> None:
    """y[n, width] = 2 x[n, width]; the twos are weights."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", width])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", width])
    weights = [numpy_helper.from_array(np.full(width, 2, dtype=np.float32), "w")]
    graph = helper.make_graph([helper.make_node("Mul", ["x", "w"], ["y"])], "scale", [x], [y], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def test_a_model_of_no_known_kind_is_refused_before_anything_starts(host: Host, tmp_path: Path) -> None:
    (tmp_path / "net.bin").write_bytes(b"")
    file = tmp_path / "functions.yaml"
    file.write_text("functions: [{name: net, model: net.bin, share: {sm: 40, request: 0.4}}]\n")
    found = host.verb("up", "-f", str(file), "--device", "standin", "--state", str(tmp_path / "state"))
    assert found.returncode == 2
    assert "net.bin' is not allowed; allowed: a file whose name ends in one of .onnx (ONNX model), .pt2" in found.stderr


async def test_what_was_deployed_on_another_device_is_refused_too(tmp_path: Path) -> None:
    device = Device("GPU-0", DeviceKind.GPU, 132, 2**36)
    daemon = NodeDaemon([device], tmp_path / "node")
    function = Function("net", Share(40, 0.4, 0.4), model=str(tmp_path / "net.unknown"))
    async with LocalCluster([device], daemon=daemon) as cluster:
        with pytest.raises(InstanceFailed, match="a file whose name ends in one of"):
            await cluster.start(Instance("net-1", function, Placement("net-1", device.id, Rect(0.0, 0.0, 40, 0.4))))
        assert not cluster.observe()
