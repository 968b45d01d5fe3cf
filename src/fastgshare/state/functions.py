"""The functions a user has deployed, in SQLite."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from fastgshare.domain.deployments import Deployment
from fastgshare.domain.errors import InvalidValue, NotFound
from fastgshare.domain.functions import Function
from fastgshare.state.databases import explained, open_database
from fastgshare.state.errors import StateUnavailable
from fastgshare.state.schemas import FUNCTIONS

_BUSY_S: Final = 2.0

Encode = Callable[[Function], dict[str, object]]
Decode = Callable[[dict[str, object]], Function]


class FunctionStore:
    """`domain.ports.Functions` in one SQLite file. What a method has accepted survives kill -9 and loss of power.

    encode, decode: how a function becomes a document and back (`spec.functions.dump` and `load`).
    Every method raises `StateUnavailable` if the file cannot be read or written; then nothing has changed.
    """

    def __init__(
        self, path: Path, *, encode: Encode, decode: Decode, now_unix_s: Callable[[], float] = time.time
    ) -> None:
        self._path = path
        self._encode = encode
        self._decode = decode
        self._now_unix_s = now_unix_s
        self._connection = open_database(path, FUNCTIONS, busy_s=_BUSY_S)

    def put(self, function: Function, replicas: int) -> None:
        """Store a function, or replace the one of that name (its creation time stays)."""
        row = (function.name, json.dumps(self._encode(function)), replicas, self._now_unix_s())
        self._execute(
            "INSERT INTO deployments (name, function, replicas, created_unix_s) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (name) DO UPDATE SET function = excluded.function, replicas = excluded.replicas",
            row,
        )

    def get(self, name: str) -> Deployment:
        """The deployment of a name. Raises `NotFound`."""
        rows = self._execute("SELECT function, replicas, created_unix_s FROM deployments WHERE name = ?", (name,))
        if not rows:
            raise NotFound("function", name)
        return self._deployment(name, *rows[0])

    def remove(self, name: str) -> None:
        """Forget a function. Raises `NotFound`."""
        if not self._execute("DELETE FROM deployments WHERE name = ? RETURNING name", (name,)):
            raise NotFound("function", name)

    def all(self) -> Sequence[Deployment]:
        """All deployments, by name."""
        rows = self._execute("SELECT name, function, replicas, created_unix_s FROM deployments ORDER BY name")
        return [self._deployment(*row) for row in rows]

    def close(self) -> None:
        """Close the file. The store cannot be used any more."""
        self._connection.close()

    def _execute(self, statement: str, values: tuple[object, ...] = ()) -> list[Any]:
        """One statement, committed before it returns."""
        with explained(self._path):
            return self._connection.execute(statement, values).fetchall()

    def _deployment(self, name: str, document: str, replicas: int, created_unix_s: float) -> Deployment:
        try:
            return Deployment(self._decode(json.loads(document)), replicas, created_unix_s)
        except (ValueError, InvalidValue) as error:
            raise StateUnavailable(self._path, f"function {name!r} cannot be read: {error}") from error
