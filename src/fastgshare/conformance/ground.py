"""The ground that an interposer is tried on: a device, its node daemon, and probe programs on shares of it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.errors import InstanceFailed
from fastgshare.domain.rects import Rect
from fastgshare.domain.shares import Share
from fastgshare.manager import environments
from fastgshare.manager.node import NodeDaemon
from fastgshare.native import library

PATIENCE_S: Final = 60.0
"""A probe that says nothing for so long is taken for hung."""

_LONGEST_LINE: Final = 2**24

Line = Mapping[str, Any]
Place = tuple[Share, Rect]


def share(quota: float, limit: float | None = None, *, sm: int = 100, sm_at: int = 0, at: float = 0.0) -> Place:
    """A share of `sm` percent from `sm_at` and its rect from `at` in the window, without a memory cap."""
    return Share(sm, quota, quota if limit is None else limit), Rect(sm_at, at, sm, quota)


def capped(mem_bytes: int, sm: int = 100, sm_at: int = 0) -> Place:
    """A share for trying memory: as much time as there is, and a cap."""
    return Share(sm, 1.0, 1.0, mem_bytes), Rect(sm_at, 0.0, sm, 1.0)


def slices(number: int) -> list[tuple[int, int]]:
    """Disjoint SM ranges for `number` instances side by side: (percent, where it begins)."""
    sm = 100 // number
    return [(sm, i * sm) for i in range(number)]


@dataclass(slots=True)
class Probe:
    """A program that was started. lines: what it said so far."""

    instance_id: str
    process: asyncio.subprocess.Process
    lines: list[Line] = field(default_factory=list)
    errors: str = ""

    @property
    def status(self) -> int:
        """Its exit status, or minus the signal that ended it; once it has ended."""
        return self.process.returncode if self.process.returncode is not None else -1

    def say(self, word: str = "go") -> None:
        """Answer a program that waits."""
        assert self.process.stdin is not None
        with suppress(OSError):
            self.process.stdin.write(f"{word}\n".encode())

    async def line(self) -> Line:
        """The next line it says; one with status "gone" when there is none. Raises `InstanceFailed` if it hangs."""
        assert self.process.stdout is not None
        try:
            text = await asyncio.wait_for(self.process.stdout.readline(), PATIENCE_S)
        except TimeoutError:
            raise InstanceFailed(self.instance_id, f"said nothing for {PATIENCE_S:g} s") from None
        found: Line = json.loads(text) if text.strip() else {"status": "gone"}
        if text.strip():
            self.lines.append(found)
        return found

    async def finish(self) -> Sequence[Line]:
        """Hear it out until it ends, and return all that it said."""
        assert self.process.stderr is not None and self.process.stdin is not None
        errors = asyncio.create_task(self.process.stderr.read())
        while (await self.line()).get("status") != "gone":
            pass
        self.process.stdin.close()
        self.errors += (await asyncio.wait_for(errors, PATIENCE_S)).decode(errors="replace")
        await asyncio.wait_for(self.process.wait(), PATIENCE_S)
        return self.lines

    def what_went_wrong(self) -> str:
        """In a few words: what the last line, the exit status and standard error have to say."""
        last = self.lines[-1] if self.lines else {}
        call = f"{last['error_call']} returned {last['error']}" if last.get("error_call") else ""
        said = self.errors.strip().splitlines()[-1:] or [""]
        return "; ".join(part for part in (call, f"exit status {self.status}", said[0][:120]) if part)


class Ground:
    """A device with its daemon. All that it started ends with it.

    device: a stand-in or a GPU. preload: the interposer on trial (None: ours). base: the environment that programs
    would have without a share (None: this process's), with what they need to be held to their SMs.
    """

    def __init__(
        self, device: Device, directory: Path, preload: Path | None, base: Mapping[str, str] | None = None
    ) -> None:
        self.device = device
        self.directory = directory
        self.preload = preload
        self._base = base
        self.daemon = NodeDaemon([device], directory)
        self._numbers = count(1)
        self._probes: list[Probe] = []

    async def __aenter__(self) -> Self:
        """Start the daemon. Raises `DaemonUnavailable`."""
        await self.daemon.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End what is left of the probes, and the daemon."""
        for probe in self._probes:
            if probe.process.returncode is None:
                probe.process.kill()
                await probe.process.wait()
        await self.daemon.stop()

    @property
    def on_standin(self) -> bool:
        """Whether the device is the stand-in."""
        return self.device.kind is DeviceKind.STANDIN

    def program(self, way: str, *words: str) -> list[str]:
        """The command line of the probe that finds the driver's calls in that way."""
        name = "probe_linked" if way in ("linked", "next") else "probe"
        return [str(library(f"probes/{name}")), way, *words]

    def environment(
        self, place: Place, instance_id: str, settings: Mapping[str, str] = {}, *, alone: bool = False
    ) -> dict[str, str]:
        """Of a program on that share. alone: on a stand-in of its own. settings: further ones of the stand-in."""
        base = dict(os.environ if self._base is None else self._base)
        base["FASTGSHARE_STANDIN"] = ",".join(f"{key}={value}" for key, value in settings.items())
        state = self.directory / "device" if self.on_standin and not alone else None
        return environments.environment(
            *(self.device, place[0]),
            socket_path=self.daemon.socket_path,
            instance_id=instance_id,
            state=state,
            base=base,
            preload=self.preload,
        )

    async def start(self, place: Place, way: str, *words: str, group: str = "") -> Probe:
        """Start a probe on a share, of a trust group: admitted, and told to begin."""
        return await self.start_program(place, self.program(way, *words), group=group)

    async def start_program(
        self, place: Place, words: Sequence[str], settings: Mapping[str, str] = {}, *, group: str = ""
    ) -> Probe:
        """The same with a command line of its own; it begins when its standard input says so."""
        instance_id = f"probe-{next(self._numbers)}"
        probe = await self.start_alone(instance_id, words, self.environment(place, instance_id, settings))
        await self.daemon.admit(instance_id, probe.process.pid, *place, group=group)
        probe.say()
        return probe

    async def start_alone(self, instance_id: str, words: Sequence[str], env: Mapping[str, str]) -> Probe:
        """Start a program that nobody admits."""
        process = await asyncio.create_subprocess_exec(
            *words,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=_LONGEST_LINE,
            env=env,
            start_new_session=True,
        )
        probe = Probe(instance_id, process)
        self._probes.append(probe)
        return probe

    async def run(self, place: Place, way: str, *words: str) -> Probe:
        """Start a probe on a share and hear it out."""
        probe = await self.start(place, way, *words)
        await probe.finish()
        return probe

    async def side_by_side(self, runs: Sequence[tuple[Place, Sequence[str]]]) -> list[Probe]:
        """Run several at once, each given by its share and its words, the way first."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self.run(place, *words)) for place, words in runs]
        return [task.result() for task in tasks]

    def python(self, module: str, *words: str) -> list[str]:
        """The command line of a probe in Python."""
        return [sys.executable, "-m", module, *words]
