"""A synthetic instance that always has work: holds tokens without burning a core, and logs every hold.

``python -m fastgshare.manager.saturation``: says "ready" once registered, starts at the line "go" on stdin, ends at
SIGTERM or when stdin is closed. The log is a file of records (start_ns, end_ns, latency_ns), written hold by hold, so
that it survives a kill.
"""

from __future__ import annotations

import os
import signal
import struct
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

import click

from fastgshare.domain.units import ns
from fastgshare.manager.gate import Gate

RECORD: Final = struct.Struct("<QQQ")
_LOOK_UP_S: Final = 0.1
_PRIORITY: Final = -9
"""It uses next to no CPU: where it may, it goes before other work, so that the mechanism is measured, not the machine.
Below the daemon's."""


class Saturation:
    """Holds the token whenever it may; work of `burst_s` that cannot stop, or (0) work that can stop at any moment."""

    def __init__(self, gate: Gate, burst_s: float, log_fd: int) -> None:
        self._gate = gate
        self._burst_s = burst_s
        self._log_fd = log_fd
        self.stopping = False

    def run(self) -> None:
        """Work until told to stop."""
        while not self.stopping:
            if self._gate.acquire(self._burst_s, timeout_s=_LOOK_UP_S):
                start_ns = time.monotonic_ns()
                self._work()
                end_ns = time.monotonic_ns()
                self._gate.release(more=not self.stopping)
                os.write(self._log_fd, RECORD.pack(start_ns, end_ns, ns(self._gate.grant_latency_s)))

    def _work(self) -> None:
        going_on = True
        while going_on:
            if self._burst_s:
                time.sleep(self._burst_s)
            else:
                self._gate.hold()
            going_on = self._gate.may_continue(self._burst_s) and not self.stopping


def read_log(path: Path) -> list[tuple[int, int, int]]:
    """Records of a log: (start_ns, end_ns, latency_ns); a last one that was cut off is left out."""
    data = path.read_bytes()
    whole = len(data) - len(data) % RECORD.size
    return list(RECORD.iter_unpack(data[:whole]))


@click.command()
@click.option("--socket", "socket_path", type=click.Path(path_type=Path), required=True, help="The node daemon's.")
@click.option("--instance", required=True, help="Its id.")
@click.option("--burst-s", type=float, default=0.0, help="Length of uninterruptible work.")
@click.option("--log", type=click.Path(path_type=Path), required=True, help="Where to write its holds.")
def main(socket_path: Path, instance: str, burst_s: float, log: Path) -> None:
    """Run one saturated instance."""
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, _PRIORITY)
    gate = Gate(socket_path, instance)
    saturation = Saturation(gate, burst_s, os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND))
    signal.signal(signal.SIGTERM, lambda *_: setattr(saturation, "stopping", True))
    print("ready", flush=True)
    if sys.stdin.readline().strip() == "go":
        saturation.run()
    gate.close()


if __name__ == "__main__":
    main()
