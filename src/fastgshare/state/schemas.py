"""The layout of the database, by version."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from fastgshare.state.errors import StateUnavailable

_APPLICATION_ID: Final = 0x46615354
"""What tells our database from any other: "FaST" in ASCII."""

_STEPS: Final = (
    """
    CREATE TABLE deployments (
        name TEXT PRIMARY KEY NOT NULL,
        function TEXT NOT NULL,
        replicas INTEGER NOT NULL,
        created_unix_s REAL NOT NULL
    ) STRICT
    """,
)
"""What turns version i into version i + 1. Steps are only ever added."""

VERSION: Final = len(_STEPS)
"""The version this program writes."""


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Bring a database, new or old, to this program's version, in one transaction.

    Raises `StateUnavailable` if it was written by a newer program or belongs to another one, and `sqlite3.Error`.
    """
    _check(connection, path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("BEGIN IMMEDIATE")
    try:
        for step in _STEPS[_version(connection) :]:
            connection.execute(step)
        connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
    except BaseException:
        if connection.in_transaction:  # a full disk has ended it already
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _check(connection: sqlite3.Connection, path: Path) -> None:
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if tables and application_id != _APPLICATION_ID:
        raise StateUnavailable(path, "it is the database of another program")
    version = _version(connection)
    if version > VERSION:
        raise StateUnavailable(
            path,
            f"written by a newer FaST-GShare (version {version} of the layout, this one knows up to {VERSION}); "
            "use that one, or another directory",
        )


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)
