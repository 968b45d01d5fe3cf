"""The layouts of the databases, by version."""

from __future__ import annotations

import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fastgshare.state.errors import StateUnavailable

_PATIENCE_S: Final = 2.0
_RETRY_S: Final = 0.01


@dataclass(frozen=True, slots=True)
class Layout:
    """What a database of ours is made of.

    application_id: what tells it from any other. steps: what turns version i into version i + 1; only ever added to.
    """

    application_id: int
    steps: tuple[str, ...]

    @property
    def version(self) -> int:
        """The version this program writes."""
        return len(self.steps)


FUNCTIONS: Final = Layout(
    0x46615354,  # "FaST" in ASCII
    (
        """
        CREATE TABLE deployments (
            name TEXT PRIMARY KEY NOT NULL,
            function TEXT NOT NULL,
            replicas INTEGER NOT NULL,
            created_unix_s REAL NOT NULL
        ) STRICT
        """,
    ),
)

PROFILES: Final = Layout(
    0x46615350,  # "FaSP" in ASCII
    (
        """
        CREATE TABLE trials (
            id INTEGER PRIMARY KEY,
            function TEXT NOT NULL,
            model_digest TEXT NOT NULL,
            device_type TEXT NOT NULL,
            asked_sm REAL NOT NULL,
            asked_quota REAL NOT NULL,
            asked_batch INTEGER NOT NULL,
            given_sm REAL NOT NULL,
            given_quota REAL NOT NULL,
            given_batch INTEGER NOT NULL,
            outcome TEXT NOT NULL,
            rps REAL,
            rps_error REAL,
            p50_s REAL,
            p95_s REAL,
            p99_s REAL,
            sm_utilisation REAL,
            sm_occupancy REAL,
            mem_bytes INTEGER,
            received_quota REAL,
            offered_rps REAL NOT NULL,
            within_s REAL NOT NULL,
            seed INTEGER NOT NULL,
            started_unix_s REAL NOT NULL,
            took_s REAL NOT NULL,
            reason TEXT NOT NULL,
            source TEXT NOT NULL,
            versions TEXT NOT NULL,
            histogram BLOB NOT NULL
        ) STRICT
        """,
        "CREATE INDEX trials_of_subject ON trials (function, model_digest, device_type)",
    ),
)

VERSION: Final = FUNCTIONS.version
"""The version of the functions' database that this program writes."""


def migrate(connection: sqlite3.Connection, path: Path, layout: Layout = FUNCTIONS) -> None:
    """Bring a database, new or old, to this program's version of its layout, in one transaction.

    Raises `StateUnavailable` if it was written by a newer program or belongs to another one, and `sqlite3.Error`.
    """
    _check(connection, path, layout)
    _write_ahead(connection)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("BEGIN IMMEDIATE")
    try:
        for step in layout.steps[_version(connection) :]:
            connection.execute(step)
        connection.execute(f"PRAGMA user_version = {layout.version}")
        connection.execute(f"PRAGMA application_id = {layout.application_id}")
    except BaseException:
        if connection.in_transaction:  # a full disk has ended it already
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Have changes written ahead. SQLite does not wait for others here, whatever the connection's patience."""
    give_up_s = time.monotonic() + _PATIENCE_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname != "SQLITE_BUSY" or time.monotonic() > give_up_s:
                raise
            time.sleep(_RETRY_S)
        else:
            return


def _check(connection: sqlite3.Connection, path: Path, layout: Layout) -> None:
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()  # after it: tables come with their id
    if tables and application_id != layout.application_id:
        raise StateUnavailable(path, "it is the database of another program")
    version = _version(connection)
    if version > layout.version:
        raise StateUnavailable(
            path,
            f"written by a newer FaST-GShare (version {version} of the layout, this one knows up to "
            f"{layout.version}); use that one, or another directory",
        )


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)
