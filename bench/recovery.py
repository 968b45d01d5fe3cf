"""How long does it take until a killed node daemon has been replaced, and what do instances notice of it?

Kills the daemon again and again under saturated instances. Prints the time from the kill until its successor has taken
all instances back, and the longest time that an instance that owns a slot in every window was without a token.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

from fastgshare.domain.rects import Rect
from fastgshare.domain.shares import Share
from fastgshare.manager.node import NodeDaemon
from fastgshare.manager.saturation import read_log
from fastgshare.manager.trial import ABSTRACT

_INSTANCES = 4
_PAUSE_S = 0.7


async def _instance(daemon: NodeDaemon, name: str, rect: Rect, log: Path) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "fastgshare.manager.saturation", "--socket", str(daemon.socket_path)),
        *("--instance", name, "--log", str(log)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    await daemon.admit(name, process.pid, Share(rect.sm, rect.quota, rect.quota), rect, declared=True)
    assert process.stdout is not None and process.stdin is not None
    await process.stdout.readline()
    process.stdin.write(b"go\n")
    return process


async def _taken_back(daemon: NodeDaemon, former_pid: int) -> None:
    """Return once a successor knows all instances, with the cells they had."""
    while True:
        status = await daemon.status()
        cells = sorted(seat["index"] for seat in status["instances"].values())
        if status["pid"] != former_pid and cells == list(range(_INSTANCES)):
            return
        await asyncio.sleep(0.002)


async def measure(kills: int, directory: Path) -> dict[str, float]:
    """Kill the daemon so many times."""
    daemon = NodeDaemon([ABSTRACT], directory, window_s=0.04)
    await daemon.start()
    processes = []
    logs = [directory / f"i{i}.holds" for i in range(_INSTANCES)]
    try:
        for i, log in enumerate(logs):
            rect = Rect(0, i / _INSTANCES, 100, 1 / _INSTANCES)
            processes.append(await _instance(daemon, f"i{i}", rect, log))
        await asyncio.sleep(_PAUSE_S)
        start_ns, took_s = time.monotonic_ns(), []
        for _ in range(kills):
            pid, killed_s = daemon.pid, time.monotonic()
            os.kill(pid, signal.SIGKILL)
            await _taken_back(daemon, pid)
            took_s.append(time.monotonic() - killed_s)
            await asyncio.sleep(_PAUSE_S)
    finally:
        for process in processes:
            process.kill()
            await process.wait()
        await daemon.stop()
    gaps = [b[0] - a[1] for log in logs for a, b in _pairs(read_log(log)) if a[1] >= start_ns]
    return {
        "kills": kills,
        "taken_back_median_ms": round(1000 * statistics.median(took_s), 1),
        "taken_back_longest_ms": round(1000 * max(took_s), 1),
        "longest_gap_ms": round(max(gaps) / 1e6, 1),
        "window_ms": 40.0,
    }


def _pairs(holds: list[tuple[int, int, int]]) -> list[tuple[tuple[int, int, int], tuple[int, int, int]]]:
    return list(pairwise(holds))


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=5, help="how often the daemon is killed")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fastgshare-bench-") as directory:
        result = asyncio.run(measure(arguments.kills, Path(directory)))
    if arguments.json:
        print(json.dumps(result, indent=2))
        return
    print(f"instances taken back after    {result['taken_back_median_ms']:6.1f} ms (median of {arguments.kills})")
    print(f"                 at the latest {result['taken_back_longest_ms']:6.1f} ms")
    print(f"longest time without a token  {result['longest_gap_ms']:6.1f} ms (window {result['window_ms']:g} ms)")


if __name__ == "__main__":
    main()
