"""Findings: what a section of the check has to say: facts, tables, goals and remarks; grown while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from fastgshare.domain.errors import FastGShareError


class NotThere(FastGShareError):
    """What a section would measure is not there, or cannot be used here; the text says why."""


class Status(StrEnum):
    """How a section went. RUNNING: the file was written before it ended, or it never did."""

    REPORTED = "reported"
    NOT_THERE = "not there"
    CUT_OFF = "cut off"
    FAILED = "failed"
    RUNNING = "running"
    NOT_RUN = "not run"


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure that was aimed at. met: None where the figure could not be had, or says nothing (on the stand-in).

    instead: what the page says in place of yes or no where met is None.
    """

    what: str
    figure: str
    aim: str
    met: bool | None
    instead: str = "-"

    def document(self) -> dict[str, object]:
        """As JSON."""
        return {"what": self.what, "figure": self.figure, "aim": self.aim, "met": self.met, "instead": self.instead}


@dataclass(slots=True)
class Table:
    """Rows of figures. columns: key of the rows -> heading; what a row has beside them stands in the JSON alone.

    shown: whether the page shows it; else the JSON alone has it.
    """

    title: str
    columns: Mapping[str, str]
    rows: list[Mapping[str, object]] = field(default_factory=list)
    shown: bool = True

    def document(self) -> dict[str, object]:
        """As JSON."""
        return {"title": self.title, "columns": dict(self.columns), "rows": [dict(row) for row in self.rows]}


@dataclass(slots=True)
class Findings:
    """All that one section found so far. bars: for the picture: model -> requests/s (time sharing, shares)."""

    facts: dict[str, object] = field(default_factory=dict)
    tables: list[Table] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    bars: dict[str, tuple[float, float]] = field(default_factory=dict)

    def table(self, title: str, columns: Mapping[str, str], *, shown: bool = True) -> Table:
        """A new table, to be filled."""
        self.tables.append(Table(title, columns, shown=shown))
        return self.tables[-1]

    def document(self) -> dict[str, object]:
        """As JSON."""
        return {
            "facts": dict(self.facts),
            "tables": [table.document() for table in self.tables],
            "goals": [goal.document() for goal in self.goals],
            "remarks": list(self.remarks),
        }


@dataclass(slots=True)
class Outcome:
    """A section as it stands in the result. why: what stopped it, or kept it from running."""

    name: str
    title: str
    status: Status = Status.NOT_RUN
    why: str = ""
    took_s: float = 0.0
    findings: Findings = field(default_factory=Findings)

    def document(self) -> dict[str, object]:
        """As JSON."""
        head = {"title": self.title, "status": str(self.status), "why": self.why, "took_s": round(self.took_s, 1)}
        return head | self.findings.document()
