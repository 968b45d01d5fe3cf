"""SQLite files: opened, brought to their layout, and their errors in words."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from fastgshare.state.errors import StateUnavailable
from fastgshare.state.schemas import Layout, migrate

_REASONS: Final = {
    "SQLITE_FULL": "the disk is full",
    "SQLITE_BUSY": "another process keeps it locked",
    "SQLITE_LOCKED": "another process keeps it locked",
    "SQLITE_READONLY": "it cannot be written",
    "SQLITE_CANTOPEN": "it cannot be opened",
    "SQLITE_NOTADB": "it is not a database",
    "SQLITE_CORRUPT": "the database is damaged",
    "SQLITE_IOERR": "reading or writing failed (is the disk full?)",
}


def open_database(path: Path, layout: Layout, *, busy_s: float) -> sqlite3.Connection:
    """A connection to a file of this layout, made or brought up to date if need be; each statement commits by itself.

    busy_s: how long to wait for other processes. Raises `StateUnavailable`.
    """
    with explained(path):
        connection = sqlite3.connect(path, timeout=busy_s, isolation_level=None)
    try:
        with explained(path):
            migrate(connection, path, layout)
    except StateUnavailable:
        connection.close()
        raise
    return connection


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """SQLite's errors inside as `StateUnavailable`."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorname", "") or ""
        known = (reason for prefix, reason in _REASONS.items() if code.startswith(prefix))
        raise StateUnavailable(path, next(known, str(error))) from error
