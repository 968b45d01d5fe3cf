"""How programs launch: streams of all kinds, threads, contexts, processes, captures. Still gated, and undisturbed?"""

from __future__ import annotations

from typing import Final

from fastgshare.conformance.busy import fraction
from fastgshare.conformance.gating import QUOTA, judge_load, percent, ran, spans
from fastgshare.conformance.ground import Ground, Place, Probe, share, slices
from fastgshare.conformance.rows import Row, judged, not_applicable

_SECONDS: Final = "seconds=0.4"
_LOADS: Final = {
    "streams: the default stream": ("kind=default",),
    "streams: 64 streams": ("streams=64",),
    "streams: 64 non-blocking streams": ("streams=64", "kind=nonblocking"),
    "streams: streams of two priorities": ("streams=8", "kind=priority"),
    "streams: a per-thread default stream": ("kind=perthread",),
    "streams: destroyed with work pending": ("kind=destroyed",),
    "threads: 16 launch at once, a stream each": ("threads=16", "kind=nonblocking"),
    "threads: 16 launch at once, per-thread default streams": ("threads=16", "kind=perthread"),
    "contexts: 2 contexts, a thread each": ("contexts=2", "threads=2"),
}
_FORKS: Final = {
    "processes: forked before the driver is initialised": ("fork=1",),
    "processes: forked, then executed anew": ("exec=1",),
}
_MODES: Final = ("relaxed", "thread-local", "global")
_CAPTURED_LAUNCHES: Final = 50  # on each of two streams
_STATUS: Final = 37


async def streams(ground: Ground) -> list[Row]:
    """Streams, threads and contexts, side by side on a small quota each."""
    places = [share(QUOTA, sm=sm, sm_at=at) for sm, at in slices(len(_LOADS))]
    runs = [(place, ("dlsym", "load", _SECONDS, *words)) for place, words in zip(places, _LOADS.values(), strict=True)]
    probes = await ground.side_by_side(runs)
    return [judge_load(name, probe) for name, probe in zip(_LOADS, probes, strict=True)]


async def processes(ground: Ground) -> list[Row]:
    """Children of all kinds, and what a program ends with."""
    places = [share(QUOTA, sm=sm, sm_at=at) for sm, at in slices(len(_FORKS))]
    runs = [(place, ("dlsym", "load", _SECONDS, *words)) for place, words in zip(places, _FORKS.values(), strict=True)]
    probes = await ground.side_by_side(runs)
    found = [judge_load(name, probe) for name, probe in zip(_FORKS, probes, strict=True)]
    return [*found, await _child_of_a_shell(ground), await _two_of_an_instance(ground), *await _endings(ground)]


async def _child_of_a_shell(ground: Ground) -> Row:
    probe = await _in_a_shell(ground, '"$@"; exit $?', share(QUOTA), "load", _SECONDS)
    return judge_load("processes: child of a shell", probe)


async def _in_a_shell(ground: Ground, script: str, place: Place, *words: str) -> Probe:
    probe = await ground.start_program(place, ["/bin/sh", "-c", script, "sh", *ground.program("dlsym", *words)])
    await probe.finish()
    return probe


async def _two_of_an_instance(ground: Ground) -> Row:
    name = "processes: two of one instance share its quota"
    script = 'read word; "$@" & "$@"; wait'
    probe = await _in_a_shell(ground, script, share(QUOTA), "load", "wait=0", "seconds=0.8")
    lines = [line for line in probe.lines if line.get("status") == "ran" and not line["error"]]
    if len(lines) != 2:
        return judged(name, False, probe.what_went_wrong())
    start, end = max(line["from_ns"] for line in lines), min(line["until_ns"] for line in lines)
    each = [fraction(spans(line), start, end) for line in lines]
    holds = 0.5 * QUOTA <= sum(each) <= 1.4 * QUOTA and min(each) > 0.02
    return judged(name, holds, f"busy {percent(each)} of the time on a quota of {QUOTA:.0%} together")


async def _endings(ground: Ground) -> list[Row]:
    runs = {
        "processes: its exit status is its own": ("exit", f"status={_STATUS}"),
        "processes: it may end with work pending": ("exit", f"status={_STATUS}", "synchronize=0"),
    }
    found = []
    for name, words in runs.items():
        probe = await ground.run(share(QUOTA), "dlsym", *words)
        found.append(judged(name, probe.status == _STATUS, f"exit status {probe.status} of {_STATUS}"))
    return found


async def captures(ground: Ground) -> list[Row]:
    """Captures: not disturbed by what the interposer does meanwhile, and no work of the device's."""
    places = [share(0.1, sm=sm, sm_at=at) for sm, at in slices(len(_MODES))]
    runs = [(place, ("dlsym", "capture", f"mode={mode}")) for place, mode in zip(places, _MODES, strict=True)]
    probes = await ground.side_by_side(runs)
    found = [_undisturbed(mode, probe) for mode, probe in zip(_MODES, probes, strict=True)]
    return [*found, await _takes_no_token(ground)]


def _undisturbed(mode: str, probe: Probe) -> Row:
    name = f"captures: {mode} mode while another thread saturates the device"
    line = ran(probe)
    if line is None:
        return judged(name, False, probe.what_went_wrong())
    if line["status"] == "absent":
        return not_applicable(name, "not there")
    errors = [str(line[key]) for key in ("error", "load_error") if line[key]]
    figure = f"{line['failures']} of {line['captures']} failed" + (f", error {', '.join(errors)}" if errors else "")
    return judged(name, line["captures"] > 0 and not line["failures"] and not errors, figure)


async def _takes_no_token(ground: Ground) -> Row:
    name = "captures: fork and join under a tight quota, no token taken"
    launches = 2 * _CAPTURED_LAUNCHES
    probe = await ground.start(share(0.05), "dlsym", "record", f"launches={_CAPTURED_LAUNCHES}")
    line = await probe.line()
    if line.get("status") == "absent":
        return not_applicable(name, "not there")
    held = sum(entry.received_s for entry in await ground.daemon.totals() if entry.instance_id == probe.instance_id)
    probe.say()
    ended = await probe.line()
    probe.say()
    await probe.finish()
    holds = line.get("nodes") == launches and not held and ended.get("status") == "launched"
    if not holds and ended.get("status") != "launched":
        return judged(name, False, probe.what_went_wrong())
    took = line["took_ns"] / 1e6
    figure = f"{line['nodes']} of {launches} launches captured in {took:.1f} ms, {1000 * held:.1f} ms of tokens"
    return judged(name, holds, figure)
