"""Functions of the platform on the stand-in for a GPU: the same way in as for any program."""

from __future__ import annotations

import json
import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.hosts import Host, running_host

from fastgshare.cluster.devices import find_device
from fastgshare.cluster.local import LocalCluster
from fastgshare.domain.errors import InstanceFailed
from fastgshare.domain.functions import Function
from fastgshare.domain.instances import Instance
from fastgshare.domain.rects import Placement, Rect
from fastgshare.domain.shares import Share
from fastgshare.manager.node import NodeDaemon
from fastgshare.spec.devices import parse_device

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


def up(host: Host, functions: str, until: str) -> tuple[Any, dict[str, Any]]:
    """A platform on the stand-in, and the event that it was to wait for."""
    folder = host.directory / "app"
    folder.mkdir()
    (folder / "handler.py").write_text(HANDLER)
    (folder / "functions.yaml").write_text(functions)
    state = ("--state", str(host.directory / "state"))
    arguments = ("--device", "standin:sms=100,mem=16GiB", "--listen", "127.0.0.1:0", "--json", *state)
    run = host.start("up", "-f", str(folder / "functions.yaml"), *arguments)
    assert run.stdout is not None
    for line in run.stdout:
        if (event := json.loads(line))["event"] == until:
            return run, event
    raise AssertionError(run.stderr.read() if run.stderr else "")


def test_a_function_that_uses_the_device_is_held_to_its_share(host: Host) -> None:
    run, event = up(host, FUNCTIONS, "function")
    assert (event["available"], event["problem"]) == (2, "")
    answers = [json.load(urllib.request.urlopen(event["url"], b"", timeout=30)) for _ in range(8)]
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


def test_a_model_that_computes_on_the_cpu_is_refused(host: Host, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"")
    file = tmp_path / "functions.yaml"
    file.write_text("functions: [{name: net, model: m.onnx, share: {sm: 40, request: 0.4}}]\n")
    found = host.verb("up", "-f", str(file), "--device", "standin", "--state", str(tmp_path / "state"))
    assert found.returncode == 2
    assert "models compute on the CPU" in found.stderr


async def test_what_was_deployed_on_another_device_is_refused_too(tmp_path: Path) -> None:
    device = find_device(parse_device("standin"), {})
    daemon = NodeDaemon([device], tmp_path / "node")
    function = Function("net", Share(40, 0.4, 0.4), model=str(tmp_path / "m.onnx"))
    async with LocalCluster([device], daemon=daemon) as cluster:
        with pytest.raises(InstanceFailed, match="models compute on the CPU"):
            await cluster.start(Instance("net-1", function, Placement("net-1", device.id, Rect(0.0, 0.0, 40, 0.4))))
        assert not cluster.observe()
