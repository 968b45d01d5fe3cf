"""What instances wrote, by function: the last lines in memory, and on disk for after a restart."""

from __future__ import annotations

import logging
import re
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final

from fastgshare.domain.logs import LogLine

_LINES: Final = 2000
"""Lines kept in memory for a function."""
_LINE_CHARACTERS: Final = 8192
_FILE_BYTES: Final = 2**20
"""Where a file is set aside for a new one; the one set aside before is dropped."""
_FORM: Final = re.compile(r"(\S+) (\S+) (.*)", re.DOTALL)
_LOGGER: Final = logging.getLogger(__name__)


class LogBook:
    """Log lines of all functions, bounded in memory and on disk.

    directory: where the files are kept, made if need be; None keeps nothing. A disk that is full costs the files,
    never an instance or a request.
    """

    def __init__(self, directory: Path | None, *, now_unix_s: Callable[[], float] = time.time) -> None:
        self._directory = directory
        self._now_unix_s = now_unix_s
        self._lines: dict[str, deque[LogLine]] = {}
        self._files: dict[str, BinaryIO] = {}

    def write(self, function_name: str, instance_id: str, text: str) -> None:
        """Keep a line, cut if it is long."""
        line = LogLine(function_name, instance_id, self._now_unix_s(), text[:_LINE_CHARACTERS])
        self._of(function_name).append(line)
        if self._directory is not None:
            self._keep(self._directory, line)

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()
        self._files.clear()

    def tail(self, function_name: str, count: int) -> Sequence[LogLine]:
        """The last lines of a function, oldest first."""
        lines = self._of(function_name)
        return list(lines)[max(0, len(lines) - count) :]

    def last_words(self, function_name: str, instance_id: str) -> str:
        """The last line of an instance that says something; "" if there is none."""
        lines = (line.text.strip() for line in reversed(self._of(function_name)) if line.instance_id == instance_id)
        return next((text for text in lines if text), "")

    def _of(self, function_name: str) -> deque[LogLine]:
        if function_name not in self._lines:
            self._lines[function_name] = deque(self._kept(function_name), maxlen=_LINES)
        return self._lines[function_name]

    def _keep(self, directory: Path, line: LogLine) -> None:
        when = datetime.fromtimestamp(line.unix_s, UTC).isoformat(timespec="milliseconds")
        try:
            file = self._file(directory, line.function_name)
            file.write(f"{when} {line.instance_id} {line.text}\n".encode("utf-8", "backslashreplace"))
            if file.tell() > _FILE_BYTES:
                self._set_aside(directory, line.function_name)
        except OSError as error:
            _LOGGER.warning("log lines are kept in memory only from now on: %s", error)
            self._directory = None

    def _file(self, directory: Path, function_name: str) -> BinaryIO:
        if function_name not in self._files:
            directory.mkdir(parents=True, exist_ok=True)
            # Without a buffer: every line is a write of its own, so none is lost with this process.
            self._files[function_name] = (directory / f"{function_name}.log").open("ab", buffering=0)
        return self._files[function_name]

    def _set_aside(self, directory: Path, function_name: str) -> None:
        self._files.pop(function_name).close()
        path = directory / f"{function_name}.log"
        path.replace(path.with_suffix(".log.1"))

    def _kept(self, function_name: str) -> list[LogLine]:
        if self._directory is None:
            return []
        texts: list[str] = []
        for name in (f"{function_name}.log.1", f"{function_name}.log"):
            try:
                texts += (self._directory / name).read_bytes().decode("utf-8", "replace").split("\n")
            except OSError:
                continue
        return [line for text in texts[-_LINES:] if (line := _parse(function_name, text)) is not None]


def _parse(function_name: str, text: str) -> LogLine | None:
    """A line of a file; None if it was cut short by the end of the process that wrote it."""
    match = _FORM.fullmatch(text)
    if match is None:
        return None
    try:
        when_s = datetime.fromisoformat(match[1]).timestamp()
    except ValueError:
        return None
    return LogLine(function_name, match[2], when_s, match[3])
