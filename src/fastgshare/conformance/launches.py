"""Every call that starts work, found in every way: is it gated?"""

from __future__ import annotations

from typing import Final

from fastgshare.conformance.gating import QUOTA, busy, gated
from fastgshare.conformance.ground import Ground, Line, Probe, share
from fastgshare.conformance.rows import Row, judged, not_applicable
from fastgshare.conformance.ways import BEYOND_PRELOAD, try_each

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


async def rows(ground: Ground) -> list[Row]:
    """A row for each call and way: a program that saturates the device through it, on a small quota."""
    words = ("launches", f"seconds={_SECONDS}")
    return await try_each(ground, "launch", CALLS, words, lambda sm, at: share(QUOTA, sm=sm, sm_at=at), _of_call)


def _of_call(way: str, name: str, line: Line | None, probe: Probe) -> Row:
    if line is None:
        return judged(name, False, probe.what_went_wrong())
    row = gated(name, line)
    if way == BEYOND_PRELOAD and row.result == "fail" and not line.get("error"):
        return not_applicable(name, f"out of reach of what is preloaded (busy {busy(line):.0%} of the time)")
    return row
