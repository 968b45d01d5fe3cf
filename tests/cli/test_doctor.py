from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.cli.conftest import Run

from fastgshare.cli.machines import Machine
from fastgshare.cli.mechanisms import Guarantee, hints, mechanisms


@pytest.fixture
def machine() -> Machine:
    return Machine.here()


def by_name(machine: Machine) -> dict[str, str]:
    return {m.name: m.guarantee for m in mechanisms(machine)}


def test_it_says_what_this_machine_allows(run: Run) -> None:
    result = run("doctor")
    assert result.exit_code == 0
    for word in ("cores", "cgroups", "limits", "native library", "clock source", "timer slack", "/dev/shm", "NVIDIA"):
        assert word in result.stdout
    for word in ("CPU affinity", "tokens", "RLIMIT_DATA", "PR_SET_PDEATHSIG", "reserve", "cap"):
        assert word in result.stdout


def test_json_has_facts_mechanisms_and_hints(run: Run) -> None:
    document = json.loads(run("doctor", "--json").stdout)
    assert set(document) == {"machine", "mechanisms", "hints", "missing"}
    assert document["missing"] == []
    words = {guarantee.value for guarantee in Guarantee}
    assert {m["guarantee"] for m in document["mechanisms"]} <= words
    assert document["machine"]["cpu"]["usable"]


def test_without_the_native_library_nothing_works(machine: Machine, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = replace(machine, native=replace(machine.native, problem="it was not built"))
    assert by_name(broken)["tokens"] == Guarantee.NONE
    monkeypatch.setattr(Machine, "here", lambda: broken)
    result = run("doctor")
    assert result.exit_code == 1
    assert "cannot work here: tokens missing" in result.stdout


def test_rights_decide_over_the_daemons_priority(machine: Machine) -> None:
    for nice, guarantee in ((-20, Guarantee.ADVISORY), (0, Guarantee.NONE)):
        assert by_name(replace(machine, rights=replace(machine.rights, nice=nice)))["daemon's priority"] == guarantee


def test_a_quota_below_the_cores_is_pointed_out(machine: Machine) -> None:
    cpu = replace(machine.cpu, usable=(0, 1, 2, 3), sm_ids=(0,), quota=0.5, shared_cores=((0, 1),))
    said = " ".join(hints(replace(machine, cpu=cpu)))
    assert "raise its CPU quota" in said
    assert "less than one core" in said
    assert "share physical ones" in said


def test_slow_clocks_and_few_files_are_pointed_out(machine: Machine) -> None:
    slow = replace(machine.kernel, clock_source="hpet")
    said = " ".join(hints(replace(machine, kernel=slow, limits={**machine.limits, "NOFILE": (256, 256)})))
    assert "hpet" in said
    assert "ulimit -n" in said


def test_a_gpu_is_found_and_mps_caps_its_sms(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_MPS_PIPE_DIRECTORY", raising=False)
    driver = tmp_path / "proc/driver/nvidia"
    (driver / "gpus" / "0000:01:00.0").mkdir(parents=True)
    (driver / "version").write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Sun Jul 27\n")
    (driver / "gpus" / "0000:01:00.0" / "information").write_text("Model: \t\t NVIDIA H100\nIRQ: 1\n")
    (tmp_path / "tmp/nvidia-mps").mkdir(parents=True)
    (tmp_path / "tmp/nvidia-mps/control").write_text("")
    found = Machine.here(tmp_path).nvidia
    assert (found.driver, found.devices, found.mps) == ("580.65.06", ("NVIDIA H100",), True)
    said = next(m for m in mechanisms(replace(machine, nvidia=found)) if m.name == "NVIDIA MPS")
    assert ("MPS runs" in said.because, said.guarantee) == (True, Guarantee.CAP)
    without = next(m for m in mechanisms(replace(machine, nvidia=replace(found, mps=False))) if m.name == "NVIDIA MPS")
    assert (without.guarantee, "nvidia-cuda-mps-control" in without.advice) == (Guarantee.NONE, True)


def test_the_hook_and_the_standin_are_named_or_missed(machine: Machine, run: Run) -> None:
    assert "stand-in (not a GPU)" in run("doctor").stdout
    assert by_name(machine)["CUDA hook"] == Guarantee.CAP
    missing = replace(machine, interposers=replace(machine.interposers, hook=""))
    assert by_name(missing)["CUDA hook"] == Guarantee.NONE


def test_cores_that_are_one_physical_core_are_found(tmp_path: Path) -> None:
    usable = Machine.here().cpu.usable
    for core in usable:
        folder = tmp_path / f"sys/devices/system/cpu/cpu{core}/topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{usable[0]}-{usable[-1]}\n")
    expected = (usable,) if len(usable) > 1 else ()
    assert Machine.here(tmp_path).cpu.shared_cores == expected
