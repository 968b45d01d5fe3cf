"""The suite: all that is tried, topic by topic, each on ground of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

from fastgshare.conformance import allocations, enforcement, launches, memory, patterns, python_programs, quotas
from fastgshare.conformance.ground import Ground
from fastgshare.conformance.rows import Report, Row
from fastgshare.domain.devices import Device

TOPICS: Final[dict[str, Callable[[Ground], Awaitable[list[Row]]]]] = {
    "launches": launches.rows,
    "allocations": allocations.rows,
    "memory": memory.rows,
    "streams": patterns.streams,
    "processes": patterns.processes,
    "captures": patterns.captures,
    "programs": python_programs.rows,
    "accuracy": quotas.accuracy,
    "neighbours": quotas.neighbours,
    "SM sum": quotas.three_of_sixty,
    "limits": quotas.limits,
    "resize": quotas.resize,
    "enforcement": enforcement.rows,
    "death": enforcement.death,
}
"""What is tried, in the order in which it is told."""


async def run(
    device: Device,
    directory: Path,
    *,
    preload: Path | None = None,
    topics: Sequence[str] = tuple(TOPICS),
    begins: Callable[[str], None] = lambda topic: None,
) -> Report:
    """Try an interposer (None: ours) on a device. directory: for sockets and ledgers, empty and short of path.

    begins: told each topic when it begins. Raises `FastGShareError` if the ground cannot be prepared or a probe hangs.
    """
    rows: list[Row] = []
    for number, topic in enumerate(topics):
        begins(topic)
        ground = directory / str(number)
        ground.mkdir()
        async with Ground(device, ground, preload) as prepared:
            rows += await TOPICS[topic](prepared)
    return Report(rows)
