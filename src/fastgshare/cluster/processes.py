"""Processes of instances: started over a socket, watched, ended with all they started themselves."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Final

RUNTIME: Final = (sys.executable, "-P", "-m", "fastgshare.runtime")
"""What starts an instance. -P: a file of the current folder must not stand in for a module."""
_PARTIAL_LINE_BYTES: Final = 65536
_UNKILLABLE_S: Final = 10.0
"""Who has not ended so long after SIGKILL waits in the kernel, as for a device that is gone, perhaps for ever."""
_LOGGER: Final = logging.getLogger(__name__)


class Process:
    """One running process. `exited` has its exit status, negative for a signal, once it has ended.

    Or once it was killed and does not end: then `is_left` is true, and nobody waits for it any more.
    """

    def __init__(self, popen: subprocess.Popen[bytes], on_line: Callable[[str], None]) -> None:
        self.pid: Final = popen.pid
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.is_left = False
        self._popen = popen
        self._patience: asyncio.TimerHandle | None = None
        self._output: asyncio.ReadTransport | None = None
        self._lines = _Lines(on_line)
        self._pidfd = os.pidfd_open(popen.pid)
        asyncio.get_running_loop().add_reader(self._pidfd, self._reap)

    @classmethod
    async def start(
        cls, command: list[str], env: Mapping[str, str], inherited: socket.socket, on_line: Callable[[str], None]
    ) -> Process:
        """Start a command that inherits a socket; its output goes to `on_line`, line by line. Raises OSError.

        It leads a session of its own: signals of a terminal do not reach it, and its group can be ended as one.
        """
        popen = _popen(command, env, inherited)
        process = cls(popen, on_line)
        loop = asyncio.get_running_loop()
        process._output, _ = await loop.connect_read_pipe(lambda: process._lines, popen.stdout)
        return process

    def terminate(self) -> None:
        """Ask the process and all it has started to end."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the process and all it has started."""
        self._signal(signal.SIGKILL)
        if self._patience is None and not self.exited.done():
            self._patience = asyncio.get_running_loop().call_later(_UNKILLABLE_S, self._leave)

    async def last_output(self, wait_s: float) -> None:
        """Return once all it wrote has been handed on, at the latest after `wait_s`; afterwards nothing more is."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self._lines.ended), wait_s)
        if self._output is not None:
            self._output.close()

    def _signal(self, number: signal.Signals) -> None:
        # The group outlives its leader while others are in it; once it is empty there is nobody to signal.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def _leave(self) -> None:
        self.is_left = True
        _LOGGER.warning("process %d does not end though it was killed %g s ago; it is left", self.pid, _UNKILLABLE_S)
        self.exited.set_result(-signal.SIGKILL)

    def _reap(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._signal(signal.SIGKILL)  # what it started and left, before its number can be given to others
        status = self._popen.wait()
        if not self.is_left:
            self.exited.set_result(status)


class _Lines(asyncio.Protocol):
    """Splits output into lines."""

    def __init__(self, on_line: Callable[[str], None]) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._on_line = on_line
        self._partial = b""

    def data_received(self, data: bytes) -> None:
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in lines:
            self._hand_on(line)
        if len(self._partial) > _PARTIAL_LINE_BYTES:
            self._hand_on(self._partial)
            self._partial = b""

    def connection_lost(self, error: Exception | None) -> None:
        if self._partial:
            self._hand_on(self._partial)
            self._partial = b""
        if not self.ended.done():
            self.ended.set_result(None)

    def _hand_on(self, line: bytes) -> None:
        self._on_line(line.decode("utf-8", "replace").rstrip("\r"))


def _popen(command: list[str], env: Mapping[str, str], inherited: socket.socket) -> subprocess.Popen[bytes]:
    """Blocks for the millisecond or two until the command is loaded."""
    return subprocess.Popen(
        command,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=(inherited.fileno(),),
        start_new_session=True,
    )


async def start_instance(
    command: Sequence[str], env: Mapping[str, str], on_line: Callable[[str], None]
) -> tuple[Process, socket.socket]:
    """Start an instance's process; the socket is our end of the pair that it speaks over. Raises OSError."""
    ours, theirs = socket.socketpair()
    try:
        return await Process.start([*command, "--fd", str(theirs.fileno())], env, theirs, on_line), ours
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()


def describe_exit(status: int) -> str:
    """An exit status in words."""
    if status >= 0:
        return f"it ended with exit status {status}"
    try:
        return f"it was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"it was killed by signal {-status}"
