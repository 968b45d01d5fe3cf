"""The command as people run it, on the stand-in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fastgshare.cluster.gpus import NoGpu
from fastgshare.domain.devices import DeviceKind
from fastgshare.domain.errors import InvalidValue
from fastgshare.gpucheck import __main__ as command

SOURCES = Path(__file__).parents[2] / "src"
ROOMS = ("gpucheck", "conformance", "domain")


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    run = [sys.executable, "-m", "fastgshare.gpucheck", *words]
    return subprocess.run(run, check=False, capture_output=True, text=True, timeout=120)


def test_a_short_check_reports_or_says_why_not_and_calls_the_stand_in_what_it_is(tmp_path: Path) -> None:
    done = _run(
        "--device",
        "standin",
        "--only",
        "machine",
        "--only",
        "throughput",
        *("--budget-s", "17"),
        "--json",
        "--out",
        str(tmp_path),
    )

    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["stand_in"] is True and "test double" in document["note"]
    assert set(document["sections"]) == {"machine", "throughput"}
    assert document["sections"]["machine"]["status"] == "reported"
    throughput = document["sections"]["throughput"]
    assert throughput["status"] == "reported" or throughput["why"]
    (page,) = tmp_path.glob("gpu-standin-*-partial.md")
    assert "no GPU was used" in page.read_text()
    assert json.loads(page.with_suffix(".json").read_text())["sections"] == document["sections"]
    assert all("stand-in" in line for line in done.stderr.splitlines())


def test_without_a_gpu_it_names_the_stand_in(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def none(env: object) -> None:
        raise NoGpu("no GPU was found (no driver)")

    monkeypatch.setattr(command, "find_gpus", none)

    assert command.main([]) == 2
    assert "no driver" in (said := capsys.readouterr().err) and "--device standin" in said


def test_any_device_says_why_it_is_no_gpu(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def none(env: object) -> None:
        raise NoGpu("no GPU was found (CUDA_VISIBLE_DEVICES hides all)")

    async def go(run: command._Run, directory: Path) -> None:
        run.write(())

    monkeypatch.setattr(command, "find_gpus", none)
    monkeypatch.setattr(command._Run, "go", go)

    device, why = command.find_device("any")
    assert (device.kind, why) == (DeviceKind.STANDIN, "no GPU was found (CUDA_VISIBLE_DEVICES hides all)")
    assert command.main(["--device", "any", "--out", str(tmp_path)]) == 0
    assert f"no GPU is used: {why}" in capsys.readouterr().err
    (document,) = tmp_path.glob("*.json")
    assert json.loads(document.read_text())["no_gpu"] == why
    assert f"Why no GPU was used: {why}" in document.with_suffix(".md").read_text()


@pytest.mark.parametrize("device", ["cpu", "cuda:x", "cuda", "0"])
def test_a_device_that_is_none_is_refused(device: str) -> None:
    with pytest.raises(InvalidValue, match=r"--device: .* allowed: cuda:N, standin or any"):
        command.find_device(device)


@pytest.mark.parametrize("seconds", ["0", "-3", "nan"])
def test_a_time_that_is_none_is_refused(seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--device", "standin", "--budget-s", seconds]) == 2
    assert "--budget-s" in capsys.readouterr().err


def test_nothing_of_others_is_imported(tmp_path: Path) -> None:
    """On the day, nothing of what the project depends on may be installed."""
    modules = [
        ".".join(path.relative_to(SOURCES).with_suffix("").parts).removesuffix(".__init__")
        for room in ROOMS
        for path in sorted((SOURCES / "fastgshare" / room).rglob("*.py"))
        if "programs" not in path.parts  # they run where their packages are
    ]
    modules += ["fastgshare.manager.daemon", "fastgshare.manager.counters", "fastgshare.sim.traces"]
    code = f"import importlib\nfor name in {modules!r}: importlib.import_module(name)"

    facts = tmp_path / "fastgshare-1.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: fastgshare\nVersion: 1\n")
    env = {"PYTHONPATH": f"{SOURCES}:{tmp_path}", "PATH": os.environ["PATH"]}
    done = subprocess.run([sys.executable, "-S", "-c", code], check=False, env=env, capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (0, "")
    assert len(modules) > 30
