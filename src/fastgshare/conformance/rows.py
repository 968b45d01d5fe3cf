"""Rows: what was tried, how it went, and the figure that says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How a row went."""

    PASS = "pass"
    FAIL = "fail"
    NOT_APPLICABLE = "not applicable"


@dataclass(frozen=True, slots=True)
class Row:
    """One promise that was tried. name: "topic: what exactly". figure: what was measured, with its unit.

    disturbed: it failed by too little work, which a machine that is busy with other things could be the cause of.
    """

    name: str
    result: Verdict
    figure: str
    disturbed: bool = False

    @property
    def topic(self) -> str:
        """What its name begins with."""
        return self.name.partition(":")[0]


def judged(name: str, holds: bool, figure: str, *, too_little: bool = False) -> Row:
    """A row that passes or fails. too_little: if it fails, it is for want of work done."""
    return Row(name, Verdict.PASS if holds else Verdict.FAIL, figure, too_little and not holds)


def not_applicable(name: str, reason: str) -> Row:
    """A row about something that is not there."""
    return Row(name, Verdict.NOT_APPLICABLE, reason)


@dataclass(frozen=True, slots=True)
class Report:
    """All rows of a run."""

    rows: Sequence[Row]

    def count(self, verdict: Verdict) -> int:
        """How many rows went so."""
        return sum(row.result is verdict for row in self.rows)

    def document(self) -> dict[str, object]:
        """The report as JSON: rows with name, result and figure, and how many passed, failed, were not applicable."""
        return {
            "rows": [{"name": r.name, "result": str(r.result), "figure": r.figure} for r in self.rows],
            "passed": self.count(Verdict.PASS),
            "failed": self.count(Verdict.FAIL),
            "not_applicable": self.count(Verdict.NOT_APPLICABLE),
        }
