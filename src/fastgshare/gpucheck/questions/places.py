"""Runs of `places`, the program that answers, and MPS servers for them; all are ended with the question."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from fastgshare.domain.devices import DeviceKind
from fastgshare.domain.errors import FastGShareError
from fastgshare.gpucheck.benches import Bench
from fastgshare.manager.mps import MpsControl
from fastgshare.manager.mps_programs import find_control
from fastgshare.native import library

PROGRAM: Final = "probes/places"
PATIENCE_S: Final = 8.0
"""How long a process may take to say something: making a context on a busy GPU takes a second."""
_LEAVE_S: Final = 2.0

ERRORS: Final = {
    2: "OUT_OF_MEMORY",
    3: "NOT_INITIALIZED",
    46: "DEVICE_UNAVAILABLE",
    100: "NO_DEVICE",
    700: "ILLEGAL_ADDRESS",
    719: "LAUNCH_FAILED",
    801: "NOT_SUPPORTED",
    805: "MPS_CONNECTION_FAILED",
    806: "MPS_RPC_FAILURE",
    807: "MPS_SERVER_NOT_READY",
    808: "MPS_MAX_CLIENTS_REACHED",
    809: "MPS_MAX_CONNECTIONS_REACHED",
    810: "MPS_CLIENT_TERMINATED",
    914: "INVALID_RESOURCE_TYPE",
    915: "INVALID_RESOURCE_CONFIGURATION",
    999: "UNKNOWN",
}
"""Those that are likely here, of CUDA's."""

Line = Mapping[str, Any]


class PlacesFailed(FastGShareError):
    """A run said that it failed, said nothing, or ended before it had said all. error: CUDA's, 0 if there is none."""

    def __init__(self, why: str, error: int = 0) -> None:
        super().__init__(why)
        self.error = error


def error_name(error: int) -> str:
    """CUDA's name for it, with its number; "" for success."""
    return f"{ERRORS.get(error, 'error')} ({error})" if error else ""


class Run:
    """A process of `places`. words: its command."""

    def __init__(self, words: str, process: asyncio.subprocess.Process) -> None:
        self._words = words
        self._process = process

    async def line(self, patience_s: float = PATIENCE_S) -> Line:
        """What it says next. Raises `PlacesFailed`."""
        assert self._process.stdout is not None
        try:
            text = await asyncio.wait_for(self._process.stdout.readline(), patience_s)
        except TimeoutError:
            raise PlacesFailed(f"`places {self._words}` said nothing for {patience_s:g} s") from None
        if not text:
            raise PlacesFailed(f"`places {self._words}` ended early: {await self._last_words()}")
        found: Line = json.loads(text)
        if found.get("status") == "failed":
            said = f"{found['error_call']}: {error_name(found['error'])}" if found["error"] > 0 else found["error_call"]
            raise PlacesFailed(f"`places {self._words}` failed in {said}", max(0, found["error"]))
        return found

    def tell(self) -> None:
        """Give it the word that it waits for."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.write(b"go\n")

    async def leave(self) -> None:
        """End it: by its own will, if it has one; else it is killed."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), _LEAVE_S)
        finally:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()

    async def _last_words(self) -> str:
        assert self._process.stderr is not None
        with suppress(TimeoutError):
            said = (await asyncio.wait_for(self._process.stderr.read(), 1)).decode(errors="replace").strip()
            return said.splitlines()[-1][:300] if said else "nothing on standard error"
        return "it is there still"


@asynccontextmanager
async def places(env: Mapping[str, str], *words: str) -> AsyncIterator[Run]:
    """A run with an environment; it has ended when the block has. Raises `NotFound` if it was not built."""
    process = await asyncio.create_subprocess_exec(
        *(str(library(PROGRAM)), *words),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=dict(env),
        start_new_session=True,
    )
    run = Run(" ".join(words), process)
    try:
        yield run
    finally:
        await run.leave()


async def say(env: Mapping[str, str], *words: str, patience_s: float = PATIENCE_S) -> Line:
    """The first line of a run. Raises `PlacesFailed`."""
    async with places(env, *words) as run:
        return await run.line(patience_s)


@asynccontextmanager
async def mps(bench: Bench) -> AsyncIterator[MpsControl]:
    """An MPS server with a pipe directory of its own, which has ended when the block has.

    Raises `NotFound` where there is no MPS, `PartitionerUnavailable` where it does not start.
    """
    env = bench.of_programs()
    device_id = bench.device.id if bench.device.kind is DeviceKind.GPU else ""
    control = MpsControl(bench.folder(), find_control(bench.device, env), device_id, env)
    try:
        await asyncio.to_thread(control.start)
        yield control
    finally:
        await asyncio.to_thread(control.quit)
