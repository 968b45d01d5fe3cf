"""Warm-up: run a handler on its own sample until the times settle, and learn how long its bursts are."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from typing import Final

from fastgshare.domain.errors import InvalidValue
from fastgshare.domain.requests import Request
from fastgshare.runtime.bursts import Bursts
from fastgshare.runtime.worker import Worker

_FEWEST_RUNS: Final = 3
_MOST_RUNS: Final = 8
_MOST_TIME_S: Final = 2.0
_SETTLED: Final = 0.1


def warm_up(worker: Worker, sample: bytes, sizes: Iterable[int], bursts: Bursts) -> None:
    """Run batches of the given sizes, each until a run takes as long as the one before it (3 to 8 runs, 2 s at most).

    The first run of each size is forgotten, unless it was so long that there is no time for another.
    Raises `InvalidValue` if the handler fails on its own sample.
    """
    cold_s = {size: _run(worker, sample, size) for size in sizes}
    if sum(cold_s.values()) > _MOST_TIME_S:
        return
    bursts.forget()
    for size in cold_s:
        _settle(worker, sample, size)


def _settle(worker: Worker, sample: bytes, size: int) -> None:
    spent_s = before_s = 0.0
    for run in range(1, _MOST_RUNS + 1):
        took_s = _run(worker, sample, size)
        spent_s += took_s
        settled = run >= _FEWEST_RUNS and abs(took_s - before_s) <= _SETTLED * took_s
        if settled or spent_s > _MOST_TIME_S:
            return
        before_s = took_s


def _run(worker: Worker, sample: bytes, size: int) -> float:
    """Seconds that one batch of samples takes."""
    began_s = time.monotonic()
    requests = [Request(number, "", sample, began_s, math.inf) for number in range(size)]
    for reply in worker.work(requests, more=lambda: False):
        if reply.status >= 400:
            text = reply.body.decode(errors="replace").strip()
            raise InvalidValue("handler", "sample", f"a sample that the handler can answer ({text})")
    return time.monotonic() - began_s
