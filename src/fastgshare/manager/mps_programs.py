"""NVIDIA's MPS programs, and the stand-in's: where they are, how they are started, and what a killed owner left."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.errors import InvalidValue, NotFound, PartitionerUnavailable
from fastgshare.manager.processes import Process
from fastgshare.native import library

CONTROL: Final = "nvidia-cuda-mps-control"
PIPES: Final = "CUDA_MPS_PIPE_DIRECTORY"
LOGS: Final = "CUDA_MPS_LOG_DIRECTORY"
PID_FILE: Final = f"{CONTROL}.pid"
FOREGROUND: Final = "-f"
STANDIN_CONTROL: Final = f"standin/bin/{CONTROL}"
_FAMILY: Final = "nvidia-cuda-mps-"
_DEFAULT_PIPES: Final = "/tmp/nvidia-mps"
_MOUNTED: Final = (
    "usr/bin",
    "usr/local/bin",
    "usr/local/nvidia/bin",
    "opt/nvidia/bin",
    "run/nvidia/driver/usr/bin",
)
"""Where distributions, container toolkits and driver containers put the driver's programs."""
_START_S: Final = 2.0
_ASKED_S: Final = 0.5
_POLL_S: Final = 0.01
# Who asks for a signal at its parent's end too late for that has to look whether it is there still.
_LAUNCH: Final = (
    "import ctypes,os,sys\n"
    "ctypes.CDLL(None).prctl(1,int(sys.argv[1]),0,0,0)\n"
    "os.getppid()==int(sys.argv[2]) or os._exit(1)\n"
    "os.execv(sys.argv[3],sys.argv[3:])\n"
)


def find_control(device: Device, env: Mapping[str, str], root: Path = Path("/")) -> Path:
    """MPS's control program for a device: NVIDIA's for a GPU, the stand-in's for a stand-in. Raises `NotFound`.

    root: of the file system in which the usual places are looked at.
    """
    if device.kind is DeviceKind.STANDIN:
        return library(STANDIN_CONTROL)
    if (found := shutil.which(CONTROL, path=env.get("PATH") or os.defpath)) is not None:
        return Path(found)
    for place in _MOUNTED:
        path = root / place / CONTROL
        if path.is_file() and os.access(path, os.X_OK):
            return path
    raise NotFound("program", CONTROL)


def pipes_of(env: Mapping[str, str]) -> Path:
    """The pipe directory in which a program with this environment looks for MPS."""
    return Path(env.get(PIPES) or _DEFAULT_PIPES)


def mps_runs(env: Mapping[str, str]) -> bool:
    """Whether an MPS control daemon serves programs with this environment."""
    pipes = pipes_of(env)
    if not (pipes / "control").exists():
        return False
    try:
        os.kill(int((pipes / PID_FILE).read_text()), 0)
    except ProcessLookupError:
        return False  # it was killed and has left its pipes
    except (OSError, ValueError, OverflowError):
        return True
    return True


class Child:
    """A program that was started here. It ends with this process, however that ends, unless it stays."""

    def __init__(self, command: list[str], env: Mapping[str, str], output: Path, *, stays: bool) -> None:
        """Start it. output: file of what it prints. Raises `PartitionerUnavailable`."""
        self._ended = threading.Event()
        self._begun = threading.Event()
        self._popen: subprocess.Popen[bytes] | None = None
        self._problem: OSError | None = None
        threading.Thread(target=self._live, args=(command, env, output, stays), daemon=True, name=command[0]).start()
        self._begun.wait()
        if self._popen is None:
            raise PartitionerUnavailable(f"{command[0]} cannot be started: {self._problem}")
        self.pid: Final[int] = self._popen.pid

    def has_ended(self) -> bool:
        """Whether it has, and has been waited for."""
        return self._ended.is_set()

    def _live(self, command: list[str], env: Mapping[str, str], output: Path, stays: bool) -> None:
        # The kernel takes the end of the thread that started a child for the end of its owner: so this one waits.
        signal_number = 0 if stays else signal.SIGTERM
        launch = [sys.executable, "-I", "-S", "-c", _LAUNCH, str(int(signal_number)), str(os.getpid()), *command]
        try:
            with output.open("wb") as out:
                self._popen = subprocess.Popen(
                    launch,
                    env=dict(env),
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # a terminal's Ctrl-C is not for it
                )
        except OSError as error:
            self._problem = error
            self._begun.set()
            return
        self._begun.set()
        self._popen.wait()
        self._ended.set()


def left_behind(pipes: Path) -> list[int]:
    """MPS's processes of this user that belong to a pipe directory, by what their environments say."""
    return [pid for pid in _own_processes() if is_of(pid, pipes)]


def control_in(pipes: Path) -> int:
    """Process id of the control daemon of a pipe directory; 0 if none runs.

    By its file; one in the foreground may have written none, and is known by its command line.
    """
    try:
        pid = int((pipes / PID_FILE).read_text())
    except (OSError, ValueError):
        pid = 0
    if pid and is_of(pid, pipes):
        return pid
    return next((pid for pid in left_behind(pipes) if FOREGROUND in _words(pid)), 0)


def end_all(pids: Iterable[int]) -> None:
    """End processes: by SIGTERM, those that are still there after half a second by SIGKILL."""
    processes = []
    for pid in pids:
        with suppress(InvalidValue):
            processes.append(Process.open(pid))
    try:
        for number, patience_s in ((signal.SIGTERM, _ASKED_S), (signal.SIGKILL, _START_S)):
            for process in processes:
                with suppress(OSError):
                    signal.pidfd_send_signal(process.fd, number)
            if wait_until(lambda: all(p.has_ended() for p in processes), patience_s):
                return
    finally:
        for process in processes:
            process.close()


def wait_until(condition: Callable[[], bool], within_s: float) -> bool:
    """Whether something has come true within that time."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_S)
    return True


def _own_processes() -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):
                if entry.stat().st_uid == os.getuid():
                    yield int(entry.name)


def is_of(pid: int, pipes: Path) -> bool:
    """Whether a process is one of MPS's that belongs to a pipe directory, and still runs."""
    words = _words(pid)[:3]  # an interpreter may come before the program
    if not any(Path(word).name.startswith(_FAMILY) for word in words):
        return False
    try:
        return os.fsencode(f"{PIPES}={pipes}") in (Path("/proc") / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return False


def _words(pid: int) -> list[str]:
    """A process's command line; none of one that has ended."""
    try:
        return os.fsdecode((Path("/proc") / str(pid) / "cmdline").read_bytes()).split("\0")
    except OSError:
        return []
