"""The GPUs of this machine, as the CUDA driver shows them to its programs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fastgshare.domain.errors import FastGShareError
from fastgshare.manager.environments import without_share

_FACTS: Final = Path(__file__).with_name("gpu_facts.py")
_PATIENCE_S: Final = 60.0
_MPS_PIPES: Final = "/tmp/nvidia-mps"


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU. index: as CUDA counts those that a program may see. uuid: ``GPU-`` and 36 characters."""

    index: int
    uuid: str
    name: str
    sm_count: int
    mem_bytes: int


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
    if document["problem"]:
        raise NoGpu(f"no GPU was found ({document['problem']})")
    return tuple(Gpu(**fields) for fields in document["gpus"])


def mps_runs(env: Mapping[str, str]) -> bool:
    """Whether an MPS control daemon serves programs with this environment."""
    pipes = Path(env.get("CUDA_MPS_PIPE_DIRECTORY") or _MPS_PIPES)
    if not (pipes / "control").exists():
        return False
    try:
        pid = int((pipes / "nvidia-cuda-mps-control.pid").read_text())
        os.kill(pid, 0)
    except ProcessLookupError:
        return False  # it was killed and has left its pipes
    except (OSError, ValueError, OverflowError):
        return True
    return True
