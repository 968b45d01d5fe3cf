"""The worker on the stand-in, where torch cannot run: plays kernel traces.

``python -m fastgshare.gpucheck.replay_worker TRACE...``: every task is a process of the native program ``replay``, on
this worker's share as its child.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from fastgshare import native
from fastgshare.domain.errors import FastGShareError
from fastgshare.gpucheck.loops import Task
from fastgshare.gpucheck.names import LAUNCHES
from fastgshare.gpucheck.workers import admitted, obey, say
from fastgshare.sim import traces

SMALL: Final = Path(__file__).with_name("launches.trace")
_SHORTEST_S: Final = 0.01


def words(task: Task, trace: Path, now_ns: int) -> list[str]:
    """The command line of a task that begins now."""
    settle_s = max(_SHORTEST_S, (task.from_ns - now_ns) / 1e9)
    seconds = max(_SHORTEST_S, (task.until_ns - max(now_ns, task.from_ns)) / 1e9)
    found = [str(native.library("probes/replay")), str(trace), "--seed", str(task.seed)]
    found += ["--settle", f"{settle_s:.6f}", "--seconds", f"{seconds:.6f}"]
    return [*found, "--rate", f"{task.rate:.6f}"] if task.rate > 0 else found


def answer(document: Mapping[str, Any]) -> dict[str, object]:
    """What a worker says, from what the program said."""
    latency = document["latency_ms"]
    found = {"requests": document["requests"], "rps": document["rps"], "unanswered": document["unanswered"]}
    found |= {"latencies_ms": document["latencies_ms"]} if "latencies_ms" in document else {}
    return found | {"p50_ms": latency["p50"], "p99_ms": latency["p99"]}


def perform(task: Task) -> Mapping[str, object]:
    """Play a trace as the task says. Raises `FastGShareError`."""
    trace = SMALL if task.model == LAUNCHES else traces.shipped(task.model)
    command = words(task, trace, time.monotonic_ns())
    done = subprocess.run(command, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise FastGShareError(done.stderr.strip() or f"replay ended with status {done.returncode}")
    return answer(json.loads(done.stdout))


def main(arguments: Sequence[str]) -> int:
    """Obey until standard input ends. arguments: names of traces, which are said to be ready. The exit status."""
    if not admitted():
        return 0
    say({"status": "ready", "models": list(arguments), "absent": {}, "kind": "kernel traces on the stand-in"})
    obey(perform)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
