"""Gauges: what the device's own counters say meanwhile, read by a process of its own."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from types import TracebackType
from typing import Final, Self

from fastgshare.domain.readings import Reading
from fastgshare.gpucheck.benches import Bench
from fastgshare.manager.counter_lines import decode

COUNTERS: Final[Mapping[str, str]] = {
    "utilisation": "busy",
    "sm_utilisation": "SMs active",
    "sm_occupancy": "occupancy",
}
"""What is kept -> its heading. Fractions of 1; what the device does not count is absent."""

_KEPT: Final = 1000
_PERIOD_S: Final = "0.2"


class Gauges:
    """Reads counters for as long as it is entered. problem: why there are none, "" if there are."""

    def __init__(self, bench: Bench) -> None:
        self.problem = ""
        self._bench = bench
        self._readings: deque[Reading] = deque(maxlen=_KEPT)
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Start the process that reads them."""
        words = ("-m", "fastgshare.manager.counters", "--device", json.dumps(asdict(self._bench.device)))
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, *words, "--period-s", _PERIOD_S),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self._bench.of_programs(),
            start_new_session=True,
        )
        self._reader = asyncio.create_task(self._read(self._process))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End it."""
        assert self._process is not None and self._reader is not None
        self._reader.cancel()
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None and process.stderr is not None
        while line := await process.stdout.readline():
            self._readings.append(decode(line))
        said = (await process.stderr.read()).decode(errors="replace").strip().splitlines()
        self.problem = said[-1] if said else "the counters' reader ended"

    def between(self, from_ns: int, until_ns: int) -> dict[str, float]:
        """Means of what was read in a time, by counter; nothing of what is not counted."""
        begun_ns = from_ns + 1e9 * float(_PERIOD_S) / 2  # a reading is of the time since the one before
        found = [reading for reading in self._readings if begun_ns <= 1e9 * reading.at_s <= until_ns]
        values = {name: [v for r in found if (v := getattr(r, name)) is not None] for name in COUNTERS}
        return {name: round(sum(each) / len(each), 4) for name, each in values.items() if each}
