"""The program that plays a trace through a driver: here the stand-in's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fastgshare import native
from fastgshare.sim.traces import load, names, shipped

PROGRAM = native.library("probes/replay")
STANDIN = native.library("standin/libcuda.so.1").parent
ENVIRONMENT = {**os.environ, "LD_LIBRARY_PATH": str(STANDIN), "FASTGSHARE_STANDIN": "sms=80"}
SMALL = "kernel k blocks=1 us=5 gap_us=1\nhost 10\nrepeat 3\n  k\nend\nsync\n"


def _play(*arguments: str, module: bool = False) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fastgshare.sim.replay"] if module else [str(PROGRAM)]
    command += arguments
    return subprocess.run(command, check=False, env=ENVIRONMENT, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("name", names())
def test_it_reads_a_trace_as_we_do_and_says_what_device_it_played_it_on(name: str) -> None:
    played = _play(str(shipped(name)), "--requests", "2")
    assert played.returncode == 0, played.stderr
    said = json.loads(played.stdout)
    trace = load(name)
    assert (said["launches"], said["requests"]) == (trace.launches, 2)
    assert said["host_ms"] == pytest.approx(trace.host_ns / 1e6, abs=1e-5)
    assert said["device_ms"] == pytest.approx(trace.device_ns / 1e6, abs=1e-5)
    assert "stand-in" in said["device"].lower()
    assert 0 < said["latency_ms"]["p50"] <= said["latency_ms"]["p99"] <= said["latency_ms"]["max"]
    assert said["rps"] == pytest.approx(2 / said["seconds"], rel=0.05)


def test_scales_repeats_and_gaps_are_read_as_we_read_them(tmp_path: Path) -> None:
    path = tmp_path / "scaled.trace"
    path.write_text("scale device=2 host=3 launch=4 blocks=0.1\n" + SMALL)
    said = json.loads(_play(str(path), "--seconds", "0.05", "--seed", "7").stdout)
    trace = load(str(path))
    assert said["launches"] == trace.launches == 3
    assert said["host_ms"] == pytest.approx(trace.host_ns / 1e6)
    assert said["device_ms"] == pytest.approx(trace.device_ns / 1e6)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kernel k us=1\nk", "line 1: blocks"),
        ("kernel k blocks=1 us=1 speed=2\nk", "line 1: 'speed=2'"),
        ("kernel k blocks=1 us=nan\nk", "line 1: us"),
        ("kernel k blocks=1 us=1\nrepeat 2\nk", "repeat"),
        ("kernel k blocks=1 us=1\nj", "line 2: 'j'"),
        ("host 1\nsync", "launches"),
    ],
)
def test_what_is_no_trace_is_refused_in_a_sentence(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "broken.trace"
    path.write_text(text)
    played = _play(str(path))
    assert played.returncode == 2 and words in played.stderr
    assert played.stderr.startswith("replay: ") and played.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [(), ("--seconds", "x"), ("a", "b"), ("--fast",), ("--requests",)])
def test_who_asks_wrongly_is_told(arguments: tuple[str, ...]) -> None:
    played = _play(*arguments)
    assert played.returncode == 2 and played.stderr.startswith("replay: ")


def test_a_shipped_trace_goes_by_its_name() -> None:
    said = json.loads(_play("bert", "--requests", "1", module=True).stdout)
    assert said["launches"] == load("bert").launches
    assert "resnet50: ResNet-50" in _play(module=True).stdout
    unknown = _play("vgg", module=True)
    assert unknown.returncode == 2 and "resnet50" in unknown.stderr
