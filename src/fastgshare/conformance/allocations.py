"""Every call that takes device memory, found in every way: is it refused over the cap, and given back when freed?"""

from __future__ import annotations

from typing import Final

from fastgshare.conformance.gating import NOT_SUPPORTED
from fastgshare.conformance.ground import Ground, Line, Probe, capped, slices
from fastgshare.conformance.rows import Row, judged, not_applicable
from fastgshare.conformance.ways import BEYOND_PRELOAD, WAYS

CALLS: Final = (
    "cuMemAlloc",
    "cuMemAlloc_v2",
    "cuMemAllocPitch",
    "cuMemAllocPitch_v2",
    "cuMemAllocManaged",
    "cuMemAllocAsync",
    "cuMemAllocAsync_ptsz",
    "cuMemAllocFromPoolAsync",
    "cuMemAllocFromPoolAsync_ptsz",
    "cuMemCreate",
    "cuArrayCreate",
    "cuArrayCreate_v2",
    "cuArray3DCreate",
    "cuArray3DCreate_v2",
    "cuMipmappedArrayCreate",
    "cuGraphAddMemAllocNode",
    "cuMemAllocAsync in a capture",
)
CAP_BYTES: Final = 128 * 2**20  # less than the old calls can reach, which have 32 bits
OUT_OF_MEMORY: Final = 2
_PARTS: Final = 8  # of the cap in a block; the probes know it too
_AT_ONCE: Final = 7


async def rows(ground: Ground) -> list[Row]:
    """A row for each call and way: eighths of the cap are taken until one is refused, all are given back, thrice."""
    found: list[Row] = []
    ways = list(WAYS)
    for first in range(0, len(ways), _AT_ONCE):
        batch = ways[first : first + _AT_ONCE]
        places = [capped(CAP_BYTES, sm, at) for sm, at in slices(_AT_ONCE)]
        runs = [(place, (way, "allocations", f"cap={CAP_BYTES}")) for place, way in zip(places, batch, strict=False)]
        for way, probe in zip(batch, await ground.side_by_side(runs), strict=True):
            found += _of_way(way, probe)
    return found


def _of_way(way: str, probe: Probe) -> list[Row]:
    names = [(call, f"allocation: {call} found by {WAYS[way]}") for call in CALLS]
    if probe.lines and probe.lines[0].get("status") == "no way":
        return [not_applicable(name, str(probe.lines[0]["why"])) for _, name in names]
    lines = {str(line.get("name")): line for line in probe.lines}
    return [_of_call(way, name, lines.get(call), probe) for call, name in names]


def _of_call(way: str, name: str, line: Line | None, probe: Probe) -> Row:
    if line is None:
        return judged(name, False, probe.what_went_wrong())
    if line["status"] == "absent":
        return not_applicable(name, "not there")
    row = _refused(name, line)
    if way == BEYOND_PRELOAD and row.result == "fail":
        return not_applicable(name, f"out of reach of what is preloaded ({row.figure})")
    return row


def _refused(name: str, line: Line) -> Row:
    if line["status"] == "failed":
        return judged(name, False, f"{line['error_call']} returned error {line['error']}")
    blocks, refusals, afterwards = line["blocks"], line["refusals"], line["afterwards"]
    if refusals[0] == NOT_SUPPORTED:
        return not_applicable(name, "the driver does not support it")
    figure = f"{_list(blocks)} of {_PARTS} eighths of the cap in 3 rounds, then error {_list(refusals)}"
    if any(afterwards):
        figure += f"; a launch afterwards returns error {_list(afterwards)}"
    held = all(_PARTS - 1 <= count <= _PARTS for count in blocks)
    return judged(name, held and set(refusals) == {OUT_OF_MEMORY} and not any(afterwards), figure)


def _list(numbers: list[int]) -> str:
    return str(numbers[0]) if len(set(numbers)) == 1 else ", ".join(map(str, numbers))
