"""The GPUs of this machine, as the CUDA driver shows them to its programs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from fastgshare.domain.errors import FastGShareError
from fastgshare.manager.environments import without_share

_FACTS: Final = Path(__file__).with_name("gpu_facts.py")
_PATIENCE_S: Final = 60.0


class ComputeMode(StrEnum):
    """Who may use a GPU. Whoever administers the machine sets it; nothing here changes it."""

    DEFAULT = "default"
    EXCLUSIVE = "exclusive-process"
    PROHIBITED = "prohibited"


_MODES: Final = {
    0: ComputeMode.DEFAULT,
    1: ComputeMode.EXCLUSIVE,  # of a thread: long gone
    2: ComputeMode.PROHIBITED,
    3: ComputeMode.EXCLUSIVE,
}


@dataclass(frozen=True, slots=True)
class Green:
    """What green contexts of a GPU are made of. problem: why none can be, or ""."""

    least_sms: int
    sm_step: int
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU. index: as CUDA counts those that a program may see. uuid: ``GPU-`` and 36 characters, ``MIG-`` for a part.

    capability: major and minor. cuda_version: the newest that its driver knows, 13010 for 13.1. mig: whether MIG is on;
    None where nobody says.
    """

    index: int
    uuid: str
    name: str
    sm_count: int
    mem_bytes: int
    compute_mode: ComputeMode
    capability: tuple[int, int]
    cuda_version: int
    green: Green
    mig: bool | None = None


class NoGpu(FastGShareError):
    """No GPU can be used here; the text says why."""


def find_gpus(env: Mapping[str, str]) -> tuple[Gpu, ...]:
    """The GPUs that a program with this environment sees, at least one. Raises `NoGpu`."""
    command = [sys.executable, "-I", "-S", str(_FACTS)]
    try:
        found = subprocess.run(
            command,
            env=without_share(env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PATIENCE_S,
            check=False,  # what it has to say, it prints
        )
        document = json.loads(found.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise NoGpu(f"the CUDA driver does not answer ({error})") from error
    if problem := document["problem"]:
        mig = "; MIG is on, and no part of the GPU is given" if any(document["mig"].values()) else ""
        raise NoGpu(f"no GPU was found ({problem}{mig})")
    return tuple(_gpu(fields, int(document["cuda_version"]), document["mig"]) for fields in document["gpus"])


def _gpu(fields: Mapping[str, Any], cuda_version: int, mig: Mapping[str, bool]) -> Gpu:
    major, minor = fields["capability"]
    return Gpu(
        *(fields["index"], fields["uuid"], fields["name"], fields["sm_count"], fields["mem_bytes"]),
        compute_mode=_MODES.get(fields["compute_mode"], ComputeMode.DEFAULT),
        capability=(major, minor),
        cuda_version=cuda_version,
        green=_green(fields["green"], major),
        mig=True if fields["uuid"].startswith("MIG-") else mig.get(fields["uuid"]),
    )


def _green(found: Mapping[str, Any], major: int) -> Green:
    """Drivers before CUDA 13 do not say the sizes; NVIDIA's documentation names them by architecture."""
    if problem := found.get("problem", ""):
        return Green(0, 0, problem)
    least, step = (8, 8) if major >= 9 else (4, 2) if major == 8 else (2, 2) if major == 7 else (1, 1)
    return Green(found["least_sms"] or least, found["sm_step"] or step)
