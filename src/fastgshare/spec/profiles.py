"""Profiles as files: JSON and CSV with everything of a trial, and the CSV in which profiles have been published."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from fastgshare.domain.errors import InvalidValue
from fastgshare.domain.profiles import Configuration, Figures, Outcome, Subject, Trial
from fastgshare.spec import problems
from fastgshare.spec.json_lines import line_of
from fastgshare.spec.problems import Problem
from fastgshare.spec.trials import FileDocument, PublishedRow, TrialDocument

FORMAT: Final = "fastgshare-profiles"
VERSION: Final = 1
_MOST_CHARACTERS: Final = 2**24
"""Of one cell; the csv module would stop at fewer than a large histogram has."""

_ASKED: Final[dict[str, tuple[str, ...]]] = {f"asked_{name}": ("asked", name) for name in ("sm", "quota", "batch")}
_GIVEN: Final[dict[str, tuple[str, ...]]] = {f"given_{name}": ("given", name) for name in ("sm", "quota", "batch")}
_FIGURES: Final = tuple(Figures.__dataclass_fields__)
_PLACES: Final[dict[str, tuple[str, ...]]] = {
    **{name: (name,) for name in ("function", "model_digest", "device_type")},
    **_ASKED,
    **_GIVEN,
    "outcome": ("outcome",),
    **{name: ("figures", name) for name in _FIGURES},
    **{name: (name,) for name in ("offered_rps", "within_s", "seed", "started_unix_s", "took_s", "reason", "source")},
    "versions": ("versions",),
    "histogram": ("histogram",),
}
"""Column of the CSV -> where its value stands in a trial's document."""

COLUMNS: Final = tuple(_PLACES)
"""The header of the CSV."""
PUBLISHED: Final = ("gpuName", "model", "quota", "sm", "qps")
"""The header of the published CSV; its columns may stand in any order."""


def dump(trial: Trial) -> dict[str, Any]:
    """A trial as JSON values; the histogram in base64."""
    figures = trial.figures
    return {
        "function": trial.subject.function,
        "model_digest": trial.subject.model_digest,
        "device_type": trial.subject.device_type,
        "asked": _dump_configuration(trial.asked),
        "given": _dump_configuration(trial.given),
        "outcome": trial.outcome.value,
        "figures": None if figures is None else {name: getattr(figures, name) for name in _FIGURES},
        "offered_rps": trial.offered_rps,
        "within_s": trial.within_s,
        "seed": trial.seed,
        "started_unix_s": trial.started_unix_s,
        "took_s": trial.took_s,
        "reason": trial.reason,
        "source": trial.source,
        "versions": dict(trial.versions),
        "histogram": base64.b64encode(trial.histogram).decode(),
    }


def load(document: object) -> Trial:
    """The trial of a document. Raises `Problem` naming the field, its value and what is allowed."""
    return _trial(problems.parse(TrialDocument, document))


def to_json(trials: Iterable[Trial]) -> str:
    """A file with trials, from which `load_file` gives back equal ones."""
    document = {"format": FORMAT, "version": VERSION, "trials": [dump(trial) for trial in trials]}
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def to_csv(trials: Iterable[Trial]) -> str:
    """A file with a row a trial under the header `COLUMNS`, from which `load_file` gives back equal ones.

    A cell is empty where nothing is known; `versions` is a JSON object, `histogram` base64.
    """
    return "".join(f"{','.join(row)}\n" for row in (COLUMNS, *(_cells(dump(trial)) for trial in trials)))


def load_file(path: Path) -> list[Trial]:
    """The trials of a file that `to_json` or `to_csv` wrote, or in the published shape; which, the file says itself.

    Raises `InvalidValue` naming file, line, field, value and what is allowed.
    """
    text = _text(path)
    return _load_json(path, text) if text.lstrip()[:1] in ("{", "[") else _load_csv(path, text)


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InvalidValue("file", str(path), f"a file that can be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise InvalidValue("file", str(path), "JSON or CSV in UTF-8") from None


def _load_json(path: Path, text: str) -> list[Trial]:
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        line = text.splitlines()[error.lineno - 1 : error.lineno]
        raise InvalidValue(f"{path}, line {error.lineno}", "".join(line).strip()[:80], f"JSON: {error.msg}") from None
    except RecursionError:
        raise InvalidValue(f"{path}", text[:20], "JSON that is nested less deeply") from None
    try:
        parsed = problems.parse(FileDocument, document)
    except Problem as problem:
        raise _located(path, line_of(text, problem.path), problem.field, problem) from None
    return [_trial(trial) for trial in parsed.trials]


def _load_csv(path: Path, text: str) -> list[Trial]:
    rows = _rows(path, text)
    _, header = next(rows, (1, []))
    if sorted(header) == sorted(PUBLISHED):
        return _published(path, header, rows)
    _check_header(path, header)
    return [_of_cells(path, line, dict(zip(header, cells, strict=True))) for line, cells in _whole(path, header, rows)]


def _check_header(path: Path, header: Sequence[str]) -> None:
    """Columns may stand in any order, and those that a trial can do without may be missing."""
    field = f"{path}, line 1: header"
    for name in header:
        if name not in _PLACES or header.count(name) > 1:
            allowed = f"each once, of {','.join(COLUMNS)}; or {','.join(PUBLISHED)}"
            raise InvalidValue(field, name, allowed)
    missing = [name for name in ("function", "device_type", *_ASKED, *_GIVEN, "outcome", "rps") if name not in header]
    if missing:
        raise InvalidValue(field, ",".join(header), f"one that has {missing[0]} too; or {','.join(PUBLISHED)}")


def _rows(path: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """Rows that are not empty, each with the line where it begins."""
    csv.field_size_limit(_MOST_CHARACTERS)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    line = 1
    try:
        for cells in reader:
            if cells:
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise InvalidValue(f"{path}, line {line}", _line(text, line), f"CSV: {error}") from None


def _line(text: str, line: int) -> str:
    return "".join(text.splitlines()[line - 1 : line])[:80]


def _whole(path: Path, header: Sequence[str], rows: Iterable[tuple[int, list[str]]]) -> Iterator[tuple[int, list[str]]]:
    """The rows, as long as each has a cell for every column. Raises `InvalidValue` for one that has not."""
    for line, cells in rows:
        if len(cells) != len(header):
            raise InvalidValue(f"{path}, line {line}: row", ",".join(cells), f"{len(header)} cells: {','.join(header)}")
        yield line, cells


def _of_cells(path: Path, line: int, cells: Mapping[str, str]) -> Trial:
    try:
        return load(_document(cells))
    except Problem as problem:
        column = next((name for name, place in _PLACES.items() if place == problem.path[: len(place)]), problem.field)
        raise _located(path, line, column, problem) from None


def _document(cells: Mapping[str, str]) -> dict[str, Any]:
    """The document of a row; what is empty, but for text, is not there. No rps: no figures."""
    document: dict[str, Any] = {"asked": {}, "given": {}, "figures": {}}
    for name, cell in cells.items():
        place = _PLACES[name]
        inner = document if len(place) == 1 else document[place[0]]
        if cell or name in ("function", "device_type", "outcome"):
            inner[place[-1]] = _versions(cell) if name == "versions" else cell
    if not document["figures"]:
        document["figures"] = None
    return document


def _versions(cell: str) -> object:
    try:
        return json.loads(cell)
    except (ValueError, RecursionError):
        return cell


def _published(path: Path, header: Sequence[str], rows: Iterable[tuple[int, list[str]]]) -> list[Trial]:
    """Trials of a published table: quotas are percent if any of them is above 1, else fractions; SMs likewise."""
    parsed = [
        _published_row(path, line, dict(zip(header, row, strict=True))) for line, row in _whole(path, header, rows)
    ]
    quota_unit = 100 if any(row.quota > 1 for row in parsed) else 1
    sm_unit = 1 if any(row.sm > 1 for row in parsed) else 100
    return [_of_published(row, Configuration(round(row.sm * sm_unit, 9), row.quota / quota_unit)) for row in parsed]


def _published_row(path: Path, line: int, cells: Mapping[str, str]) -> PublishedRow:
    try:
        return problems.parse(PublishedRow, cells)
    except Problem as problem:
        raise _located(path, line, problem.field, problem) from None


def _of_published(row: PublishedRow, configuration: Configuration) -> Trial:
    subject = Subject(row.model, "", row.gpu_name)
    return Trial(subject, configuration, configuration, Outcome.MEASURED, Figures(row.qps), source="import")


def _located(path: Path, line: int, field: str, problem: Problem) -> InvalidValue:
    return InvalidValue(f"{path}, line {line}: {field}", problem.value, problem.allowed)


def _dump_configuration(configuration: Configuration) -> dict[str, Any]:
    return {"sm": configuration.sm, "quota": configuration.quota, "batch": configuration.batch}


def _trial(parsed: TrialDocument) -> Trial:
    return Trial(
        subject=Subject(parsed.function, parsed.model_digest, parsed.device_type),
        asked=Configuration(parsed.asked.sm, parsed.asked.quota, parsed.asked.batch),
        given=Configuration(parsed.given.sm, parsed.given.quota, parsed.given.batch),
        outcome=parsed.outcome,
        figures=None if parsed.figures is None else Figures(**parsed.figures.model_dump()),
        offered_rps=parsed.offered_rps,
        within_s=parsed.within_s,
        seed=parsed.seed,
        started_unix_s=parsed.started_unix_s,
        took_s=parsed.took_s,
        reason=parsed.reason,
        source=parsed.source,
        versions=MappingProxyType(parsed.versions),
        histogram=parsed.histogram,
    )


def _cells(document: Mapping[str, Any]) -> Iterator[str]:
    for place in _PLACES.values():
        value = problems.value_at(document, place)
        yield _cell(json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value)


def _cell(value: object) -> str:
    """A cell, in quotes where need be; numbers so that they come back as they are."""
    text = "" if value is None else repr(value) if isinstance(value, float) else str(value)
    quoted = any(character in text for character in ',"\r\n')
    return '"' + text.replace('"', '""') + '"' if quoted else text
