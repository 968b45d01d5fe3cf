"""What divides a device between programs, where an MPS of others lets one trust group in."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fastgshare.cluster.dividers import Divider
from fastgshare.cluster.homes import Division, Home
from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.errors import PartitionerUnavailable
from fastgshare.manager import probing
from fastgshare.manager.gpus import ComputeMode, Gpu, Green
from fastgshare.manager.probing import Situation

GPU = Device("GPU-1", DeviceKind.GPU, 132, 2**36)
EXCLUSIVE = Gpu(0, "GPU-1", "NVIDIA H100", 132, 2**36, ComputeMode.EXCLUSIVE, (9, 0), 13010, Green(8, 8))


def test_where_one_trust_group_can_be_the_next_one_hears_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Situation(GPU, Path("/usr/bin/nvidia-cuda-mps-control"), "", Path("/tmp/nvidia-mps"), EXCLUSIVE, "")
    monkeypatch.setattr(probing, "situation", lambda device, env: found)
    home = Home(tmp_path / "home")
    home.keep(GPU, [], Division("mps", ("one",)))
    divider = Divider(GPU, home, "auto", os.environ)
    with pytest.raises(
        PartitionerUnavailable, match="trust group two cannot be on device GPU-1 beside one: an MPS that"
    ):
        divider.open("two")
    assert home.division() == Division("mps", ("one",))
