"""The worker of the check for a GPU, with tiny networks on the CPU."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

from fastgshare.gpucheck.loops import Task
from fastgshare.gpucheck.names import LAUNCHES, NETWORKS
from fastgshare.gpucheck.torch_worker import REAL, TINY, Networks

PARAMETERS = {"resnet50": 25_557_032, "bert": 109_482_240, "lstm": 16_793_600, "vit": 86_567_656}
"""Of the networks as they were published; of the LSTM, two layers of 4 x 1024 x (1024 + 1024 + 2)."""


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("batch", [1, 8])
def test_a_request_is_one_pass_with_its_output_on_the_host(name: str, batch: int) -> None:
    networks = Networks([name], "cpu", TINY)

    output = networks.request(name, batch)()

    assert networks.absent == {}
    assert output.shape[0] == batch  # type: ignore[attr-defined]
    assert output.device.type == "cpu"  # type: ignore[attr-defined]
    assert not output.requires_grad  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", NETWORKS)
def test_the_real_networks_have_the_published_sizes(name: str) -> None:
    networks = Networks([], "meta", REAL)  # shapes without memory

    assert networks.parameters(name) == PARAMETERS[name]


def test_what_cannot_be_made_is_told_and_the_rest_is_there() -> None:
    networks = Networks(["nothing", "lstm"], "cpu", TINY)

    assert networks.names == ("lstm",)
    assert networks.absent["nothing"].startswith("KeyError")


def test_it_loads_says_so_and_obeys_until_its_input_ends() -> None:
    command = [sys.executable, "-m", "fastgshare.gpucheck.torch_worker", "--device", "cpu", "--tiny", "lstm"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None and process.stdout is not None

    print("go", file=process.stdin, flush=True)
    ready = json.loads(process.stdout.readline())
    answers = []
    for model in ("lstm", LAUNCHES, "bert"):
        now_ns = time.monotonic_ns()
        task = Task(model, 1, now_ns, now_ns + 10**7)
        print(json.dumps(task.document()), file=process.stdin, flush=True)
        answers.append(json.loads(process.stdout.readline()))
    process.stdin.close()

    assert process.wait(30) == 0
    assert (ready["status"], ready["models"], ready["absent"]) == ("ready", ["lstm"], {})
    assert [answer["status"] for answer in answers] == ["ran", "ran", "failed"]
    assert answers[0]["requests"] > 0 and answers[0]["rps"] > 0
    assert "KeyError" in answers[2]["why"]
