"""Questioning: the open questions, each asked for as long as there is time."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from fastgshare.gpucheck.benches import Bench
from fastgshare.gpucheck.findings import Findings, NotThere
from fastgshare.gpucheck.questions import ALL
from fastgshare.gpucheck.questions.answers import Answer, Question, ask

_COLUMNS: Final = {"question": "question", "found": "found", "missing": "no answer, because", "took_s": "s"}
_KEPT_S: Final = 1.0
"""Of the section's time, for writing."""
_LEAST_S: Final = 1.0
_MOST_ROWS: Final = 40
"""Of a table on the page; the JSON has those of longer ones."""


async def work(bench: Bench, findings: Findings, questions: Sequence[Question] = ALL) -> None:
    """One after the other. Raises `NotThere` if none has an answer."""
    table = findings.table("Answers", _COLUMNS)
    for question in questions:
        bench.say(question.QUESTION)
        began_s = time.monotonic()
        found = await _within_its_time(question, bench)
        table.rows.append(_row(found, time.monotonic() - began_s))
        for key, value in found.details.items():
            if _is_table(value):
                _tell(findings, f"{found.question} {_words(key).capitalize()}", value)
    if not any(row["found"] for row in table.rows):
        raise NotThere("; ".join(f"{row['question']} {row['missing']}" for row in table.rows))


async def _within_its_time(question: Question, bench: Bench) -> Answer:
    within_s = min(question.LIMIT_S, bench.left_s - _KEPT_S)
    if within_s < _LEAST_S:
        return Answer(question.QUESTION, "", {}, "no time was left")
    return await ask(question, bench, within_s)


def _row(answer: Answer, took_s: float) -> dict[str, Any]:
    details = {key: value for key, value in answer.details.items() if not _is_table(value)}
    return {
        "question": answer.question,
        "found": answer.found,
        "missing": answer.missing,
        "took_s": round(took_s, 1),
        "details": details,
    }


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, Mapping) for row in value)


def _tell(findings: Findings, title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    columns = {key: _words(key) for row in rows for key in row}
    findings.table(title, columns, shown=len(rows) <= _MOST_ROWS).rows += rows


def _words(key: str) -> str:
    return key.replace("_", " ")
