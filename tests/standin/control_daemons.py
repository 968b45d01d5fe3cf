"""Control daemons of the stand-in's MPS, a test double, for tests."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.standin.programs import environment

from fastgshare.native import library

CONTROL = library("standin/bin/nvidia-cuda-mps-control")


@dataclass
class Mps:
    """A control daemon in a pipe directory of its own."""

    directory: Path
    process: subprocess.Popen[bytes]
    program: Path = CONTROL

    @property
    def env(self) -> dict[str, str]:
        return {"CUDA_MPS_PIPE_DIRECTORY": str(self.directory), "CUDA_MPS_LOG_DIRECTORY": str(self.directory / "log")}

    def say(self, *lines: str) -> list[str]:
        """Give commands; what it answers."""
        text = "".join(f"{line}\n" for line in lines)
        done = control_program((), self.env, text, self.program)
        assert done.returncode == 0, done.stderr
        return done.stdout.split("\n")[:-1]

    def server(self) -> int:
        (pid,) = [line for line in self.say("get_server_list") if line]
        return int(pid)

    def status(self) -> str:
        return self.say(f"get_server_status {self.server()}")[0]


def control_program(
    words: tuple[str, ...], env: dict[str, str], text: str = "", program: Path = CONTROL
) -> subprocess.CompletedProcess[str]:
    """Run it to its end. text: what it reads."""
    return subprocess.run(
        [program, *words], env=environment("", env), input=text, capture_output=True, text=True, timeout=20, check=False
    )


def eventually(holds: Callable[[], bool]) -> None:
    """The bound only ends a test that has failed."""
    until = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < until, "did not happen"
        time.sleep(0.01)


@contextmanager
def mps_in(directory: Path, more: Mapping[str, str] | None = None, program: Path = CONTROL) -> Iterator[Mps]:
    """A control daemon in the foreground. more: of its environment; program: another control program."""
    pipes = {"CUDA_MPS_PIPE_DIRECTORY": str(directory), "CUDA_MPS_LOG_DIRECTORY": str(directory / "log")}
    written = directory / "nvidia-cuda-mps-control.pid"
    with subprocess.Popen([program, "-f"], env=environment("", pipes | dict(more or {}))) as process:
        try:
            eventually(lambda: written.exists() and written.read_text() == f"{process.pid}\n")
            yield Mps(directory, process, program)
        finally:
            process.kill()


def with_server(directory: Path, script: str) -> Path:
    """The control program beside a server that does what a script says."""
    directory.mkdir()
    server = directory / "nvidia-cuda-mps-server"
    server.write_text(f"#!/bin/sh\n{script}\n")
    server.chmod(0o755)
    return Path(shutil.copy(CONTROL, directory))


def is_over(pid: int) -> bool:
    """Whether a process has ended, waited for or not."""
    return not lives(pid)


def lives(pid: int) -> bool:
    """Whether a process is there and has not ended."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    return False
