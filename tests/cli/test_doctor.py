from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.cli.conftest import Run

from fastgshare.cli.diagnoses import diagnose
from fastgshare.cli.inspections import inspect
from fastgshare.cli.machines import Machine, Pipes
from fastgshare.cli.mechanisms import hints, mechanisms
from fastgshare.cli.nvidia import Node, Nvidia
from fastgshare.domain.partitions import Guarantee
from fastgshare.manager.gpus import ComputeMode, Gpu, Green
from fastgshare.spec.devices import parse_device


@pytest.fixture
def machine() -> Machine:
    return Machine.here()


class Root:
    """A file system of a machine with one GPU, as far as it is made."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, name: str, text: str = "") -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def card(self) -> None:
        """On the PCI bus, beside a disk of another make."""
        for name, vendor, kind in (("0000:01:00.0", "0x10de", "0x030200"), ("0000:02:00.0", "0x144d", "0x010802")):
            self.write(f"sys/bus/pci/devices/{name}/vendor", f"{vendor}\n")
            self.write(f"sys/bus/pci/devices/{name}/class", f"{kind}\n")

    def driver(self) -> None:
        version = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Sun Jul 27\n"
        self.write("proc/driver/nvidia/version", version)
        self.write("proc/driver/nvidia/gpus/0000:01:00.0/information", "Model: \t\t NVIDIA H100\nIRQ: 1\n")

    def nodes(self, *names: str) -> None:
        for name in names:
            self.write(f"dev/{name}").chmod(0o660)

    def libraries(self) -> None:
        for name in ("libcuda.so.1", "libnvidia-ml.so.1"):
            self.write(f"usr/lib64/{name}")


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return Root(tmp_path / "root")


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
    assert set(document) == {"machine", "mechanisms", "gpus", "partitioners", "problems", "hints", "missing"}
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


def test_a_gpu_is_found_and_mps_caps_its_sms(machine: Machine, root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_MPS_PIPE_DIRECTORY", raising=False)
    root.driver()
    root.write("tmp/nvidia-mps/control")
    found = Machine.here(root.path).nvidia
    assert (found.driver, found.devices, found.mps) == ("580.65.06", ("NVIDIA H100",), True)

    def mps(nvidia: Nvidia) -> tuple[str, str]:
        said = next(m for m in mechanisms(replace(machine, nvidia=nvidia)) if m.name == "NVIDIA MPS")
        return said.guarantee, said.because + said.advice

    guarantee, text = mps(replace(found, control=""))
    assert (guarantee, "it is used, for one trust group" in text) == (Guarantee.CAP, True)
    guarantee, text = mps(replace(found, control="", mps=False))
    assert (guarantee, "nvidia-compute-utils" in text) == (Guarantee.NONE, True)
    guarantee, text = mps(replace(found, control="/usr/bin/nvidia-cuda-mps-control", mps=False))
    assert (guarantee, "started for every trust group" in text) == (Guarantee.CAP, True)


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


# --- what is in the way of a GPU --------------------------------------------------------------------------------------

H100 = Gpu(0, "GPU-1", "NVIDIA H100", 132, 2**36, ComputeMode.DEFAULT, (9, 0), 13010, Green(8, 8), mig=False)
NEEDED = {"nvidia-ml-py": "13.580.82", "torch": "2.11.0"}


def problems(machine: Machine, root: Root, *gpus: Gpu, env: dict[str, str] | None = None, silence: str = "") -> str:
    """What is said of the machine under a root, with all else that a GPU needs."""
    found = replace(Nvidia.here(root.path, {"PATH": "", **(env or {})}), packages=NEEDED)
    ample = {**machine.limits, "MEMLOCK": (None, None)}
    whole = replace(machine, nvidia=found, limits=ample, kernel=replace(machine.kernel, shm_bytes=2**34))
    return "\n".join(diagnose(whole, gpus, silence))


def test_a_machine_without_a_gpu_hears_nothing_of_gpus(machine: Machine, root: Root) -> None:
    assert problems(machine, root, silence="no GPU was found") == ""


def test_every_step_from_the_card_to_its_library_is_told_apart(machine: Machine, root: Root) -> None:
    root.card()
    said = problems(machine, root)
    assert "0000:01:00.0" in said
    assert "sudo modprobe nvidia" in said
    root.write("proc/modules", "nouveau 2000000 1 - Live 0x0\n")
    assert "blacklist nouveau" in problems(machine, root)
    root.driver()
    assert "no device nodes" in problems(machine, root)
    root.nodes("nvidia0", "nvidiactl", "nvidia-uvm-tools")
    assert problems(machine, root).startswith("/dev/nvidia-uvm is missing: sudo nvidia-modprobe")
    root.nodes("nvidia-uvm")
    assert "libcuda.so.1, libnvidia-ml.so.1 is not found: install libnvidia-compute-580" in problems(machine, root)
    root.libraries()
    assert problems(machine, root, H100) == ""


def test_device_nodes_that_may_not_be_opened_name_the_group_that_may(machine: Machine, root: Root) -> None:
    root.driver()
    root.nodes("nvidia0", "nvidiactl", "nvidia-uvm")
    root.libraries()
    locked = Node("/dev/nvidia0", 0o660, "root", "video", usable=False)
    others = tuple(node for node in Nvidia.here(root.path, {}).nodes if node.path != locked.path)
    found = replace(Nvidia.here(root.path, {}), nodes=(locked, *others))
    limited = replace(machine, nvidia=found, rights=replace(machine.rights, user_id=1000))
    said = diagnose(limited, (), "silent")[0]
    assert said.startswith("user 1000 may not open /dev/nvidia0 (root:video, mode 0660): sudo usermod -aG video")
    inside = diagnose(replace(limited, nvidia=replace(found, container="docker")), (), "silent")[0]
    assert "--group-add video" in inside
    everyone = replace(found, nodes=(replace(locked, group="root"), *others))
    assert "NVreg_DeviceFileMode=0666" in diagnose(replace(limited, nvidia=everyone), (), "silent")[0]


@pytest.mark.parametrize(
    ("mark", "env", "way"),
    [
        (".dockerenv", {}, "docker run --gpus all"),
        ("run/.containerenv", {}, "podman run --device nvidia.com/gpu=all"),
        ("etc/hosts", {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "nvidia.com/gpu: 1"),
    ],
)
def test_a_container_without_the_gpu_hears_how_to_get_it(
    machine: Machine, root: Root, mark: str, env: dict[str, str], way: str
) -> None:
    root.card()
    root.driver()
    root.write(mark)
    said = problems(machine, root, env={**env, "NVIDIA_VISIBLE_DEVICES": "void"})
    assert said.startswith("no GPU was given to this container (NVIDIA_VISIBLE_DEVICES is 'void'): ")
    assert way in said
    root.nodes("nvidia0", "nvidiactl", "nvidia-uvm")
    assert "-e NVIDIA_DRIVER_CAPABILITIES=compute,utility (now: not set)" in problems(machine, root, env=env)


def test_statuses_of_the_driver_say_what_to_do(machine: Machine, root: Root) -> None:
    root.driver()
    root.nodes("nvidia0", "nvidiactl", "nvidia-uvm")
    root.libraries()
    for status, advice in ((803, "differ in version"), (805, "unset CUDA_MPS_PIPE_DIRECTORY"), (1, "dmesg")):
        silence = f"no GPU was found (cuInit failed with status {status})"
        assert advice in problems(machine, root, silence=silence)
    hidden = problems(machine, root, env={"CUDA_VISIBLE_DEVICES": ""}, silence="no GPU was found (status 100)")
    assert "(CUDA_VISIBLE_DEVICES is '')" in hidden


def test_modes_that_keep_programs_out_are_told_and_left_alone(machine: Machine, root: Root) -> None:
    for gpu, word in (
        (replace(H100, compute_mode=ComputeMode.EXCLUSIVE), "EXCLUSIVE_PROCESS lets one MPS server in"),
        (replace(H100, compute_mode=ComputeMode.PROHIBITED), "PROHIBITED lets no program in"),
        (replace(H100, mig=True), "MIG is on"),
    ):
        root.driver()
        root.nodes("nvidia0", "nvidiactl", "nvidia-uvm")
        root.libraries()
        assert word in problems(machine, root, gpu)


def test_what_surrounds_a_gpu_may_be_too_little(machine: Machine) -> None:
    nvidia = Nvidia("580", ("H100",), mps=False, container="docker", packages={"torch": "2.11.0+cpu"})
    small = replace(
        machine,
        nvidia=nvidia,
        pipes=Pipes("/tmp", usable=False),
        kernel=replace(machine.kernel, shm_bytes=2**20),
        limits={**machine.limits, "MEMLOCK": (65536, 65536)},
    )
    said = "\n".join(diagnose(small, (H100,), ""))
    for words in ("--shm-size=1g", "--ulimit memlock=-1", "set XDG_RUNTIME_DIR", "pip install nvidia-ml-py", "+cpu"):
        assert words in said
    bare = replace(small, nvidia=replace(nvidia, packages={}))
    assert "need torch or onnxruntime-gpu" in "\n".join(diagnose(bare, (H100,), ""))
    both = replace(small, nvidia=replace(nvidia, packages={"onnxruntime": "1.32.0", "onnxruntime-gpu": "1.32.0"}))
    assert "both installed" in "\n".join(diagnose(both, (H100,), ""))


def test_every_partitioner_of_a_standin_is_shown_with_why(run: Run) -> None:
    result = run("doctor", "--device", "standin:sms=32")
    assert result.exit_code == 0
    assert "standin:sms=32 (a stand-in, not a GPU)" in result.stdout
    document = json.loads(run("doctor", "--device", "standin", "--json").stdout)
    (device,) = document["partitioners"]
    assert (device["device"], device["kind"]) == ("standin", "standin")
    ways = {way["name"]: way for way in device["partitionings"]}
    assert list(ways) == ["mps-static", "green-contexts", "mps", "none"]
    assert (ways["mps-static"]["there"], ways["mps"]["there"], ways["none"]["there"]) == (False, True, True)
    assert all(way["because"] for way in ways.values())


def test_a_device_that_is_asked_for_and_not_there_is_missing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    result = run("doctor", "--device", "cuda:7")
    assert result.exit_code == 1
    assert "cannot work here: device cuda:7 missing" in result.stdout


def test_the_gpus_of_the_driver_are_inspected(machine: Machine, tmp_path: Path) -> None:
    folder = Path(machine.interposers.standin).parent
    env = {"LD_LIBRARY_PATH": str(folder), "PATH": "", "CUDA_MPS_PIPE_DIRECTORY": str(tmp_path)}
    seen = inspect(machine, None, env)
    (gpu,) = seen.gpus
    assert (gpu.name, gpu.sm_count, gpu.compute_mode) == ("Stand-in GPU (not real)", 132, ComputeMode.DEFAULT)
    ((device, ways),) = seen.devices
    assert device.id == gpu.uuid
    assert not next(way for way in ways if way.name == "mps").there
    assert seen.shareable == "its CPU and its GPU"
    assert inspect(machine, parse_device("cpu"), env).devices[0][0].id == "cpu"
