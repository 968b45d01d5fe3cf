"""A host for programs on shares: devices' directories of its own, the verbs as people call them, real processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from fastgshare.domain.errors import DaemonUnavailable
from fastgshare.manager.mps import pipe_directory
from fastgshare.manager.mps_programs import left_behind
from fastgshare.manager.visits import Visit

FASTGSHARE = (sys.executable, "-c", "from fastgshare.cli import main; main(prog_name='fastgshare')")
PATIENCE_S = 30.0
GROUPS = (b"default", b"other")
QUARTER = ("--device", "cpu", "--if-unenforced", "pass", "--share", "sm=100,request=0.25")
"""A quarter of the CPU's time, which is reserved there and not enforced: a share for programs that do not compute."""


class Host:
    """Directories in a place of its own; all processes that it started end with it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.env = {**os.environ, "XDG_RUNTIME_DIR": str(directory)}
        self._processes: list[subprocess.Popen[str]] = []

    def verb(self, *arguments: str, text: str | None = None, **extra: Any) -> subprocess.CompletedProcess[str]:
        """Call a verb and wait for its end."""
        command = [*FASTGSHARE, *arguments]
        return subprocess.run(
            command, check=False, env=self.env, input=text, capture_output=True, text=True, timeout=PATIENCE_S, **extra
        )

    def start(self, *arguments: str, **extra: Any) -> subprocess.Popen[str]:
        """Call a verb that goes on."""
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **extra}
        process = subprocess.Popen([*FASTGSHARE, *arguments], env=self.env, text=True, **pipes)
        self._processes.append(process)
        return process

    def programs(self) -> dict[str, dict[str, Any]]:
        """What `ps` says, by name."""
        found = json.loads(self.verb("ps", "--json").stdout)["programs"]
        return {program["name"]: program for program in found}

    def daemon(self, device: str = "cpu") -> Visit:
        """A visit to a device's daemon. Raises `DaemonUnavailable`."""
        return Visit(self.directory / "fastgshare" / device / "daemon.sock")

    def admitted(self, device: str = "cpu") -> dict[str, int]:
        """Processes by name, as the daemon knows them; nobody if it does not answer."""
        try:
            with self.daemon(device) as visit:
                return {name: seat["pid"] for name, seat in visit.status()["instances"].items()}
        except DaemonUnavailable:
            return {}

    def kill_daemon(self, device: str = "cpu") -> None:
        """End a device's daemon the hard way."""
        with self.daemon(device) as visit:
            os.kill(visit.status()["pid"], signal.SIGKILL)

    def mps(self) -> list[int]:
        """Processes of MPS that were started for the trust groups of programs here."""
        homes = [home for home in (self.directory / "fastgshare").glob("*/") if home.is_dir()]
        folders = [home / "partitioner" / sha256(group).hexdigest()[:8] for home in homes for group in GROUPS]
        return [pid for folder in folders for pid in left_behind(pipe_directory(folder))]

    def close(self) -> None:
        """End everything."""
        for process in self._processes:
            process.kill()
            process.communicate()
        for home in (self.directory / "fastgshare").glob("*/"):
            with suppress(DaemonUnavailable), Visit(home / "daemon.sock") as visit:
                status = visit.status()
                for pid in (*(seat["pid"] for seat in status["instances"].values()), status["pid"]):
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
        for pid in self.mps():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.directory)


@contextmanager
def running_host() -> Iterator[Host]:
    """A host in a directory whose path is short enough for sockets."""
    host = Host(Path(tempfile.mkdtemp(prefix="fgs-", dir="/tmp")))
    try:
        yield host
    finally:
        host.close()


def eventually(condition: Callable[[], Any], what: str = "") -> Any:
    """What the condition says once it says anything."""
    give_up_s = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < give_up_s, what or "it did not come to pass"
        time.sleep(0.02)
    return found


def state_of(pid: int) -> str:
    """The kernel's letter for what a process does; "" if it has gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except FileNotFoundError:
        return ""
