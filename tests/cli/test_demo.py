"""The demo: short rounds, but all of it, as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fastgshare.cli.demo.contests import Setting, medians, quota_rows, settings
from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.ledger import LedgerEntry
from fastgshare.domain.shares import Share

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-c", "from fastgshare.cli import main; main()", "demo"]


def _entry(instance_id: str, window_s: float, received_s: float, demand_s: float) -> LedgerEntry:
    return LedgerEntry(-1, 0.0, window_s, instance_id, 50, 0.0, received_s, 0.0, demand_s, 0.0)


def test_quota_errors_are_what_lies_outside_of_a_share() -> None:
    shares = {"a": Share(50, 0.5, 0.5), "b": Share(50, 0.4, 0.8), "c": Share(50, 0.3, 0.3)}
    before = [_entry(name, 10, 1, 10) for name in shares]
    after = [_entry("a", 20, 6.1, 20), _entry("b", 20, 8, 20), _entry("c", 20, 3.8, 15), _entry("other", 20, 1, 20)]
    rows = {row.id: row for row in quota_rows(before, after, shares)}
    assert rows.keys() == shares.keys()
    assert rows["a"].error_pp == pytest.approx(1.0)
    assert rows["b"].error_pp == 0  # above its request, below its limit
    assert rows["c"].error_pp == pytest.approx(2.0)
    assert [rows[name].backlogged for name in "abc"] == [True, True, False]


def test_the_baseline_may_use_one_thread_or_all_cores() -> None:
    cores = Device("cpu", DeviceKind.CPU, 4, 0, (0, 1, 2, 3))
    assert settings(cores) == [Setting(1, False), Setting(4, False), Setting(4, True)]
    assert settings(Device("cpu", DeviceKind.CPU, 1, 0, (0,))) == [Setting(1, False)]


def test_medians_are_taken_per_function() -> None:
    assert medians([{"a": 1.0, "b": 9.0}, {"a": 5.0, "b": 7.0}, {"a": 2.0, "b": 8.0}]) == {"a": 2.0, "b": 8.0}


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="the examples' shares need two cores")
def test_the_demo_serves_measures_and_reports(tmp_path: Path) -> None:
    options = ["--rounds", "1", "--round-seconds", "0.5", "--quota-seconds", "1", "--out", str(tmp_path), "--json"]
    run = subprocess.run([*COMMAND, *options], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stderr
    document = json.loads((tmp_path / "report.json").read_text())
    assert document == json.loads(run.stdout)
    names = {"ocr", "topic", "filetype", "speech"}
    throughput = document["throughput"]
    assert throughput["time_sharing_rps"].keys() == throughput["fast_rps"].keys() == names
    assert all(rate > 0 for rate in [*throughput["time_sharing_rps"].values(), *throughput["fast_rps"].values()])
    assert throughput["ratio"] > 0
    assert "City Library" in document["answers"]["ocr"]["answer"]
    assert {row["id"].rsplit("-", 1)[0] for row in document["quota"]["instances"]} == names
    assert len(document["placements"]) == 4
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")


def test_without_an_input_for_a_function_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "handler.py").write_text("def handle(request):\n    return request.body\n")
    functions = "functions:\n  - {name: echo, handler: handler.py:handle, share: {sm: 100, request: 0.5}}\n"
    (tmp_path / "functions.yaml").write_text(functions)
    command = [*COMMAND, "-f", str(tmp_path / "functions.yaml")]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 2
    assert run.stderr.startswith("error: echo: annotation demo/input: None is not allowed; allowed: ")
    assert len(run.stderr.splitlines()) == 1
