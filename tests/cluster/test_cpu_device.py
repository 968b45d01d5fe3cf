from __future__ import annotations

import os
from pathlib import Path

import pytest

from fastgshare.cluster.cgroups import Cgroups
from fastgshare.cluster.devices import cpu_device, machine_bytes

NONE = Cgroups(0, {})


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")


def groups(tmp_path: Path, membership: str) -> Cgroups:
    write(tmp_path / "membership", membership)
    return Cgroups.of_this_process(mount=tmp_path / "cgroup", membership=tmp_path / "membership")


@pytest.fixture
def v2(tmp_path: Path) -> Path:
    root = tmp_path / "cgroup"
    for folder in (root, root / "a", root / "a" / "b"):
        write(folder / "cgroup.controllers", "cpu memory")
    return root


@pytest.fixture
def v1(tmp_path: Path) -> Path:
    root = tmp_path / "cgroup"
    write(root / "memory" / "a" / "memory.limit_in_bytes", "1000000")
    write(root / "memory" / "memory.limit_in_bytes", "9223372036854771712")
    write(root / "cpu" / "cpu.cfs_quota_us", "-1")
    write(root / "cpu" / "cpu.cfs_period_us", "100000")
    return root


def test_the_device_has_the_cores_of_the_affinity_mask() -> None:
    device = cpu_device(NONE)
    assert (device.id, device.kind) == ("cpu", "cpu")
    assert device.sm_ids == tuple(sorted(os.sched_getaffinity(0)))
    assert device.sm_count == len(device.sm_ids)
    assert device.mem_bytes == machine_bytes()


def test_a_narrower_mask_is_a_smaller_device() -> None:
    all_cores = os.sched_getaffinity(0)
    last = max(all_cores)
    os.sched_setaffinity(0, {last})
    try:
        assert cpu_device(NONE).sm_ids == (last,)
    finally:
        os.sched_setaffinity(0, all_cores)


def test_the_tightest_group_above_bounds_cores_and_memory(tmp_path: Path, v2: Path) -> None:
    write(v2 / "a" / "cpu.max", "150000 100000")
    write(v2 / "a" / "memory.max", "1000000")
    write(v2 / "a" / "b" / "cpu.max", "max 100000")
    write(v2 / "a" / "b" / "memory.max", "max")
    found = groups(tmp_path, "0::/a/b")
    assert (found.version, found.cpu_quota(), found.memory_bytes()) == (2, 1.5, 1_000_000)
    device = cpu_device(found)
    assert (device.sm_count, device.mem_bytes) == (1, 1_000_000)


def test_bounds_above_hold_where_the_controller_is_not_handed_down(tmp_path: Path, v2: Path) -> None:
    write(v2 / "a" / "b" / "cgroup.controllers", "")
    write(v2 / "a" / "cpu.max", "20000 100000")
    found = groups(tmp_path, "0::/a/b")
    assert found.cpu_quota() == 0.2
    assert not found.writable("cpu")
    assert cpu_device(found).sm_count == 1


def test_version_1_bounds_too(tmp_path: Path, v1: Path) -> None:
    found = groups(tmp_path, "4:memory:/a\n2:cpuacct,cpu:/\n0::/")
    assert (found.version, found.cpu_quota(), found.memory_bytes()) == (1, None, 1_000_000)
    write(v1 / "cpu" / "cpu.cfs_quota_us", "50000")
    assert found.cpu_quota() == 0.5


def test_writable_says_whether_groups_can_be_made(tmp_path: Path, v2: Path) -> None:
    found = groups(tmp_path, "0::/a")
    assert found.writable("memory")
    assert not found.writable("cpuset")


@pytest.mark.parametrize("membership", ["", "0::/not/mounted/here", "0::/../outside", "12:cpu:/a", "nonsense"])
def test_an_unknown_group_sets_no_bounds(tmp_path: Path, v2: Path, membership: str) -> None:
    found = groups(tmp_path, membership)
    assert (found.cpu_quota(), found.memory_bytes()) == (None, None)
    assert not found.writable("cpu")


def test_a_machine_without_groups(tmp_path: Path) -> None:
    assert groups(tmp_path, "0::/") == NONE


def test_this_machine_can_be_asked() -> None:
    assert cpu_device().sm_count >= 1
