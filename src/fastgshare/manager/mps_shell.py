"""The shell of MPS's control program: commands that a control daemon answers."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Final

from fastgshare.domain.errors import PartitionerUnavailable

ANSWER_S: Final = 3.0
"""How long an answer to a command may take."""
_LONGEST: Final = 200


class ServerState(StrEnum):
    """What an MPS server says of itself; gone: there is none of that number."""

    INITIALIZING = "INITIALIZING"
    ACTIVE = "ACTIVE"
    FAULT = "FAULT"
    GONE = "GONE"


class MpsShell:
    """Asks the control daemon that serves programs with an environment. program: the control program.

    Every method blocks, for a bounded time, and raises `PartitionerUnavailable` if there is no answer, or none that it
    understands.
    """

    def __init__(self, program: Path, env: Mapping[str, str]) -> None:
        self.program: Final = program
        self.env: Final = dict(env)

    def ask(self, command: str, within_s: float = ANSWER_S) -> str:
        """What the control daemon answers to a command."""
        try:
            answer = subprocess.run(
                [str(self.program)],
                input=f"{command}\n",
                env=self.env,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=within_s,
                check=False,  # what it says tells more than its exit status
            )
        except subprocess.TimeoutExpired:
            raise PartitionerUnavailable(f"MPS did not answer `{command}` within {within_s:g} s") from None
        except OSError as error:
            raise PartitionerUnavailable(f"{self.program} cannot be run: {error.strerror}") from None
        if answer.returncode != 0:
            said = in_a_line(answer.stderr or answer.stdout) or f"exit status {answer.returncode}"
            raise PartitionerUnavailable(f"MPS refused `{command}`: {said}")
        return answer.stdout

    def servers(self) -> list[int]:
        """Process ids of its servers: mostly one, or none."""
        return self._numbers("get_server_list")

    def processes(self) -> list[int]:
        """Process ids of those on the device through it, over all servers."""
        return [pid for server in self.servers() for pid in self._numbers(f"get_client_list {server}")]

    def status(self, server: int) -> ServerState:
        """What a server says of itself."""
        answer = self.ask(f"get_server_status {server}")
        for word in answer.upper().replace(".", " ").split():
            if word in ServerState.__members__:
                return ServerState(word)
        if server not in self.servers():
            return ServerState.GONE
        raise PartitionerUnavailable(f"MPS says of server {server}: {in_a_line(answer) or 'nothing'}")

    def illness(self, servers: Iterable[int]) -> str:
        """Why servers do not take processes, or do not work for them; "" if all are well."""
        for server in servers:
            if (state := self.status(server)) is not ServerState.ACTIVE:
                return f"MPS server {server} is in state {state}"
        return ""

    def _numbers(self, command: str) -> list[int]:
        words = self.ask(command).split()
        if not all(word.isascii() and word.isdecimal() for word in words):
            raise PartitionerUnavailable(f"MPS answers `{command}` with: {in_a_line(' '.join(words))}")
        return [int(word) for word in words]


def in_a_line(text: str) -> str:
    """A text on one line, and not a long one."""
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..."
