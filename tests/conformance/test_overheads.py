"""What an interposer costs: that it is measured, and told as documented. How much it is, no test asserts."""

from __future__ import annotations

import json
import math
import subprocess
import sys

from fastgshare.conformance.overheads import CALLS, STARTS, Cost

VERB = [sys.executable, "-c", "from fastgshare.cli import main; main()", "bench", "hook"]
OF_A_CALL = {"native_p50_ns", "native_p99_ns", "added_p50_ns", "added_p99_ns"}
OF_A_START = OF_A_CALL | {"native_cpu_p50_ns", "added_cpu_p50_ns"}


def test_every_call_and_start_is_timed() -> None:
    ended = subprocess.run([*VERB, "--rounds", "1", "--json"], capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    figures = json.loads(ended.stdout)
    assert list(figures) == [*CALLS, *(f"startup_{at_once}" for at_once in STARTS)]
    for name, figure in figures.items():
        assert set(figure) == (OF_A_START if name.startswith("startup_") else OF_A_CALL), name
        assert all(math.isfinite(value) for value in figure.values())
        assert figure["native_p50_ns"] > 0
        assert figure["native_p99_ns"] >= figure["native_p50_ns"]


def test_a_cost_is_told_in_nanoseconds() -> None:
    assert Cost(1.004, 2.5, 0.5, 3).document() == {
        "native_p50_ns": 1.0,
        "native_p99_ns": 2.5,
        "added_p50_ns": 0.5,
        "added_p99_ns": 3,
    }
    assert Cost(1, 2, 3, 4, (5, 6)).document()["added_cpu_p50_ns"] == 6


def test_what_is_no_library_is_refused() -> None:
    ended = subprocess.run([*VERB, "--preload", "nowhere.so"], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "nowhere.so" in ended.stderr
