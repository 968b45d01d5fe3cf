from __future__ import annotations

import os
from pathlib import Path

import pytest

from fastgshare.cluster.devices import cpu_device


@pytest.fixture
def cgroups(tmp_path: Path) -> Path:
    root = tmp_path / "cgroup"
    (root / "a" / "b").mkdir(parents=True)
    (root / "cgroup.controllers").write_text("cpu memory\n")
    (tmp_path / "membership").write_text("0::/a/b\n")
    return root


def test_the_device_has_the_cores_of_the_affinity_mask(tmp_path: Path) -> None:
    device = cpu_device(cgroups=tmp_path, membership=tmp_path / "none")
    assert (device.id, device.kind) == ("cpu", "cpu")
    assert device.sm_ids == tuple(sorted(os.sched_getaffinity(0)))
    assert device.sm_count == len(device.sm_ids)
    assert device.mem_bytes == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_a_narrower_mask_is_a_smaller_device(tmp_path: Path) -> None:
    all_cores = os.sched_getaffinity(0)
    last = max(all_cores)
    os.sched_setaffinity(0, {last})
    try:
        assert cpu_device(cgroups=tmp_path).sm_ids == (last,)
    finally:
        os.sched_setaffinity(0, all_cores)


def test_the_tightest_cgroup_above_bounds_cores_and_memory(cgroups: Path) -> None:
    (cgroups / "a" / "cpu.max").write_text("150000 100000\n")
    (cgroups / "a" / "memory.max").write_text("1000000\n")
    (cgroups / "a" / "b" / "cpu.max").write_text("max 100000\n")
    (cgroups / "a" / "b" / "memory.max").write_text("max\n")
    device = cpu_device(cgroups=cgroups, membership=cgroups.parent / "membership")
    assert (device.sm_count, device.mem_bytes) == (1, 1_000_000)


def test_less_than_a_core_is_one_core(cgroups: Path) -> None:
    (cgroups / "a" / "b" / "cpu.max").write_text("20000 100000\n")
    assert cpu_device(cgroups=cgroups, membership=cgroups.parent / "membership").sm_count == 1


@pytest.mark.parametrize("membership", ["", "0::/not/mounted/here\n", "0::/../outside\n", "12:cpu:/a\n"])
def test_an_unknown_cgroup_sets_no_bounds(cgroups: Path, membership: str) -> None:
    path = cgroups.parent / "membership"
    path.write_text(membership)
    assert cpu_device(cgroups=cgroups, membership=path).sm_ids == tuple(sorted(os.sched_getaffinity(0)))
