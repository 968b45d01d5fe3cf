"""Functions with models of torch, in processes of their own: on the CPU, and on the stand-in for a GPU."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.hosts import running_host
from tests.runtime.running_instances import SHARE, RunningInstance, running
from tests.torch.networks import Doubler, export_doubler

import torch
from fastgshare.dispatch.frames import Failed, Hello, Ready, encode
from fastgshare.domain.functions import Function
from fastgshare.spec.functions import dump

DOUBLED = [2, 4, 6, 8, 10, 12]


def tensors(shape: list[int]) -> bytes:
    row = {"name": "x", "shape": shape, "datatype": "FP32", "data": [1, 2, 3, 4, 5, 6]}
    return json.dumps({"inputs": [row]}).encode()


def greet(instance: RunningInstance, function: Function, mem_bytes: int = 0) -> Any:
    document = {"instance_id": "f-1", "function": dump(function), "threads": 1, "spin": False, "daemon_socket": None}
    instance.peer.sendall(encode(Hello({**document, "device": "cpu", "mem_bytes": mem_bytes})))
    return instance.receive()


def test_a_program_is_served_as_it_is(tmp_path: Path) -> None:
    function = Function("f", SHARE, model=str(export_doubler(tmp_path / "doubler.pt2")))
    with running() as instance:
        ready = greet(instance, function, mem_bytes=2**30)
        assert isinstance(ready, Ready), ready
        assert ready.burst_s > 0
        good, bad = instance.ask(tensors([2, 3]), tensors([3, 2]))
    assert json.loads(good.body)["outputs"] == [
        {"name": "output", "shape": [2, 3], "datatype": "FP32", "data": DOUBLED}
    ]
    assert (bad.status, bad.body) == (400, b"input 'x': shape [3, 2] is not allowed; allowed: [any, 3]\n")


def test_a_broken_program_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "broken.pt2"
    path.write_bytes(b"nothing")
    with running() as instance:
        failed = greet(instance, Function("f", SHARE, model=str(path)))
    assert isinstance(failed, Failed)
    assert f"model: '{path}' is not allowed; allowed: a valid program of torch.export (" in failed.reason


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_torchscript_does_not_say_enough_to_be_served_without_a_handler(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.trace(Doubler(), torch.zeros(1, 3)), tmp_path / "doubler.pt")
    with running() as instance:
        failed = greet(instance, Function("f", SHARE, model=str(tmp_path / "doubler.pt")))
    assert isinstance(failed, Failed)
    assert "allowed: without a handler, a model with tensors of " in failed.reason


def test_on_a_stand_in_it_gives_the_same_answers() -> None:
    with running_host() as host:
        export_doubler(host.directory / "doubler.pt2")
        file = host.directory / "functions.yaml"
        file.write_text("functions: [{name: d, model: doubler.pt2, share: {sm: 40, request: 0.4, mem: 64Mi}}]\n")
        state = ("--state", str(host.directory / "state"))
        run = host.start("up", "-f", str(file), "--device", "standin", "--listen", "127.0.0.1:0", "--json", *state)
        assert run.stdout is not None
        event = next(event for event in map(json.loads, run.stdout) if event["event"] == "function")
        assert (event["available"], event["problem"]) == (1, "")
        with urllib.request.urlopen(event["url"], tensors([2, 3]), timeout=30) as answer:
            assert json.load(answer)["outputs"][0]["data"] == DOUBLED
