"""What trials measured, in SQLite: the table `trials` of `schemas.PROFILES`, a row a trial."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from fastgshare.domain.errors import InvalidValue
from fastgshare.domain.profiles import Configuration, Figures, Outcome, Subject, Trial
from fastgshare.state.databases import explained, open_database
from fastgshare.state.errors import StateUnavailable
from fastgshare.state.schemas import PROFILES

FILE: Final = "profiles.sqlite"
"""Its name in a state directory."""

_BUSY_S: Final = 10.0
_MOST: Final = 2**63 - 1
_SUBJECT: Final = ("function", "model_digest", "device_type")
_ASKED: Final = ("asked_sm", "asked_quota", "asked_batch")
_GIVEN: Final = ("given_sm", "given_quota", "given_batch")
_FIGURES: Final = (
    "rps",
    "rps_error",
    "p50_s",
    "p95_s",
    "p99_s",
    "sm_utilisation",
    "sm_occupancy",
    "mem_bytes",
    "received_quota",
)
_LOAD: Final = ("offered_rps", "within_s", "seed", "started_unix_s", "took_s", "reason", "source")
_COLUMNS: Final = (*_SUBJECT, *_ASKED, *_GIVEN, "outcome", *_FIGURES, *_LOAD, "versions", "histogram")
_NAMES: Final = ", ".join(_COLUMNS)
_PLACES: Final = ", ".join("?" * len(_COLUMNS))
_EQUAL: Final = " AND ".join(f"{column} IS ?" for column in _COLUMNS)

_ADD: Final = f"INSERT INTO trials ({_NAMES}) VALUES ({_PLACES})"
_ADD_NEW: Final = (
    f"INSERT INTO trials ({_NAMES}) SELECT {_PLACES} WHERE NOT EXISTS (SELECT 1 FROM trials WHERE {_EQUAL})"
)
_TRIALS: Final = (
    f"SELECT id, {_NAMES} FROM trials WHERE function = ? AND model_digest = ? AND device_type = ? ORDER BY id"
)
_SUBJECTS: Final = "SELECT DISTINCT function, model_digest, device_type FROM trials ORDER BY 1, 3, 2"


class ProfileStore:
    """`profiler.ports.Profiles` in one SQLite file, made with its directory if need be.

    What a method has accepted survives kill -9 and loss of power; several processes may add at once. Every method
    raises `StateUnavailable` if the file cannot be read or written; then nothing has changed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise StateUnavailable(path, f"its directory cannot be made ({error.strerror})") from None
        self._connection = open_database(path, PROFILES, busy_s=_BUSY_S)

    def add(self, trial: Trial) -> None:
        """Keep a trial, beside all others. Raises `InvalidValue` for numbers that are not finite or too large."""
        values = _row(trial)
        with explained(self._path):
            self._connection.execute(_ADD, values)

    def add_new(self, trials: Iterable[Trial]) -> int:
        """Keep all trials of which the very same is not here yet, or none of them; how many those were.

        Raises `InvalidValue` as `add` does.
        """
        rows = [_row(trial) for trial in trials]
        with self._transaction():
            return sum(self._connection.execute(_ADD_NEW, row + row).rowcount for row in rows)

    def trials(self, subject: Subject) -> Sequence[Trial]:
        """All trials of a subject, in the order in which they came; never those of another model or device type."""
        with explained(self._path):
            rows = self._connection.execute(_TRIALS, _of_subject(subject)).fetchall()
        return [self._trial(*row) for row in rows]

    def subjects(self) -> Sequence[Subject]:
        """Whatever there are trials of, by function, device type and model."""
        with explained(self._path):
            return [Subject(*row) for row in self._connection.execute(_SUBJECTS).fetchall()]

    def close(self) -> None:
        """Close the file. The store cannot be used any more."""
        self._connection.close()

    def __enter__(self) -> ProfileStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with explained(self._path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # a full disk has ended it already
                    self._connection.execute("ROLLBACK")
                raise

    def _trial(self, id_: int, *row: Any) -> Trial:
        try:
            return _trial(dict(zip(_COLUMNS, row, strict=True)))
        except (ValueError, TypeError, InvalidValue) as error:
            raise StateUnavailable(self._path, f"trial {id_} cannot be read: {error}") from error


def _row(trial: Trial) -> tuple[Any, ...]:
    """A trial's values in the order of the columns."""
    figures = [None] * len(_FIGURES) if trial.figures is None else [getattr(trial.figures, name) for name in _FIGURES]
    return (
        *_of_subject(trial.subject),
        *_of_configuration(trial.asked),
        *_of_configuration(trial.given),
        trial.outcome.value,
        *(_checked(name, value) for name, value in zip(_FIGURES, figures, strict=True)),
        *(_checked(name, getattr(trial, name)) for name in _LOAD),
        json.dumps(dict(trial.versions), sort_keys=True),
        bytes(trial.histogram),
    )


def _of_subject(subject: Subject) -> tuple[str, str, str]:
    return subject.function, subject.model_digest, subject.device_type


def _of_configuration(configuration: Configuration) -> tuple[float, float, int]:
    return configuration.sm, configuration.quota, configuration.batch


def _checked(field: str, value: Any) -> Any:
    """The value, which SQLite can give back as it was: it would keep nan as nothing at all."""
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidValue(field, value, "a finite number")
    if isinstance(value, int) and abs(value) > _MOST:
        raise InvalidValue(field, value, f"a whole number up to {_MOST}")
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def _trial(row: dict[str, Any]) -> Trial:
    figures = {name: row[name] for name in _FIGURES}
    return Trial(
        Subject(*(row[name] for name in _SUBJECT)),
        Configuration(*(row[name] for name in _ASKED)),
        Configuration(*(row[name] for name in _GIVEN)),
        Outcome(row["outcome"]),
        None if row["rps"] is None else Figures(**figures),
        **{name: row[name] for name in _LOAD},
        versions=MappingProxyType(json.loads(row["versions"])),
        histogram=row["histogram"],
    )
