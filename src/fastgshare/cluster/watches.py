"""Watches over devices: a counters process for each, started again when it dies, and the latest it has said."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Final, Self

from fastgshare.cluster.attributions import Attributions
from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.errors import FastGShareError, NotFound, WireError
from fastgshare.domain.instances import InstanceStatus
from fastgshare.domain.ports import Ledger
from fastgshare.domain.readings import Part, Reading
from fastgshare.manager.counter_lines import decode
from fastgshare.manager.counters import NO_COUNTERS, NOT_THERE
from fastgshare.manager.environments import beside

COUNTERS: Final = (sys.executable, "-P", "-m", "fastgshare.manager.counters")
"""What reads a device. -P: a file of the current folder must not stand in for a module."""

Listener = Callable[[str, Reading], None]
"""Is called with a device's id and a reading."""

_SHORTEST_S: Final = 0.5
_LONGEST_S: Final = 60.0
_HEALTHY_S: Final = 10.0
"""One that has lived for so long is replaced after the shortest time; each that dies sooner, after twice the last."""
_SILENT_S: Final = 10.0
"""One that says nothing for so long, and ten periods more, hangs in a call, as on a device that is lost."""
_KILLED_S: Final = 5.0
"""One that was killed has ended by then, unless the driver does not let go of it."""
_END_S: Final = 2.0
_LONGEST_LINE: Final = 65536
_NONE: Final[Mapping[str, Any]] = MappingProxyType({})


class Watches:
    """What the devices of this machine say of themselves, as long as entered: ``async with Watches(...) as watches``.

    devices: whichever; abstract ones are not watched. env: of this process. states: by stand-in, the file in which its
    processes share its state. listener: is told of readings with new XIDs, and of the first that says that a device is
    lost: because NVML says so, hangs for good, or does not find it any more. ledger, observe: the sums of the ledger
    and the instances, for the parts of each; None: there are no parts. period_s: between two readings. command: what
    reads a device; ``--device JSON --period-s N`` is appended.
    """

    def __init__(
        self,
        devices: Sequence[Device],
        *,
        env: Mapping[str, str],
        states: Mapping[str, Path] = _NONE,
        listener: Listener | None = None,
        ledger: Ledger | None = None,
        observe: Callable[[], Sequence[InstanceStatus]] = tuple,
        period_s: float = 1.0,
        command: Sequence[str] = COUNTERS,
        silent_s: float = _SILENT_S,
    ) -> None:
        self._attributions = None if ledger is None else Attributions(ledger, observe)
        self._listener = listener
        watched = [device for device in devices if device.kind is not DeviceKind.ABSTRACT]
        self._watches = {
            device.id: Watch(device, self._hear, env, states.get(device.id), period_s, command, silent_s)
            for device in watched
        }
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        runs = {f"watch over {id}": watch.run() for id, watch in self._watches.items()}
        if self._attributions is not None:
            runs["attributions"] = self._attributions.run()
        self._tasks = [asyncio.create_task(run, name=name) for name, run in runs.items()]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End all processes; one that hangs in a call is killed and not waited for."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def settled(self, timeout_s: float) -> None:
        """Return once every device has been read, or has turned out not to be readable; at the latest after that."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                for watch in self._watches.values():
                    await watch.settled.wait()

    def reading(self, device_id: str) -> Reading:
        """The latest of a device; one without figures before it was read. Raises `NotFound` if it is not watched."""
        return self._watch(device_id).reading

    def readings(self) -> Mapping[str, Reading]:
        """The latest of all, by device."""
        return {id: watch.reading for id, watch in self._watches.items()}

    def xid_counts(self) -> Mapping[str, Mapping[int, int]]:
        """By device, how often which XID was logged since entered."""
        return {id: dict(watch.xids) for id, watch in self._watches.items()}

    def parts(self) -> Mapping[str, Part]:
        """By instance, what of its device's use is its own."""
        return {} if self._attributions is None else self._attributions.parts()

    def ignored(self, device_id: str) -> int:
        """Lines of a device's counters that were no readings. Raises `NotFound`."""
        return self._watch(device_id).ignored

    def restarts(self, device_id: str) -> int:
        """How often a device's counters had to be started again. Raises `NotFound`."""
        return self._watch(device_id).restarts

    def _watch(self, device_id: str) -> Watch:
        if device_id not in self._watches:
            raise NotFound("watched device", device_id)
        return self._watches[device_id]

    def _hear(self, device_id: str, reading: Reading, is_news: bool) -> None:
        if self._attributions is not None:
            self._attributions.note(device_id, reading)
        if not is_news or self._listener is None:
            return
        try:
            self._listener(device_id, reading)
        except Exception as error:
            context = {"message": "a listener of the watches failed", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)


class Watch:
    """One device, its counters process and what that has said.

    heard: is called with its id, every reading, and whether that has news: XIDs, or the loss of the device.
    """

    def __init__(
        self,
        device: Device,
        heard: Callable[[str, Reading, bool], None],
        env: Mapping[str, str],
        state: Path | None,
        period_s: float,
        command: Sequence[str],
        silent_s: float,
    ) -> None:
        self.reading = Reading(time.monotonic(), problem="it was not read yet")
        self.settled = asyncio.Event()
        self.xids: Counter[int] = Counter()
        self.ignored = 0
        self.restarts = 0
        self._device = device
        self._heard = heard
        self._env = env
        self._state = state
        self._command = [*command, "--device", json.dumps(asdict(device)), "--period-s", str(period_s)]
        self._silent_s = silent_s + 10 * period_s
        self._last_line = ""
        self._was_read = False

    async def run(self) -> None:
        """Watch for as long as it is not cancelled."""
        patience_s = 0.0
        while True:
            began_s = time.monotonic()
            status = await self._follow_one()
            patience_s = next_patience(patience_s, time.monotonic() - began_s, status)
            await asyncio.sleep(patience_s)
            self.restarts += 1

    async def _follow_one(self) -> int | None:
        """Start a counters process and hear it out; its exit status."""
        self._last_line = ""
        try:
            process = await self._start()
        except (OSError, FastGShareError) as error:
            self._fail(f"its counters cannot be read: {error}")
            return NO_COUNTERS
        try:
            silent = not await self._listen(process)
            self._fail(f"its counters said nothing for {self._silent_s:g} s" if silent else "its counters ended")
            _kill(process)
            if not await _ends(process, _KILLED_S):
                self._lose("its counters hang in a call, and do not end though they were killed")
            status = await process.wait()  # as long as it takes: another would hang as well
            if not silent:
                self._fail(self._last_line or f"its counters ended with exit status {status}")
            if status == NOT_THERE and self._was_read:
                self._lose(f"it is not there any more: {self.reading.problem}")
            return status
        finally:
            await _end(process)

    async def _start(self) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=beside(self._device, state=self._state, base=self._env),
            limit=_LONGEST_LINE,
            start_new_session=True,
        )

    async def _listen(self, process: asyncio.subprocess.Process) -> bool:
        """Take in what it says until it ends; False: it went silent."""
        assert process.stdout is not None
        while True:
            try:
                async with asyncio.timeout(self._silent_s):
                    line = await process.stdout.readline()
            except TimeoutError:
                return False
            except ValueError:  # a line without an end
                self.ignored += 1
                continue
            if not line:
                return True
            self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            reading = decode(line)
        except WireError:
            self.ignored += 1
            self._last_line = line.decode(errors="replace").strip().removeprefix("error: ")
            return
        is_news = bool(reading.xids) or (reading.lost and not self.reading.lost)
        self.reading = reading
        self._was_read |= reading.has_figures
        self.settled.set()
        self.xids.update(number for _, number in reading.xids)
        self._heard(self._device.id, reading, is_news)

    def _fail(self, problem: str) -> None:
        """There are no figures until the next reading; absent ones, not old ones."""
        lost = self.reading.lost
        self.reading = replace(Reading(time.monotonic()), lost=lost, problem=problem)
        self.settled.set()

    def _lose(self, problem: str) -> None:
        """It does not answer any more, whoever says so. A CPU cannot be lost: then this machine would be."""
        if self._device.kind is DeviceKind.CPU:
            return
        is_news = not self.reading.lost
        self.reading = replace(Reading(time.monotonic()), lost=True, problem=problem)
        self._heard(self._device.id, self.reading, is_news)


def next_patience(before_s: float, lived_s: float, status: int | None) -> float:
    """How long to wait before a counters process is started again. before_s: how long that was the last time."""
    if status in (NO_COUNTERS, NOT_THERE):
        return _LONGEST_S
    return _SHORTEST_S if lived_s > _HEALTHY_S else min(_LONGEST_S, max(_SHORTEST_S, 2 * before_s))


def _kill(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.kill()


async def _ends(process: asyncio.subprocess.Process, within_s: float) -> bool:
    with suppress(TimeoutError):
        await asyncio.wait_for(process.wait(), within_s)
    return process.returncode is not None


async def _end(process: asyncio.subprocess.Process) -> None:
    _kill(process)
    await _ends(process, _END_S)
