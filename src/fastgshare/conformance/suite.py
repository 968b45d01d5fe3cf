"""The suite: all that is tried, topic by topic, each on ground of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Final

from fastgshare.conformance import allocations, deaths, enforcement, launches, memory, patterns, python_programs, quotas
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
    "trust groups": quotas.trust_groups,
    "limits": quotas.limits,
    "resize": quotas.resize,
    "enforcement": enforcement.rows,
    "death": deaths.rows,
}
"""What is tried, in the order in which it is told."""

TRIES: Final = 3
"""How often a topic is tried while rows fail for want of work done: the machine may have been busy otherwise."""


async def run(
    device: Device,
    directory: Path,
    *,
    preload: Path | None = None,
    topics: Sequence[str] = tuple(TOPICS),
    base: Mapping[str, str] | None = None,
    begins: Callable[[str], None] = lambda topic: None,
) -> Report:
    """Try an interposer (None: ours) on a device. directory: for sockets and ledgers, empty and short of path.

    base: as `Ground` takes it. begins: told each topic when it begins. Raises `FastGShareError` if the ground cannot be
    prepared or a probe hangs.
    """
    rows: list[Row] = []
    numbers = count()
    for topic in topics:
        begins(topic)
        rows += await _settle(topic, lambda name: _try(name, device, directory / str(next(numbers)), preload, base))
    return Report(rows)


async def _settle(topic: str, attempt: Callable[[str], Awaitable[list[Row]]]) -> list[Row]:
    """Try a topic, and again as long as rows fail that a busy machine could have made fail."""
    rows = await attempt(topic)
    for number in range(2, TRIES + 1):
        if not any(row.disturbed for row in rows):
            break
        again = {row.name: row for row in await attempt(topic)}
        rows = [_second_look(row, again[row.name], number) if row.disturbed else row for row in rows]
    return rows


def _second_look(before: Row, now: Row, number: int) -> Row:
    return replace(now, figure=f"{now.figure} (try {number}; before: {before.figure.partition(' (try')[0]})")


async def _try(
    topic: str, device: Device, directory: Path, preload: Path | None, base: Mapping[str, str] | None
) -> list[Row]:
    await asyncio.to_thread(directory.mkdir)
    async with Ground(device, directory, preload, base) as ground:
        return await TOPICS[topic](ground)
