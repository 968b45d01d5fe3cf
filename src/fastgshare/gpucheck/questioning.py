"""Questioning: the open questions, each asked for as long as there is time."""

from __future__ import annotations

from fastgshare.gpucheck.benches import Bench
from fastgshare.gpucheck.findings import Findings, NotThere


async def work(bench: Bench, findings: Findings) -> None:
    """One after the other."""
    raise NotThere("later")
