"""Conformity: what `fastgshare.conformance` tries, on this device, topic by topic for as long as there is time."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

from fastgshare.conformance.rows import Row, Verdict
from fastgshare.conformance.suite import TOPICS, run
from fastgshare.domain.errors import FastGShareError
from fastgshare.gpucheck.benches import Bench
from fastgshare.gpucheck.deadlines import within
from fastgshare.gpucheck.findings import Findings, Goal, NotThere, Table
from fastgshare.native import library

FIRST: Final = (
    "launches",
    "accuracy",
    "allocations",
    "memory",
    "neighbours",
    "SM sum",
    "captures",
    "streams",
    "limits",
)
"""In order of worth; the rest follows in the suite's own order."""

LONGEST_S: Final = 45.0
"""Of one topic: one that hangs does not cost the others their turn."""

_TOPICS: Final = {
    "topic": "topic",
    "passed": "passed",
    "failed": "failed",
    "not_applicable": "not applicable",
    "took_s": "s",
    "why": "",
}
_ROWS: Final = {"result": "result", "name": "what was tried", "figure": "figure"}


def order() -> list[str]:
    """All topics, those of most worth first."""
    return [*FIRST, *(topic for topic in TOPICS if topic not in FIRST)]


async def work(bench: Bench, findings: Findings) -> None:
    """Topic by topic; what did not run is told as not run."""
    library("probes/probe")
    topics = findings.table("Topics", _TOPICS)
    quotas = findings.table("Error of quotas", _ROWS)
    failures = findings.table("Rows that failed", _ROWS)
    every = findings.table("All rows", _ROWS, shown=False)
    for topic in order():
        row, rows = await _try(bench, topic, bench.base(mps=await _has_mps(bench, findings)))
        topics.rows.append(row)
        every.rows += map(_shown, rows)
        quotas.rows += [_shown(each) for each in rows if each.topic in ("quota", "SM sum")]
        failures.rows += [_shown(each) for each in rows if each.result is Verdict.FAIL]
        findings.goals[:] = [goal(topics)]


async def _has_mps(bench: Bench, findings: Findings) -> bool:
    """Whether MPS serves the next topic: the one before may have ended processes at work, and its server with them."""
    try:
        await bench.open_mps()
    except NotThere as error:
        remark = f"without MPS, SMs are not divided and rows on parts of them mean little: {error}"
        if remark not in findings.remarks:
            findings.remarks.append(remark)
        return False
    return True


async def _try(bench: Bench, topic: str, base: Mapping[str, str]) -> tuple[dict[str, object], list[Row]]:
    began_s = time.monotonic()
    if bench.left_s < 1:
        return {"topic": topic, "why": "not run: the section's time was over"}, []
    limit_s = min(LONGEST_S, bench.left_s - 0.5)
    try:
        report = await within(limit_s, run(bench.device, bench.folder(), topics=[topic], base=base))
    except TimeoutError:
        return {"topic": topic, "why": f"not finished within {limit_s:.0f} s"}, []
    except (FastGShareError, OSError, ExceptionGroup) as error:
        cause = error.exceptions[0] if isinstance(error, ExceptionGroup) else error
        return {"topic": topic, "why": f"not finished: {cause}"}, []
    counts = {name: report.count(verdict) for name, verdict in _VERDICTS.items()}
    return {"topic": topic, **counts, "took_s": round(time.monotonic() - began_s, 1)}, list(report.rows)


_VERDICTS: Final[Mapping[str, Verdict]] = {
    "passed": Verdict.PASS,
    "failed": Verdict.FAIL,
    "not_applicable": Verdict.NOT_APPLICABLE,
}


def _shown(row: Row) -> dict[str, object]:
    return {"result": str(row.result), "name": row.name, "figure": row.figure}


def goal(topics: Table) -> Goal:
    """All that was tried passes; where something was not tried to its end and nothing failed, nobody can say."""
    passed, failed = (sum(int(str(row.get(key, 0))) for row in topics.rows) for key in ("passed", "failed"))
    unfinished = sum(1 for row in topics.rows if row.get("why"))
    figure = f"{passed} passed, {failed} failed" + (f", {unfinished} topics not finished" if unfinished else "")
    met = False if failed else None if unfinished else True
    return Goal("conformance", figure, "no row fails", met, "not finished")
