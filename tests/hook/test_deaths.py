"""A program that is killed at any point of a launch, an allocation or a grant leaves nothing behind in the daemon."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence

import pytest

from fastgshare.conformance.busy import fraction
from fastgshare.conformance.gating import ran, spans
from fastgshare.conformance.ground import Ground, Place, share, slices
from fastgshare.domain.devices import Device, DeviceKind

STANDIN = Device("standin", DeviceKind.STANDIN, sm_count=132, mem_bytes=80 << 30)
SIDE_BY_SIDE = 6
LOADS = {
    "cuLaunchKernel": ("load",),
    "cuLaunchKernelEx": ("load", "launch=cuLaunchKernelEx"),
    "cuGraphLaunch": ("load", "launch=cuGraphLaunch"),
    "cuStreamDestroy_v2": ("load", "kind=destroyed"),
    "cuEventCreate": ("load",),
    "cuEventRecord": ("load",),
    "cuEventQuery": ("load",),
    "cuEventElapsedTime": ("load",),
    "cuMemAlloc_v2": ("allocations",),
    "cuMemFree_v2": ("allocations",),
    "cuMemCreate": ("allocations",),
}
OFTEN = {name for name, (word, *_) in LOADS.items() if word == "load"} - {"cuEventCreate"}
POINTS = [
    (name, number, side)
    for name in LOADS
    for number in ((1, 2, 50) if name in OFTEN else (1, 2))
    for side in ("before", "after")
]


@pytest.fixture
async def ground(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ground]:
    async with Ground(STANDIN, tmp_path_factory.mktemp("d"), None) as ground:
        yield ground


def places() -> list[Place]:
    """Side by side, each with a memory cap."""
    found = []
    for sm, sm_at in slices(SIDE_BY_SIDE):
        asked, rect = share(0.5, 1.0, sm=sm, sm_at=sm_at)
        found.append((type(asked)(asked.sm_partition, 0.5, 1.0, 64 << 20), rect))
    return found


async def expect_nothing_left(ground: Ground) -> None:
    """No seat, and the whole device for who comes next."""
    for _ in range(50):
        if not (await ground.daemon.status())["instances"]:
            break
        await asyncio.sleep(0.02)
    assert (await ground.daemon.status())["instances"] == {}
    probe = await ground.run(share(0.5, 1.0), "dlsym", "load", "seconds=0.6")
    line = ran(probe)
    assert line is not None and not line["error"], probe.what_went_wrong()
    assert fraction(spans(line), line["from_ns"] + 200_000_000, line["until_ns"]) > 0.7


async def die(ground: Ground, place: Place, point: tuple[str, int, str]) -> int:
    name, number, side = point
    words = ground.program("dlsym", *LOADS[name], "seconds=0.5")
    probe = await ground.start_program(place, words, {"die": f"{name}:{number}:{side}"})
    await probe.finish()
    return probe.status


async def test_killed_around_any_call_of_the_driver(ground: Ground) -> None:
    survivors: list[tuple[str, int, str]] = []
    for first in range(0, len(POINTS), SIDE_BY_SIDE):
        points = POINTS[first : first + SIDE_BY_SIDE]
        statuses = await asyncio.gather(*(die(ground, *pair) for pair in zip(places(), points, strict=False)))
        survivors += [point for point, status in zip(points, statuses, strict=True) if status != -9]
    assert survivors == []
    await expect_nothing_left(ground)


async def kill_after(ground: Ground, place: Place, words: Sequence[str], delay_s: float) -> None:
    probe = await ground.start(place, "dlsym", *words)
    await asyncio.sleep(delay_s)
    probe.process.kill()
    await probe.finish()


async def test_killed_at_any_time(ground: Ground) -> None:
    chance = random.Random(7)
    mix = ("load", "seconds=5", "threads=3", "bursts=50000,2000000")
    for _ in range(6):
        delays = [chance.uniform(0.0, 0.25) for _ in places()]
        await asyncio.gather(*(kill_after(ground, place, mix, d) for place, d in zip(places(), delays, strict=True)))
    await expect_nothing_left(ground)
