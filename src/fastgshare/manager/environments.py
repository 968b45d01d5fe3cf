"""Environments: what a process is told at its start, so that it is held to its share of a device. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.errors import InvalidValue
from fastgshare.domain.shares import Share
from fastgshare.native import library

HOOK: Final = "libfasthook.so"
STANDIN_DRIVER: Final = "standin/libcuda.so.1"
_OF_A_SHARE: Final = (
    "FASTGSHARE_SOCKET",
    "FASTGSHARE_INSTANCE",
    "FASTGSHARE_IF_UNENFORCED",
)
_OF_MPS: Final = "CUDA_MPS_"
_WAYS_TO_MPS: Final = ("CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY")
"""All that a user may say of MPS: anything else changes what a share holds, or how a control daemon is spoken to."""
_OF_A_STANDIN: Final = ("sms", "mem", "state")


def environment(
    device: Device,
    share: Share,
    *,
    socket_path: Path,
    instance_id: str,
    state: Path | None,
    base: Mapping[str, str],
    preload: Path | None = None,
    refuses: bool = True,
) -> dict[str, str]:
    """The environment of a process that runs on a share of a device, from the one it would have had.

    socket_path: the node daemon's. state: file in which the processes on the stand-in share its state (None: each has
    one to itself). preload: the interposer (None: ours). refuses: what the interposer does if it cannot enforce the
    share, refuse the device or pass everything.

    What `base` says of another share is dropped: an inner `fastgshare run` counts, not the outer one. Raises `NotFound`
    if the hook or the stand-in was not built, `InvalidValue` for a path that cannot be said.
    """
    env = without_share(base)
    env["FASTGSHARE_SOCKET"] = str(socket_path)
    env["FASTGSHARE_INSTANCE"] = instance_id
    env["FASTGSHARE_IF_UNENFORCED"] = "refuse" if refuses else "pass"
    if device.kind is DeviceKind.CPU:
        return env
    env["LD_PRELOAD"] = _prepended("LD_PRELOAD", preload or library(HOOK), env.get("LD_PRELOAD", ""))
    env["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] = f"{share.sm_partition:g}"
    if device.kind is DeviceKind.GPU:
        env["CUDA_VISIBLE_DEVICES"] = device.id
    else:
        env |= _on_standin(device, state, env)
        env.pop("CUDA_VISIBLE_DEVICES", None)  # of real ones, among which it is not
    return env


def without_share(base: Mapping[str, str]) -> dict[str, str]:
    """An environment without what `environment` says of a share, and without the user's own settings of MPS.

    For the node daemon, and to begin with. Where MPS is, stays.
    """
    env = {name: value for name, value in base.items() if name not in _OF_A_SHARE and not _sets_mps(name)}
    left = [path for path in _parts(env.pop("LD_PRELOAD", ""), " :") if Path(path).name != HOOK]
    return env | ({"LD_PRELOAD": ":".join(left)} if left else {})


def _sets_mps(name: str) -> bool:
    return name.startswith(_OF_MPS) and name not in _WAYS_TO_MPS


def beside(device: Device, *, state: Path | None, base: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process that looks at a device and has no share of it: without the interposer.

    state: as above. Raises `NotFound` if the stand-in was not built, `InvalidValue` for a path that cannot be said.
    """
    env = without_share(base)
    return env | (_on_standin(device, state, env) if device.kind is DeviceKind.STANDIN else {})


def _on_standin(device: Device, state: Path | None, env: Mapping[str, str]) -> dict[str, str]:
    folder = library(STANDIN_DRIVER).parent
    kept = [part for part in env.get("FASTGSHARE_STANDIN", "").split(",") if part]
    kept = [part for part in kept if part.partition("=")[0] not in _OF_A_STANDIN]
    own = [f"sms={device.sm_count}", f"mem={device.mem_bytes}"]
    if state is not None:
        own.append(f"state={_sayable('state', state, ',')}")
    return {
        "LD_LIBRARY_PATH": _prepended("LD_LIBRARY_PATH", folder, env.get("LD_LIBRARY_PATH", "")),
        "FASTGSHARE_STANDIN": ",".join([*own, *kept]),
    }


def _prepended(field: str, path: Path, before: str) -> str:
    """A search list with `path` in front, and nowhere else."""
    first = _sayable(field, path, " :;" if field == "LD_PRELOAD" else ":;")
    return ":".join([first, *(part for part in _parts(before, ":") if part != first)])


def _parts(text: str, separators: str) -> list[str]:
    for separator in separators:
        text = text.replace(separator, ":")
    return [part for part in text.split(":") if part]


def _sayable(field: str, path: Path, separators: str) -> str:
    if any(separator in str(path) for separator in separators):
        raise InvalidValue(field, str(path), f"a path without any of the characters {separators!r}")
    return str(path)
