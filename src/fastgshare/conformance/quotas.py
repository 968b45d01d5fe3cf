"""Quotas in figures: how exact, whatever the bursts; what neighbours get; limits, idle time, changes on the way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from fastgshare.conformance.busy import fraction, fractions, together
from fastgshare.conformance.gating import exact, percent, ran, spans, stalls
from fastgshare.conformance.ground import Ground, Line, Probe, share, slices
from fastgshare.conformance.rows import Row, judged

_TOLERANCE: Final = 0.01  # to a tenth of a point; what programs see of the device's clock is not more exact
_SETTLE_NS: Final = 300_000_000
_QUOTA: Final = 0.3
_SECONDS: Final = 5
_MIX_MS: Final = (0.1, 0.5, 2, 5)
_AT_WORK_TOGETHER_NS: Final = 300_000  # what two clocks may differ by
_REQUESTED, _LIMIT, _RESIZED = 0.2, 0.5, 0.5


@dataclass(frozen=True, slots=True)
class _Load:
    """Words for a saturating program, and its longest burst in seconds."""

    words: tuple[str, ...]
    longest_s: float

    def allowed(self, seconds: float) -> float:
        """The error that is allowed over a time: one burst, if that is more."""
        return max(_TOLERANCE, self.longest_s / seconds)


def _kernels(*lengths_ms: float, own: bool = True) -> _Load:
    """Kernels of these lengths in turn; own: each length a kernel of its own, else all of them one."""
    lengths = "bursts=" + ",".join(str(round(1e6 * ms)) for ms in lengths_ms)
    return _Load((lengths, f"kernels={len(lengths_ms) if own else 1}"), max(lengths_ms) / 1e3)


_LOADS: Final = {
    "0.1 ms kernels": _kernels(0.1),
    "0.5 ms kernels": _kernels(0.5),
    "2 ms kernels": _kernels(2),
    "5 ms kernels": _kernels(5),
    "kernels of 0.1, 0.5, 2 and 5 ms": _kernels(*_MIX_MS),
    "one kernel, of 0.1, 0.5, 2 and 5 ms in turn": _kernels(*_MIX_MS, own=False),
    "graphs of 10 kernels of 0.3 ms": _Load(("launch=cuGraphLaunch", "bursts=3000000", "graph_kernels=10"), 0.003),
}
_NEIGHBOURS: Final = {0.2: _kernels(0.5), 0.3: _kernels(2), 0.4: _kernels(*_MIX_MS)}
"""By their quotas."""


async def accuracy(ground: Ground) -> list[Row]:
    """Bursts of all lengths and graphs, side by side, each alone on its SMs and backlogged, request and limit equal."""
    places = [share(_QUOTA, sm=sm, sm_at=at) for sm, at in slices(len(_LOADS))]
    words = [("dlsym", "load", f"seconds={_SECONDS + 0.5}", *load.words) for load in _LOADS.values()]
    probes = await ground.side_by_side(list(zip(places, words, strict=True)))
    window_ns = await _window_ns(ground)
    found = []
    for (name, load), probe in zip(_LOADS.items(), probes, strict=True):
        found += _errors(f"quota: {name}", probe, _QUOTA, load, window_ns, (1, _SECONDS))
    return found


async def neighbours(ground: Ground) -> list[Row]:
    """Three that want the whole device all the time, in turn; never two at once."""
    starts = [0.0, *accumulate(_NEIGHBOURS)][:-1]
    places = [share(quota, at=start) for quota, start in zip(_NEIGHBOURS, starts, strict=True)]
    words = [("dlsym", "load", "seconds=2.5", *load.words) for load in _NEIGHBOURS.values()]
    probes = await ground.side_by_side(list(zip(places, words, strict=True)))
    window_ns = await _window_ns(ground)
    found = []
    for (quota, load), probe in zip(_NEIGHBOURS.items(), probes, strict=True):
        found += _errors(f"quota: one of three neighbours, {quota:.0%}", probe, quota, load, window_ns, (2,))
    return [*found, _never_together("SM sum: three on 100% of the SMs never overlap", probes)]


async def three_of_sixty(ground: Ground) -> list[Row]:
    """Three on 60% of the SMs that may borrow: two of them would be 120%."""
    places = [share(0.25, 1.0, sm=60, sm_at=40 * (i % 2), at=0.25 * i) for i in range(3)]
    probes = await ground.side_by_side([(place, ("dlsym", "load", "seconds=1.5")) for place in places])
    return [_never_together("SM sum: three on 60% of the SMs, with loans, never overlap", probes)]


async def trust_groups(ground: Ground) -> list[Row]:
    """Two of different trust groups on SMs apart, at the same time of the window as the packer would never have it."""
    places = [share(0.4, sm=30), share(0.4, sm=30, sm_at=50, at=0.2)]
    words = ("dlsym", "load", "seconds=1.5", *_kernels(2).words)
    probes = [await ground.start(place, *words, group=f"group-{i}") for i, place in enumerate(places)]
    for probe in probes:
        await probe.finish()
    return [_never_together("trust groups: two on SMs apart never overlap", probes)]


async def limits(ground: Ground) -> list[Row]:
    """Alone: no more than the limit, and all that is idle below it."""
    capped = await ground.run(share(_REQUESTED, _LIMIT), "dlsym", "load", "seconds=1.1")
    free = await ground.run(share(_REQUESTED, 1.0), "dlsym", "load", "seconds=1.1")
    names = ["quota: alone, no more than the limit", "quota: alone and without a limit, all that is idle"]
    found = []
    for name, probe, least, most in zip(names, (capped, free), (0.4, 0.9), (_LIMIT + _TOLERANCE, 1.0), strict=True):
        line = _whole(probe)
        if line is None:
            found.append(judged(name, False, probe.what_went_wrong()))
            continue
        held = fraction(spans(line), line["from_ns"] + _SETTLE_NS, line["until_ns"])
        figure = f"busy {held:.1%} of the time, {least:.0%} to {most:.0%} expected"
        found.append(judged(name, least <= held <= most, figure, too_little=held < least))
    return found


async def resize(ground: Ground) -> list[Row]:
    """A quota that changes while the program launches as fast as it can."""
    probe = await ground.start(share(_REQUESTED), "dlsym", "load", "seconds=2")
    await probe.line()
    await asyncio.sleep(0.7)
    await ground.daemon.place({probe.instance_id: share(_RESIZED)})
    changed_ns = time.monotonic_ns()
    epoch_ns, window_s = await ground.daemon.window()
    await probe.finish()
    line = _whole(probe)
    names = ["resize: takes effect within a window", "resize: exact afterwards", "resize: no launch fails"]
    if line is None:
        return [judged(name, False, probe.what_went_wrong()) for name in names]
    window_ns = round(window_s * 1e9)
    first_ns = epoch_ns + -(-(changed_ns - epoch_ns) // window_ns) * window_ns
    each = fractions(spans(line), first_ns, line["until_ns"], window_ns)
    late = next((i for i, held in enumerate(each) if held >= 0.85 * _RESIZED), len(each))
    after = sum(each) / max(1, len(each))
    before = fraction(spans(line), line["from_ns"] + _SETTLE_NS, changed_ns)
    when = f"busy {before:.1%} before, {percent(each[:3])} of the first windows after"
    stalled = fraction(stalls(line), first_ns, line["until_ns"])
    return [
        judged(names[0], late <= 1 and before < 1.4 * _REQUESTED, when, too_little=late > 1),
        exact(names[1], _RESIZED, [(after, stalled)], _TOLERANCE),
        judged(names[2], not line["error"], f"{line['launches']} launches, error {line['error']}"),
    ]


async def _window_ns(ground: Ground) -> int:
    return round(1e9 * (await ground.daemon.window())[1])


def _whole(probe: Probe) -> Line | None:
    line = ran(probe)
    return line if line is not None and line["status"] == "ran" and not line["error"] else None


def _errors(name: str, probe: Probe, quota: float, load: _Load, window_ns: int, over_s: Sequence[int]) -> list[Row]:
    """A row for each time: the largest error of a piece of that length, in whole windows."""
    line = _whole(probe)
    names = [f"{name}, over {seconds} s" for seconds in over_s]
    if line is None:
        return [judged(name, False, probe.what_went_wrong()) for name in names]
    start_ns = line["from_ns"] + _SETTLE_NS
    found = []
    for row, seconds in zip(names, over_s, strict=True):
        piece_ns = seconds * 10**9 // window_ns * window_ns
        held = fractions(spans(line), start_ns, line["until_ns"], piece_ns)
        stalled = fractions(stalls(line), start_ns, line["until_ns"], piece_ns)
        found.append(exact(row, quota, list(zip(held, stalled, strict=True)), load.allowed(seconds)))
    return found


def _never_together(name: str, probes: Sequence[Probe]) -> Row:
    lines = [line for probe in probes if (line := _whole(probe)) is not None]
    if len(lines) < len(probes):
        return judged(name, False, next(p.what_went_wrong() for p in probes if _whole(p) is None))
    start, end = max(line["from_ns"] for line in lines), min(line["until_ns"] for line in lines)
    total, longest = together([spans(line) for line in lines], start, end)
    held = sum(fraction(spans(line), start, end) for line in lines)
    figure = (
        f"together {total / 1e6:.2f} ms of {(end - start) / 1e9:.1f} s, at most {longest / 1e6:.2f} ms; busy {held:.0%}"
    )
    return judged(name, longest <= _AT_WORK_TOGETHER_NS and held > 0.5, figure)
