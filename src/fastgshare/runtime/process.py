"""What an instance's process sets for itself before it loads anything."""

from __future__ import annotations

import ctypes
import logging
import os
import resource
import signal
import sys
from collections.abc import Mapping
from typing import Final

from fastgshare.domain.errors import InvalidValue

_PR_SET_PDEATHSIG: Final = 1
_NICENESS: Final = 5
_THREAD_SETTINGS: Final = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "RAYON_NUM_THREADS",
)


def die_with_parent() -> None:
    """Have the kernel kill this process when the one that started it ends."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def leave_interrupts_to_parent() -> None:
    """Ignore Ctrl-C, which reaches the whole group: the parent stops its instances in order."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def give_way() -> None:
    """Work behind the platform's processes: a reply that waits for the gateway keeps a device idle."""
    os.nice(_NICENESS)


def log_to_stderr() -> None:
    """Write log lines as they come, and what a handler prints too."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # both are text streams here


def set_environment(env: Mapping[str, str], threads: int) -> None:
    """Set a function's environment, and the thread counts of numerical libraries, which follow the share."""
    os.environ.update(env)
    os.environ.update(dict.fromkeys(_THREAD_SETTINGS, str(threads)))


def cap_memory(mem_bytes: int) -> None:
    """Let the process's data grow to `mem_bytes` and no further (RLIMIT_DATA); 0: no cap.

    Raises `InvalidValue` if the system refuses.
    """
    if mem_bytes <= 0:
        return
    try:
        resource.setrlimit(resource.RLIMIT_DATA, (mem_bytes, mem_bytes))
    except (OSError, ValueError) as error:
        raise InvalidValue("mem_bytes", mem_bytes, f"a cap that the system accepts ({error})") from error
