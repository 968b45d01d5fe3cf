"""Every call that starts work, found in every way: is it gated?"""

from __future__ import annotations

from typing import Final

from fastgshare.conformance.gating import QUOTA, busy, gated
from fastgshare.conformance.ground import Ground, Line, Probe, share, slices
from fastgshare.conformance.rows import Row, judged, not_applicable
from fastgshare.conformance.ways import BEYOND_PRELOAD, WAYS

CALLS: Final = (
    "cuLaunchKernel",
    "cuLaunchKernel_ptsz",
    "cuLaunchKernelEx",
    "cuLaunchKernelEx_ptsz",
    "cuLaunchCooperativeKernel",
    "cuLaunchCooperativeKernel_ptsz",
    "cuGraphLaunch",
    "cuGraphLaunch_ptsz",
    "cuLaunchCooperativeKernelMultiDevice",
    "cuLaunch",
    "cuLaunchGrid",
    "cuLaunchGridAsync",
)
_SECONDS: Final = 0.24
_AT_ONCE: Final = 7


async def rows(ground: Ground) -> list[Row]:
    """A row for each call and way: a program that saturates the device through it, on a small quota."""
    found: list[Row] = []
    ways = list(WAYS)
    for first in range(0, len(ways), _AT_ONCE):
        batch = ways[first : first + _AT_ONCE]
        places = [share(QUOTA, sm=sm, sm_at=at) for sm, at in slices(_AT_ONCE)]
        runs = [(place, (way, "launches", f"seconds={_SECONDS}")) for place, way in zip(places, batch, strict=False)]
        probes = await ground.side_by_side(runs)
        for way, probe in zip(batch, probes, strict=True):
            found += _of_way(way, probe)
    return found


def _of_way(way: str, probe: Probe) -> list[Row]:
    names = [(call, f"launch: {call} found by {WAYS[way]}") for call in CALLS]
    if probe.lines and probe.lines[0].get("status") == "no way":
        return [not_applicable(name, str(probe.lines[0]["why"])) for _, name in names]
    lines = {str(line.get("name")): line for line in probe.lines}
    return [_of_call(way, name, lines.get(call), probe) for call, name in names]


def _of_call(way: str, name: str, line: Line | None, probe: Probe) -> Row:
    if line is None:
        return judged(name, False, probe.what_went_wrong())
    row = gated(name, line)
    if way == BEYOND_PRELOAD and row.result == "fail" and not line.get("error"):
        return not_applicable(name, f"out of reach of what is preloaded (busy {busy(line):.0%} of the time)")
    return row
