"""Memory beyond single calls: how exact the cap is, what programs are told of it, memory that several share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from fastgshare.conformance.allocations import CAP_BYTES, OUT_OF_MEMORY
from fastgshare.conformance.gating import ran
from fastgshare.conformance.ground import Ground, Line, Probe, capped, slices
from fastgshare.conformance.rows import Row, judged, not_applicable

_ACCURACY: Final = 0.995
_FILLED_BY: Final = ("cuMemAlloc_v2", "cuMemAllocAsync", "cuMemAllocManaged", "cuMemCreate")
_UNEVEN_CAP: Final = CAP_BYTES + 777_777
_TAKEN: Final = 64 * 2**20
_SLACK: Final = 2**20  # bytes; what a driver may round up
_SOURCES: Final = ("cuMemGetInfo", "nvmlDeviceGetMemoryInfo", "nvmlDeviceGetMemoryInfo_v2")


async def rows(ground: Ground) -> list[Row]:
    """Accuracy of the cap, handles that outlive their release, what the driver and NVML say, memory opened by IPC."""
    commands: list[tuple[str, ...]] = [("dlsym", "fill", f"call={call}", f"cap={_UNEVEN_CAP}") for call in _FILLED_BY]
    commands += [("dlsym", "mapped", f"cap={CAP_BYTES}"), ("dlsym", "info", f"bytes={_TAKEN}")]
    commands += [("dlsym", "share", f"cap={CAP_BYTES}")]
    caps = [_UNEVEN_CAP] * len(_FILLED_BY) + [CAP_BYTES] * 3
    places = [capped(cap, sm, at) for cap, (sm, at) in zip(caps, slices(len(caps)), strict=True)]
    probes = await ground.side_by_side(list(zip(places, commands, strict=True)))
    *fills, mapped, info, shared = probes
    found = [_accuracy(call, probe) for call, probe in zip(_FILLED_BY, fills, strict=True)]
    return [*found, _mapped(mapped), *_told(info), *_opened(shared)]


def _accuracy(call: str, probe: Probe) -> Row:
    name = f"memory: accuracy of the cap, {call}"
    line = ran(probe)
    if line is None:
        return judged(name, False, probe.what_went_wrong())
    if line["status"] == "absent":
        return not_applicable(name, "not there")
    part = line["sum"] / line["cap"]
    holds = _ACCURACY <= part <= 1 and line["refusal"] == OUT_OF_MEMORY
    return judged(name, holds, f"{100 * part:.2f}% of the cap in {line['count']} blocks, then error {line['refusal']}")


def _mapped(probe: Probe) -> Row:
    name = "memory: released but still mapped stays counted, cuMemCreate"
    line = ran(probe)
    if line is None:
        return judged(name, False, probe.what_went_wrong())
    if line["status"] == "absent":
        return not_applicable(name, "not there")
    holds = line["while_mapped"] == OUT_OF_MEMORY and line["unmapped"] == 0
    figure = f"as much again: error {line['while_mapped']} while mapped, {line['unmapped']} after unmapping"
    return judged(name, holds, figure)


def _told(probe: Probe) -> list[Row]:
    found: list[Row] = []
    said = {(str(line.get("source")), str(line.get("when"))): line for line in probe.lines}
    for source in _SOURCES:
        before, after = said.get((source, "before")), said.get((source, "after"))
        names = [f"memory: {source}, total", f"memory: {source}, free"]
        if before is None or after is None:
            reason = "NVML is not there" if source.startswith("nvml") and probe.status == 0 else ""
            row = not_applicable if reason else _failed
            found += [row(name, reason or probe.what_went_wrong()) for name in names]
        else:
            found += _shows_the_cap(names, before, after)
    return [*found, _host_memory(said, probe)]


def _failed(name: str, figure: str) -> Row:
    return judged(name, False, figure)


def _shows_the_cap(names: Sequence[str], before: Line, after: Line) -> list[Row]:
    total, less = after["total"], before["free"] - after["free"]
    shows_use = abs(less - _TAKEN) <= _SLACK and after["free"] <= CAP_BYTES - _TAKEN
    return [
        judged(names[0], total == CAP_BYTES, f"{total / 2**20:.1f} MiB on a cap of {CAP_BYTES / 2**20:.0f} MiB"),
        judged(names[1], shows_use, f"{less / 2**20:.1f} MiB less after {_TAKEN / 2**20:.0f} MiB were taken"),
    ]


def _host_memory(said: Mapping[tuple[str, str], Line], probe: Probe) -> Row:
    name = "memory: pinned memory of the host is not counted"
    after, host = said.get(("cuMemGetInfo", "after")), said.get(("cuMemGetInfo", "host"))
    if after is None or host is None:
        return judged(name, False, probe.what_went_wrong())
    less = after["free"] - host["free"]
    return judged(name, less == 0, f"{less / 2**20:.1f} MiB less free after {_TAKEN / 2**20:.0f} MiB of the host's")


def _opened(probe: Probe) -> list[Row]:
    names = ["memory: opened by IPC counts once", "memory: an instance's processes share its cap"]
    line = next((line for line in probe.lines if line.get("who") == "opener"), None)
    if line is None:
        return [judged(name, False, probe.what_went_wrong()) for name in names]
    more = line["before"] - line["opened"]
    taken = CAP_BYTES - line["before"]
    refused = line["three_tenths"] == 0 and line["two_more"] == OUT_OF_MEMORY
    figure = f"{taken / 2**20:.0f} MiB of the parent's seen; 3 tenths more: error {line['three_tenths']}"
    return [
        judged(
            names[0], abs(more) <= _SLACK, f"{more / 2**20:.1f} MiB more counted for {taken / 2**20:.0f} MiB opened"
        ),
        judged(names[1], refused and taken > CAP_BYTES / 2, f"{figure}, 2 after that: error {line['two_more']}"),
    ]
