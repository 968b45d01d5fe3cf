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
_UNEVEN_CAP: Final = CAP_BYTES + 99_999
_TAKEN: Final = 64 * 2**20
_SLACK: Final = 2**20  # bytes; what a driver may round up
_SOURCES: Final = ("cuMemGetInfo", "nvmlDeviceGetMemoryInfo", "nvmlDeviceGetMemoryInfo_v2")


async def rows(ground: Ground) -> list[Row]:
    """Accuracy of the cap, memory that ends in unusual ways, what the driver and NVML say, several at once."""
    fills = [("fill", f"call={call}", f"cap={_UNEVEN_CAP}") for call in _FILLED_BY]
    others = [(command, f"cap={CAP_BYTES}") for command in ("mapped", "crowd", "ends", "share", "leave")]
    commands: list[tuple[str, ...]] = [*fills, *others, ("info", f"bytes={_TAKEN}")]
    caps = [_UNEVEN_CAP] * len(fills) + [CAP_BYTES] * (len(others) + 1)
    places = [capped(cap, sm, at) for cap, (sm, at) in zip(caps, slices(len(caps)), strict=True)]
    words = [("dlsym", *command) for command in commands]
    probes = await ground.side_by_side(list(zip(places, words, strict=True)))
    mapped, crowd, ends, shared, left, info = probes[len(fills) :]
    found = [_accuracy(call, probe) for call, probe in zip(_FILLED_BY, probes[: len(fills)], strict=True)]
    return [*found, _mapped(mapped), _crowd(crowd), *_ends(ends), *_told(info), *_opened(shared), _left(left)]


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


def _crowd(probe: Probe) -> Row:
    name = "memory: 16 threads allocate at once"
    line = ran(probe)
    if line is None:
        return judged(name, False, probe.what_went_wrong())
    figure = f"{line['taken']} of {line['of']} blocks that fit were granted, {line['errors']} other errors"
    return judged(name, line["taken"] == line["of"] and not line["errors"], figure)


def _ends(probe: Probe) -> list[Row]:
    names = ["memory: given back with its context", "memory: freed twice, given back once"]
    line = ran(probe)
    if line is None:
        return [judged(name, False, probe.what_went_wrong()) for name in names]
    more = (line["after"] - line["before"]) / 2**20
    twice = f"error {line['twice']} the second time, {more:.1f} MiB more free than there is"
    return [
        judged(names[0], line["again"] == 0, f"7 eighths of the cap again: error {line['again']}"),
        judged(names[1], line["twice"] != 0 and more == 0, twice),
    ]


def _left(probe: Probe) -> Row:
    name = "memory: given back by a process of the instance that is killed"
    line = next((line for line in probe.lines if line.get("who") == "survivor"), None)
    if line is None:
        return judged(name, False, probe.what_went_wrong())
    return judged(name, line["error"] == 0, f"error {line['error']} after {line['took_ns'] / 1e6:.0f} ms")


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
