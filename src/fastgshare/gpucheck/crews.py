"""Crews: workers side by side on a device, in one way of sharing it, each on its place; used again and again."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from fastgshare.domain.errors import InstanceFailed
from fastgshare.domain.rects import Rect
from fastgshare.domain.shares import Share
from fastgshare.gpucheck.benches import Bench
from fastgshare.gpucheck.loops import Task
from fastgshare.gpucheck.names import Mode
from fastgshare.manager.node import NodeDaemon

Place = tuple[Share, Rect]
Line = Mapping[str, Any]

LEAD_S: Final = 0.02
"""From when tasks are handed out to when the first may begin."""

_LATE_S: Final = 20.0
_LEAVE_S: Final = 2.0
_LINE_BYTES: Final = 2**20


def places(mode: Mode, number: int) -> list[Place]:
    """Where `number` equal instances are in a mode: disjoint in time, in SMs, or everywhere."""
    if mode.hooked and not mode.mps:
        quota = 1 / number
        return [(Share(100, quota, 1.0), Rect(0, i * quota, 100, quota)) for i in range(number)]
    sm = 100 // number if mode.hooked else 100
    return [(Share(sm, 1.0, 1.0), Rect(sm * i if mode.hooked else 0, 0.0, sm, 1.0)) for i in range(number)]


class Worker:
    """A process that obeys lines. errors: the file that its standard error goes to."""

    def __init__(self, instance_id: str, process: asyncio.subprocess.Process, errors: Path) -> None:
        self.instance_id = instance_id
        self.process = process
        self.ready: Line = {}
        self._errors = errors

    def tell(self, line: str) -> None:
        """A line on its standard input."""
        assert self.process.stdin is not None
        with suppress(OSError):
            self.process.stdin.write(f"{line}\n".encode())

    async def line(self, patience_s: float) -> Line:
        """What it answers. Raises `InstanceFailed` if it ends, or says nothing for so long."""
        try:
            async with asyncio.timeout(patience_s):
                return await self._next_line()
        except TimeoutError:
            raise InstanceFailed(self.instance_id, f"said nothing for {patience_s:.0f} s") from None

    async def _next_line(self) -> Line:
        """The next one that is ours: frameworks say things too."""
        assert self.process.stdout is not None
        while text := await self.process.stdout.readline():
            with suppress(ValueError):
                found = json.loads(text)
                if isinstance(found, dict):
                    return found
        raise InstanceFailed(self.instance_id, f"ended: {await asyncio.to_thread(self._last_words)}")

    async def perform(self, task: Task) -> Line:
        """What came of a task; what went wrong is a line with status "failed" too."""
        self.tell(json.dumps(task.document()))
        try:
            return await self.line((task.until_ns - time.monotonic_ns()) / 1e9 + _LATE_S)
        except InstanceFailed as error:
            with suppress(ProcessLookupError):
                self.process.kill()  # a late answer would be taken for that to the next task
            return {"status": "failed", "why": str(error)}

    async def leave(self) -> None:
        """End it: by its own will, if it listens."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            await asyncio.wait_for(self.process.wait(), _LEAVE_S)
        except BaseException:
            with suppress(ProcessLookupError):
                self.process.kill()
            await self.process.wait()
            raise

    def _last_words(self) -> str:
        lines = self._errors.read_text(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else "nothing on standard error"


class Crew:
    """Workers in a mode, one on each place. words: their command line, after ``python -m fastgshare.gpucheck.``."""

    def __init__(self, bench: Bench, mode: Mode, at: Sequence[Place], words: Sequence[str]) -> None:
        self.mode = mode
        self.workers: list[Worker] = []
        self._bench = bench
        self._places = list(at)
        self._words = words
        self._folder = bench.folder()
        self._daemon = NodeDaemon([bench.device], self._folder) if mode.hooked else None

    async def __aenter__(self) -> Self:
        """Start all of them, and return when they are ready.

        Raises `InstanceFailed`, `NotThere`, `DaemonUnavailable`.
        """
        try:
            if self.mode.mps:
                await self._bench.open_mps()
            if self._daemon is not None:
                await self._daemon.start()
            for number, place in enumerate(self._places):
                await self._start(number, place)
            for worker in self.workers:
                worker.ready = await worker.line(max(1.0, self._bench.left_s))
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End them and their daemon."""
        await self._end()

    async def _start(self, number: int, place: Place) -> None:
        instance_id = f"{self.mode.name.replace(' ', '-').lower()}-{number}"
        socket = self._daemon.socket_path if self._daemon else self._folder / "none"
        errors = self._folder / f"{number}.err"
        with errors.open("wb") as stream:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", f"fastgshare.gpucheck.{self._words[0]}", *self._words[1:]),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=stream,
                limit=_LINE_BYTES,
                env=self._bench.environment(self.mode, place[0], socket_path=socket, instance_id=instance_id),
                start_new_session=True,
            )
        self.workers.append(Worker(instance_id, process, errors))
        if self._daemon is not None:
            await self._daemon.admit(instance_id, process.pid, *place)
        self.workers[-1].tell("go")

    async def shrink(self, number: int) -> None:
        """Only the first `number` stay, and share the device anew."""
        leaving, self.workers = self.workers[number:], self.workers[:number]
        await asyncio.gather(*(worker.leave() for worker in leaving), return_exceptions=True)
        if self._daemon is None:
            return
        for worker in leaving:
            await self._daemon.remove(worker.instance_id)
        again = zip(self.workers, places(self.mode, number), strict=True)
        await self._daemon.place({worker.instance_id: place for worker, place in again})

    async def perform(self, tasks: Sequence[Task | None]) -> list[Line]:
        """Hand out tasks, one a worker (None: it stays idle), and return what came of them."""
        each = zip(self.workers, tasks, strict=False)
        return await asyncio.gather(*(worker.perform(task) for worker, task in each if task is not None))

    async def _end(self) -> None:
        await asyncio.gather(*(worker.leave() for worker in self.workers), return_exceptions=True)
        if self._daemon is not None:
            await self._daemon.stop()


async def enter_all(stack: AsyncExitStack, crews: Sequence[Crew]) -> None:
    """Enter crews at once, for they take seconds to start. Raises what the first one that fails raises."""
    try:
        async with asyncio.TaskGroup() as group:
            for crew in crews:
                group.create_task(stack.enter_async_context(crew))
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


def task(model: str, batch: int, settle_s: float, seconds: float, *, rate: float = 0.0, seed: int = 1) -> Task:
    """A task that begins now, and counts after `settle_s`."""
    from_ns = time.monotonic_ns() + round(1e9 * (LEAD_S + settle_s))
    return Task(model, batch, from_ns, from_ns + round(1e9 * seconds), rate, seed)
