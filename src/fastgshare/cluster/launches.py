"""Launches: starting a program as if the shell had, but not before it may run."""

from __future__ import annotations

import errno
import os
import resource
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NoReturn

from fastgshare.domain.errors import FastGShareError

NOT_FOUND: Final = 127
NOT_EXECUTABLE: Final = 126
_OF_PYTHON: Final = (signal.SIGPIPE, signal.SIGXFSZ)
"""Ignored by the interpreter at its start; what it starts shall not ignore them."""


class CannotRun(FastGShareError):
    """A command cannot be run. status: what a shell would exit with."""

    def __init__(self, command: str, reason: str, status: int) -> None:
        super().__init__(f"{command}: {reason}")
        self.status = status


def find_program(command: str, env: Mapping[str, str]) -> str:
    """The file behind a command, as `execvp` finds it. Raises `CannotRun`."""
    folders = [""] if "/" in command else env.get("PATH", os.defpath).split(":")
    candidates = [os.path.join(folder, command) if folder else command for folder in folders]  # noqa: PTH118  # as said
    files = [path for path in candidates if Path(path).is_file()] if command else []
    for path in files:
        if os.access(path, os.X_OK):
            return path
    if files or any(Path(path).is_dir() for path in candidates if "/" in command):
        raise CannotRun(command, "it is not an executable file", NOT_EXECUTABLE)
    raise CannotRun(command, "no such command was found", NOT_FOUND)


class Launch:
    """A process that waits to become a program, as a child of this one, in its group, with its descriptors.

    path: the program's file. mem_bytes: cap on its data (RLIMIT_DATA), 0 for none. mask: the signals it blocks. It ends
    by itself if this process ends before it was let go. Call this while no other thread runs.
    """

    def __init__(
        self, path: str, command: Sequence[str], env: Mapping[str, str], mem_bytes: int, mask: set[int]
    ) -> None:
        self._command = command[0]
        self._waits = True
        gate, self._gate = os.pipe()
        self._problem, problem = os.pipe()
        self.pid: Final = os.fork()
        if self.pid == 0:
            os.close(self._gate)
            _become(path, command, env, mem_bytes, mask, gate, problem)
        os.close(gate)
        os.close(problem)

    def let_go(self) -> None:
        """Let it run. Raises `CannotRun` if the kernel cannot run it; it has ended then."""
        self._waits = False
        os.write(self._gate, b"x")
        os.close(self._gate)
        number = os.read(self._problem, 16)
        os.close(self._problem)
        if number:
            os.waitpid(self.pid, 0)
            code = int(number)
            raise CannotRun(self._command, os.strerror(code), NOT_FOUND if code == errno.ENOENT else NOT_EXECUTABLE)

    def call_off(self) -> None:
        """End it, if it has not been let go."""
        if self._waits:
            self._waits = False
            os.close(self._gate)
            os.close(self._problem)
            os.waitpid(self.pid, 0)


def _become(
    path: str,
    command: Sequence[str],
    env: Mapping[str, str],
    mem_bytes: int,
    mask: set[int],
    gate: int,
    problem: int,
) -> NoReturn:
    """In the child: wait at the gate, then become the program."""
    try:
        _restore_signals(mask)
        if os.read(gate, 1):
            if mem_bytes:
                resource.setrlimit(resource.RLIMIT_DATA, (mem_bytes, mem_bytes))
            _execute(path, command, env)
    except OSError as error:
        os.write(problem, str(error.errno or errno.ENOEXEC).encode())
    except BaseException:
        os.write(problem, str(errno.ENOMEM).encode())  # nothing else is left to go wrong
    finally:
        os._exit(NOT_EXECUTABLE)


def _restore_signals(mask: set[int]) -> None:
    for number in _OF_PYTHON:
        signal.signal(number, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _execute(path: str, command: Sequence[str], env: Mapping[str, str]) -> None:
    """As `execvp`: a script without a first line that says otherwise is the shell's."""
    try:
        os.execve(path, list(command), dict(env))
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
        os.execve("/bin/sh", ["/bin/sh", path, *command[1:]], dict(env))
