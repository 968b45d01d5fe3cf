"""The ways in which programs find the driver's calls, as the probes know them and as people read them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from fastgshare.conformance.ground import Ground, Line, Place, Probe, slices
from fastgshare.conformance.rows import Row, not_applicable

WAYS: Final = {
    "linked": "linking",
    "next": "dlsym(RTLD_NEXT)",
    "plugin": "a linked plugin, RTLD_LOCAL",
    "dlsym": "dlsym",
    "default": "dlsym(RTLD_DEFAULT)",
    "proc:11030": "cuGetProcAddress 11.3",
    "proc:12000": "cuGetProcAddress 12.0",
    "proc:13000": "cuGetProcAddress 13.0",
    "proc2:11030": "cuGetProcAddress_v2 11.3",
    "proc2:12000": "cuGetProcAddress_v2 12.0",
    "proc2:13000": "cuGetProcAddress_v2 13.0",
    "proc-of-proc": "cuGetProcAddress of cuGetProcAddress",
    "runtime": "cudaGetDriverEntryPointByVersion",
    "deepbind": "a linked plugin, RTLD_DEEPBIND",
}
"""What `find_calls` of native/probes takes -> in words."""

BEYOND_PRELOAD: Final = "deepbind"
"""What looks into its own libraries first sees nothing that is preloaded: a limit, if the interposer has no remedy."""

_AT_ONCE: Final = 7

PlaceAt = Callable[[int, int], Place]
"""A share and its rect from SMs: how many percent, and where they begin."""

Judge = Callable[[str, str, Line | None, Probe], Row]
"""A row from a way, the row's name, what the probe said of the call (None: nothing), and the probe."""


async def try_each(
    ground: Ground,
    kind: str,
    calls: Sequence[str],
    words: Sequence[str],
    place: Callable[[int, int], Place],
    judge: Judge,
) -> list[Row]:
    """A row for each call found in each way: one probe a way, several side by side on SM ranges.

    kind: of calls, in one word. words: the probe's, after the way. place: what each probe is given.
    """
    found: list[Row] = []
    ways = list(WAYS)
    for first in range(0, len(ways), _AT_ONCE):
        batch = ways[first : first + _AT_ONCE]
        places = [place(sm, at) for sm, at in slices(_AT_ONCE)]
        runs = [(where, (way, *words)) for where, way in zip(places, batch, strict=False)]
        for way, probe in zip(batch, await ground.side_by_side(runs), strict=True):
            names = {call: f"{kind}: {call} found by {WAYS[way]}" for call in calls}
            found += _of_way(way, names, probe, judge)
    return found


def _of_way(way: str, names: dict[str, str], probe: Probe, judge: Judge) -> list[Row]:
    if probe.lines and probe.lines[0].get("status") == "no way":
        return [not_applicable(name, str(probe.lines[0]["why"])) for name in names.values()]
    lines = {str(line.get("name")): line for line in probe.lines}
    return [judge(way, name, lines.get(call), probe) for call, name in names.items()]
