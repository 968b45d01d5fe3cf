"""The whole suite on the stand-in: our hook passes every row, a library that does nothing fails those that matter."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fastgshare.conformance import allocations, launches
from fastgshare.conformance.suite import TOPICS
from fastgshare.conformance.ways import WAYS

PATIENCE_S = 300
VERB = [sys.executable, "-c", "from fastgshare.cli import main; main()", "conformance"]


def conformance(*words: str) -> tuple[int, dict[str, Any]]:
    """Run the verb; its exit status and its report."""
    command = [*VERB, "--json", *words]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert ended.stdout, ended.stderr
    return ended.returncode, json.loads(ended.stdout)


@pytest.fixture(scope="module")
def nothing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that does nothing."""
    library = tmp_path_factory.mktemp("nothing") / "libnothing.so"
    compiler = shutil.which("g++")
    assert compiler, "g++ builds the native parts, and is needed here too"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, "-x", "c++", "/dev/null"], check=True)
    return library


def test_our_hook_passes_every_row_that_applies() -> None:
    status, report = conformance()
    failed = [row for row in report["rows"] if row["result"] == "fail"]
    assert not failed, "\n".join(f"{row['name']}: {row['figure']}" for row in failed)
    assert status == 0 and report["failed"] == 0
    names = [row["name"] for row in report["rows"]]
    assert len(names) == len(set(names)) == report["passed"] + report["not_applicable"]
    assert sum(name.startswith("launch: ") for name in names) == len(launches.CALLS) * len(WAYS)
    assert sum(name.startswith("allocation: ") for name in names) == len(allocations.CALLS) * len(WAYS)


def test_a_library_that_does_nothing_fails_its_rows(nothing: Path) -> None:
    topics = ("launches", "allocations", "memory", "limits", "resize")
    status, report = conformance("--preload", str(nothing), *(word for topic in topics for word in ("--topic", topic)))
    results = {row["name"]: row["result"] for row in report["rows"]}
    assert status == 1
    ungated = {name: result for name, result in results.items() if name.startswith(("launch: ", "allocation: "))}
    assert set(ungated.values()) == {"fail", "not applicable"}
    assert results["launch: cuLaunchKernel found by dlsym"] == "fail"
    assert results["launch: cuGraphLaunch found by cuGetProcAddress_v2 12.0"] == "fail"
    assert results["allocation: cuMemAllocFromPoolAsync_ptsz found by linking"] == "fail"
    assert results["memory: cuMemGetInfo, total"] == "fail"
    assert results["quota: alone, no more than the limit"] == "fail"
    assert results["resize: takes effect within a window"] == "fail"


def test_topics_are_told_in_the_help() -> None:
    command = [*VERB, "--help"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert all(topic in " ".join(text.split()) for topic in TOPICS)


def test_the_cpu_has_no_driver_to_try() -> None:
    command = [*VERB, "--device", "cpu"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: device: 'cpu' is not allowed; allowed: standin")


def test_what_cannot_be_preloaded_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("not a library")
    ended = subprocess.run([*VERB, "--preload", str(text)], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr == f"error: --preload: '{text}' is not allowed; allowed: a shared library\n"
