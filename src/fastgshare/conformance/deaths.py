"""The daemon dies: its instances go on in their own slots, say so, and live on loans again when it is back."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from fastgshare.conformance.busy import fraction
from fastgshare.conformance.gating import ran, spans
from fastgshare.conformance.ground import Ground, Line, share
from fastgshare.conformance.rows import Row, judged
from fastgshare.manager.node import NodeDaemon

_QUOTA: Final = 0.3
_LIMIT: Final = 0.9
_OUTAGE_S: Final = 0.9
_SAID_AT_MOST: Final = 2  # that it is gone, and that it is back
_LOAN_ENDS_S: Final = 0.3  # how long loans hold after a daemon's last sign of life, and a little more


async def rows(ground: Ground) -> list[Row]:
    """The daemon is killed under an instance that lives on loans too, and its successor is held up for a while."""
    probe = await ground.start(share(_QUOTA, _LIMIT), "dlsym", "load", "seconds=4")
    await probe.line()
    await asyncio.sleep(0.8)
    with _quiet(logging.getLogger(NodeDaemon.__module__)):
        killed_ns = time.monotonic_ns()
        await _outage(ground.daemon)
        await probe.finish()
    line = ran(probe)
    names = ["death: goes on in its own slots", "death: says so once", "death: comes back when the daemon does"]
    if line is None or line["error"]:
        return [judged(name, False, probe.what_went_wrong()) for name in names]
    return _judge_death(names, line, killed_ns, probe.errors)


async def _outage(daemon: NodeDaemon) -> None:
    first = daemon.pid
    os.kill(first, signal.SIGKILL)
    ends_s = time.monotonic() + _OUTAGE_S
    held_up = 0
    while time.monotonic() < ends_s:
        if not held_up and daemon.pid not in (0, first):
            held_up = daemon.pid
            os.kill(held_up, signal.SIGSTOP)
        await asyncio.sleep(0.005)
    if held_up:
        os.kill(held_up, signal.SIGCONT)


@contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    """That a daemon died is news elsewhere."""
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = False


def _judge_death(names: list[str], line: Line, killed_ns: int, errors: str) -> list[Row]:
    alone = killed_ns + round(_LOAN_ENDS_S * 1e9), killed_ns + round(_OUTAGE_S * 1e9)
    during = fraction(spans(line), *alone)
    after = fraction(spans(line), line["until_ns"] - 10**9, line["until_ns"])
    said = [text.strip()[:80] for text in errors.splitlines() if text.strip()]
    own = f"busy {during:.1%} of the time without it, on a quota of {_QUOTA:.0%}"
    back = f"busy {after:.1%} of the last second, on a limit of {_LIMIT:.0%}"
    return [
        judged(names[0], 0.6 * _QUOTA <= during <= 1.3 * _QUOTA, own, too_little=during < _QUOTA),
        judged(names[1], 1 <= len(said) <= _SAID_AT_MOST, f"said {' and '.join(map(repr, said)) or 'nothing'}"),
        judged(names[2], after >= _LIMIT - 0.15, back, too_little=True),
    ]
