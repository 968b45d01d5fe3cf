"""One MPS control daemon in a pipe directory of its own: started, watched, recovered, ended."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from fastgshare.domain.errors import PartitionerUnavailable
from fastgshare.manager.environments import without_share
from fastgshare.manager.mps_programs import FOREGROUND, LOGS, PIPES, Child, control_in, end_all, left_behind, wait_until
from fastgshare.manager.mps_shell import MpsShell, in_a_line

START_S: Final = 10.0
"""How long a control daemon, or a server, may take to be ready: a server makes a context on the device."""
RECOVER_S: Final = 4.5
_LISTEN_S: Final = 1.0
_SELF_HEALING_S: Final = 1.5
_SHUTDOWN_S: Final = 1.0
_NEW_SERVER_S: Final = 2.0
_QUIT_S: Final = 1.0
_POLL_S: Final = 0.02
_LONGEST_SOCKET_BYTES: Final = 107
_LONGEST_NAME_BYTES: Final = 32
"""Of what MPS makes in its pipe directory: ``control_privileged`` and what belongs to a server."""


class MpsControl:
    """MPS for one trust group on one device.

    directory: its pipe directory, or what one in /tmp stands for, if sockets in it would have too long a path. program:
    the control program, NVIDIA's or the stand-in's. device_id: as CUDA_VISIBLE_DEVICES takes it; "": as `env` says.
    stays: the control daemon outlives this process, for others to find; else it ends with it, however that ends.

    It runs in the foreground (`-f`) as a child: one that has put itself into the background is nobody's child, so
    neither the kernel nor its owner would know when one of them is gone. It has a session of its own, so that Ctrl-C is
    not for it. The compute mode is never changed. Methods block, for a bounded time, and raise `PartitionerUnavailable`
    if MPS does not do what it should.
    """

    def __init__(
        self, directory: Path, program: Path, device_id: str, env: Mapping[str, str], *, stays: bool = False
    ) -> None:
        self.pipes: Final = pipe_directory(directory)
        self.logs: Final = log_directory(self.pipes)
        self._stays = stays
        self._lock = threading.RLock()
        self._child: Child | None = None
        self._servers: set[int] = set()
        """Those that took processes when they were started, or had recovered."""
        told = {"CUDA_VISIBLE_DEVICES": device_id} if device_id else {}
        # Without CUDA_MPS_PROTOCOL_VERSION, which may ask for other commands: all control daemons know these.
        self.shell: Final = MpsShell(program, without_share(env) | self.environment() | told)

    def environment(self) -> dict[str, str]:
        """What processes have to be told so that this MPS serves them."""
        return {PIPES: str(self.pipes), LOGS: str(self.logs)}

    @property
    def pid(self) -> int:
        """Process id of the control daemon; 0 if none runs."""
        if self._child is not None:
            return 0 if self._child.has_ended() else self._child.pid
        return control_in(self.pipes)

    def problem(self) -> str:
        """Why no process can come in, or those that are in cannot go on; "" if all is well."""
        if not self.pid:
            return "the MPS control daemon has ended"
        try:
            servers = self.shell.servers()
            if gone := self._servers - set(servers):
                return f"MPS server {min(gone)} has ended"
            return self.shell.illness(servers)
        except PartitionerUnavailable as error:
            return str(error)

    # --- coming and going --------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Have a control daemon and a server, and return when that takes processes; at once if it does already.

        What an owner that was killed has left in the pipe directory is ended before.
        """
        with self._lock:
            if not self._is_sound():
                self._start_control()
            self._start_server(START_S)

    def quit(self) -> None:
        """End the control daemon and its servers within some seconds, asking first; nothing of them is left."""
        with self._lock:
            if self.pid:
                self._ask_to_quit()
            self._end()
            self._remove_directories()

    def _is_sound(self) -> bool:
        """Whether a control daemon runs and answers: ours, or one that stays."""
        return bool(self.pid) and (self._child is not None or self._stays) and self._answers()

    def _answers(self) -> bool:
        try:
            self.shell.servers()
        except PartitionerUnavailable:
            return False
        return True

    def _ask_to_quit(self) -> None:
        for command in ("quit", "quit -t 1"):
            with suppress(PartitionerUnavailable):
                self.shell.ask(command, _QUIT_S)
            if wait_until(lambda: not self.pid, _QUIT_S):
                return

    def _end(self) -> None:
        """End whatever belongs to the pipe directory: of ours, and of an owner that was killed."""
        end_all(left_behind(self.pipes))
        self._child = None
        self._servers = set()

    def _remove_directories(self) -> None:
        for directory in (self.pipes, self.logs):
            shutil.rmtree(directory, ignore_errors=True)

    def _start_control(self) -> None:
        self._end()
        self._remove_directories()
        try:
            self.pipes.mkdir(parents=True, mode=0o700)
            self.logs.mkdir(mode=0o700)
        except OSError as error:
            problem = f"MPS's directory {error.filename} cannot be made ({error.strerror})"
            raise PartitionerUnavailable(problem) from None
        program = str(self.shell.program)
        child = Child([program, FOREGROUND], self.shell.env, self.logs / "control.out", stays=self._stays)
        self._child = child
        if wait_until(lambda: child.has_ended() or (self.pipes / "control").exists(), START_S):
            if not child.has_ended():
                # Its socket is there before it listens.
                wait_until(lambda: child.has_ended() or self._answers(), _LISTEN_S)
                return
            problem = "ended at once"
        else:
            problem = f"was not ready within {START_S:g} s"
        said = self._last_words()
        self._end()
        raise PartitionerUnavailable(f"the MPS control daemon ({program}) {problem}{said}")

    def _start_server(self, within_s: float) -> None:
        """Have a server that takes processes, within that time."""
        deadline = time.monotonic() + within_s
        if not self.shell.servers():
            self._servers = set()
            self.shell.ask(f"start_server -uid {os.getuid()}", within_s)
        while (problem := self.problem()) or not (servers := self.shell.servers()):
            if time.monotonic() >= deadline:
                raise PartitionerUnavailable(f"{problem or 'no MPS server starts'}{self._last_words()}")
            time.sleep(_POLL_S)
        self._servers = set(servers)

    def _last_words(self) -> str:
        """The end of what its programs have written, to be appended to a problem; "" for nothing."""
        for name in ("server.log", "control.log", "control.out"):
            with suppress(OSError):
                if text := (self.logs / name).read_text(errors="replace").strip():
                    return f"; its last words ({name}): {in_a_line(' '.join(text.splitlines()[-3:]))}"
        return ""

    # --- recovering --------------------------------------------------------------------------------------------------

    def recover(self, within_s: float = RECOVER_S) -> None:
        """After a fault, with no process left: be ready for new ones.

        A server gets well by itself once all processes that it served have ended. If it does not before long, it is
        shut down and another is started; if that does not help, the control daemon as well.
        """
        deadline = time.monotonic() + within_s
        with self._lock:
            with suppress(PartitionerUnavailable):  # else the control daemon is to blame, and is replaced
                if self._is_sound() and (self._gets_well() or self._has_new_server()):
                    return
            self._start_control()
            self._start_server(max(_SELF_HEALING_S, deadline - time.monotonic()))

    def _gets_well(self) -> bool:
        """Whether its server takes processes again before long; one that has gone does not."""
        servers = set(self.shell.servers())
        has_one = bool(servers) and self._servers <= servers
        return has_one and wait_until(lambda: not self.problem(), _SELF_HEALING_S)

    def _has_new_server(self) -> bool:
        before = self.shell.servers()
        self._servers = set()
        for server in before:
            self.shell.ask(f"shutdown_server {server} -f", _SHUTDOWN_S)
        if not wait_until(lambda: not set(before) & set(self.shell.servers()), _SHUTDOWN_S):
            return False
        self._start_server(_NEW_SERVER_S)
        return True


def log_directory(pipes: Path) -> Path:
    """Where the logs of the control daemon of a pipe directory lie: not in that, where it makes a pipe called log."""
    return pipes.with_name(f"{pipes.name}-log")


def pipe_directory(directory: Path) -> Path:
    """`directory`, or one of this user in /tmp that stands for it, if sockets in it would have too long a path."""
    if len(os.fsencode(directory)) + 1 + _LONGEST_NAME_BYTES <= _LONGEST_SOCKET_BYTES:
        return directory
    parent = Path(f"/tmp/fastgshare-mps-{os.getuid()}")
    with suppress(FileExistsError):
        parent.mkdir(mode=0o700)
    found = parent.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PartitionerUnavailable(f"{parent} is not a directory of user {os.getuid()} alone (mode 0700)")
    return parent / hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]
