"""Every call that takes device memory, found in every way: is it refused over the cap, and given back when freed?"""

from __future__ import annotations

from typing import Final

from fastgshare.conformance.gating import NOT_SUPPORTED
from fastgshare.conformance.ground import Ground, Line, Probe, capped
from fastgshare.conformance.rows import Row, judged, not_applicable
from fastgshare.conformance.ways import BEYOND_PRELOAD, try_each

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


async def rows(ground: Ground) -> list[Row]:
    """A row for each call and way: eighths of the cap are taken until one is refused, all are given back, thrice."""
    words = ("allocations", f"cap={CAP_BYTES}")
    return await try_each(ground, "allocation", CALLS, words, lambda sm, at: capped(CAP_BYTES, sm, at), _of_call)


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
