from __future__ import annotations

from pathlib import Path

import pytest

from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.errors import InvalidValue
from fastgshare.domain.shares import Share
from fastgshare.manager import environments
from fastgshare.manager.environments import environment, without_share

SHARE = Share(30, 0.3, 0.8, 2**30)
HOOK = Path("/lib/libfasthook.so")
STANDIN = Device("standin:sms=80,mem=16GiB", DeviceKind.STANDIN, 80, 16 * 2**30)
GPU = Device("GPU-12345678-0000-0000-0000-000000000000", DeviceKind.GPU, 132, 80 * 2**30)
CPU = Device("cpu", DeviceKind.CPU, 2, 2**30, (0, 1))


@pytest.fixture(autouse=True)
def _built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "library", lambda name: Path("/lib") / name)


def on(device: Device, base: dict[str, str], *, state: Path | None = None, refuses: bool = True) -> dict[str, str]:
    return environment(
        device, SHARE, socket_path=Path("/run/d.sock"), instance_id="one", state=state, base=base, refuses=refuses
    )


def test_a_gpu_program_gets_the_hook_its_device_and_its_part_of_it() -> None:
    assert on(GPU, {"HOME": "/h", "CUDA_VISIBLE_DEVICES": "1,0"}) == {
        "HOME": "/h",
        "LD_PRELOAD": "/lib/libfasthook.so",
        "FASTGSHARE_SOCKET": "/run/d.sock",
        "FASTGSHARE_INSTANCE": "one",
        "FASTGSHARE_IF_UNENFORCED": "refuse",
        "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "30",
        "CUDA_VISIBLE_DEVICES": GPU.id,
    }


def test_a_program_on_the_standin_finds_the_standin() -> None:
    env = on(STANDIN, {"CUDA_VISIBLE_DEVICES": "0", "LD_LIBRARY_PATH": "/opt/lib"}, state=Path("/run/state"))
    assert env["LD_LIBRARY_PATH"] == "/lib/standin:/opt/lib"
    assert env["FASTGSHARE_STANDIN"] == f"sms=80,mem={16 * 2**30},state=/run/state"
    assert "CUDA_VISIBLE_DEVICES" not in env


def test_the_cpu_needs_no_hook() -> None:
    env = on(CPU, {"LD_PRELOAD": "/x/libjemalloc.so"}, refuses=False)
    assert env["LD_PRELOAD"] == "/x/libjemalloc.so"
    assert env["FASTGSHARE_IF_UNENFORCED"] == "pass"
    assert "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE" not in env


def test_what_is_preloaded_already_stays_behind_the_hook() -> None:
    assert on(GPU, {"LD_PRELOAD": "/x/a.so /x/b.so:c.so"})["LD_PRELOAD"] == "/lib/libfasthook.so:/x/a.so:/x/b.so:c.so"


def test_a_share_within_a_share_counts_alone() -> None:
    outer = on(STANDIN, {"LD_PRELOAD": "/x/a.so", "LD_LIBRARY_PATH": "/opt/lib"}, state=Path("/run/outer"))
    inner = on(STANDIN, outer, state=Path("/run/inner"))
    assert inner == on(STANDIN, {"LD_PRELOAD": "/x/a.so", "LD_LIBRARY_PATH": "/opt/lib"}, state=Path("/run/inner"))
    assert set(without_share(outer)) == {"LD_PRELOAD", "LD_LIBRARY_PATH", "FASTGSHARE_STANDIN"}
    assert without_share(outer)["LD_PRELOAD"] == "/x/a.so"


@pytest.mark.parametrize(
    "name",
    [
        "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT",
        "CUDA_MPS_ENABLE_PER_CTX_DEVICE_MULTIPROCESSOR_PARTITIONING",
        "CUDA_MPS_CLIENT_PRIORITY",
        "CUDA_MPS_PROTOCOL_VERSION",
    ],
)
def test_what_a_user_sets_of_mps_does_not_undo_the_share(name: str) -> None:
    ways = {"CUDA_MPS_PIPE_DIRECTORY": "/run/mps", "CUDA_MPS_LOG_DIRECTORY": "/run/mps-log"}
    env = on(GPU, {name: "1", "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "100", **ways})
    assert name not in env
    assert env["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] == "30"
    assert env.items() >= ways.items()
    assert without_share({name: "1", **ways}) == ways


def test_settings_of_the_standin_that_are_not_the_device_s_stay() -> None:
    env = on(STANDIN, {"FASTGSHARE_STANDIN": "kernel_ns=500,sms=1,die=cuInit:1:before"})
    assert env["FASTGSHARE_STANDIN"] == f"sms=80,mem={16 * 2**30},kernel_ns=500,die=cuInit:1:before"


@pytest.mark.parametrize("state", ["/run/a,b/state"])
def test_paths_that_cannot_be_said_are_refused(state: str) -> None:
    with pytest.raises(InvalidValue, match="state"):
        on(STANDIN, {}, state=Path(state))
    with pytest.raises(InvalidValue, match="LD_PRELOAD"):
        environment(
            *(GPU, SHARE),
            socket_path=Path("/s"),
            instance_id="one",
            state=None,
            base={},
            preload=Path("/my libs/hook.so"),
        )
