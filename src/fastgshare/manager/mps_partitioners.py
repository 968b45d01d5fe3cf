"""Partitioners by MPS: with control daemons of our own, or by one that runs already."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.errors import PartitionerUnavailable
from fastgshare.domain.partitions import Partitioning
from fastgshare.manager.environments import without_share
from fastgshare.manager.mps import RECOVER_S, MpsControl, pipe_directory
from fastgshare.manager.mps_programs import PIPES, left_behind, mps_runs, pipes_of, wait_until
from fastgshare.manager.mps_shell import MpsShell

POLL_S: Final = 0.5
"""How often a trust group's MPS is asked whether it is well."""
_NAME: Final = re.compile("[0-9a-f]{8}")
"""Of a trust group's directory: not the group's own, for paths of sockets are short."""
_LOGGER: Final = logging.getLogger(__name__)

Listener = Callable[[str, str], None]


class Failures:
    """Trust groups whose work has failed; listeners hear of each once, until it has recovered."""

    def __init__(self) -> None:
        self._failed: set[str] = set()
        self._eras: Counter[str] = Counter()
        self._listeners: list[Listener] = []

    def __contains__(self, group: str) -> bool:
        return group in self._failed

    def watch(self, listener: Listener) -> None:
        """Call `listener(group, reason)` for every group that fails from now on."""
        self._listeners.append(listener)

    def add(self, group: str, reason: str) -> None:
        """A group has failed."""
        if group not in self._failed:
            self._failed.add(group)
            for listener in self._listeners:
                listener(group, reason)

    def forgive(self, group: str) -> None:
        """A group has recovered."""
        self._eras[group] += 1
        self._failed.discard(group)

    def era(self, group: str) -> int:
        """Another one after every recovery: what was seen before says nothing of what is."""
        return self._eras[group]


class MpsPartitioner:
    """MPS: a control daemon and a server for every trust group, so that a fault stays in its group.

    Two servers never have work on the device at once; that no two groups hold tokens at once is for the node daemon to
    see to. lone: the device lets one server in, and so one trust group.
    stays: see `partitioners.choose`; then nobody is told of faults, and `open` waits until the group is well.
    """

    def __init__(
        self,
        device: Device,
        partitioning: Partitioning,
        directory: Path,
        env: Mapping[str, str],
        program: Path,
        *,
        lone: bool = False,
        stays: bool = False,
    ) -> None:
        self._device = device
        self._partitioning = partitioning
        self._directory = directory
        self._env = dict(env)
        self._program = program
        self.lone: Final = lone
        self._stays = stays
        self._controls: dict[str, MpsControl] = {}
        self._opened: set[str] = set()
        self._watchers: dict[str, asyncio.Task[None]] = {}
        self._failures = Failures()

    @property
    def partitioning(self) -> Partitioning:
        """Of name "mps"."""
        return self._partitioning

    async def start(self) -> None:
        """Make the directory, and end what a killed owner left in it, of all groups. Raises `PartitionerUnavailable`.

        A server can outlive its owner and its control daemon, with the device's memory that it has.
        """
        try:
            await asyncio.to_thread(self._directory.mkdir, parents=True, exist_ok=True)
        except OSError as error:
            raise PartitionerUnavailable(f"{self._directory} cannot be made ({error.strerror})") from None
        if not self._stays:
            await asyncio.to_thread(self._sweep)

    def _sweep(self) -> None:
        for directory in self._group_directories():
            self._control_in(directory).quit()
            with suppress(OSError):
                directory.rmdir()  # one that stood for another

    def _group_directories(self) -> list[Path]:
        """Those of all groups that were ever open here and were not ended in order."""
        return [path for path in self._directory.iterdir() if _NAME.fullmatch(path.name)]

    def _control_in(self, directory: Path) -> MpsControl:
        device_id = self._device.id if self._device.kind is DeviceKind.GPU else ""
        return MpsControl(directory, self._program, device_id, self._env, stays=self._stays)

    def control(self, group: str) -> MpsControl:
        """The group's MPS, which may not run yet."""
        if group not in self._controls:
            self._controls[group] = self._control_in(self._directory_of(group))
        return self._controls[group]

    def _directory_of(self, group: str) -> Path:
        return self._directory / hashlib.sha256(group.encode()).hexdigest()[:8]

    def _start(self, control: MpsControl, directory: Path) -> None:
        if control.pipes != directory:  # then it is there for those who look for what was left
            with suppress(OSError):
                directory.mkdir(exist_ok=True)
        control.start()

    async def open(self, group: str) -> None:
        """Have the group's MPS run, and watch it. Raises `PartitionerUnavailable`."""
        control = self.control(group)  # made here: threads would make several
        if self.lone and (others := await asyncio.to_thread(self._others, group)):
            raise PartitionerUnavailable(alone(self._device, group, others, self._partitioning))
        if group in self._watchers and (problem := await asyncio.to_thread(_lasting_problem, control)):
            # Not started anew while processes of it may be there: they would be of another server than those to come.
            self._failures.add(group, problem)
            raise PartitionerUnavailable(f"trust group {group} on device {self._device.id} has failed: {problem}")
        self._opened.add(group)
        await asyncio.to_thread(self._start, control, self._directory_of(group))
        if group not in self._watchers and not self._stays:
            name = f"MPS of trust group {group} on device {self._device.id}"
            self._watchers[group] = asyncio.create_task(self._look_after(group), name=name)

    def environment(self, group: str, base: Mapping[str, str]) -> dict[str, str]:
        """`base`, with the way to the group's MPS."""
        return on_standin(self._device, dict(base) | self.control(group).environment())

    def watch(self, listener: Listener) -> None:
        """Call `listener(group, reason)`, in the loop, when the work of a trust group has failed."""
        self._failures.watch(listener)

    def fail(self, group: str, reason: str) -> None:
        """Somebody else has seen that the work of a group has failed: tell the listeners, unless they know."""
        self._failures.add(group, reason)

    async def recover(self, group: str) -> None:
        """Have the group's MPS take processes again. Raises `PartitionerUnavailable`."""
        await asyncio.to_thread(self.control(group).recover)
        self._failures.forgive(group)

    async def close(self, group: str) -> None:
        """End the group's MPS: nobody of it is on the device any more, and its memory there is somebody else's."""
        watcher = self._watchers.pop(group, None)
        if watcher is not None:
            watcher.cancel()
            await asyncio.gather(watcher, return_exceptions=True)
        self._opened.discard(group)
        self._failures.forgive(group)
        await asyncio.to_thread(self.control(group).quit)

    async def stop(self) -> None:
        """End all groups' control daemons and servers; what stays, of whoever started it."""
        await asyncio.gather(*map(self.close, tuple(self._controls)))

    def _others(self, group: str) -> set[str]:
        """Groups beside this one that are on the device; those that others have opened, by their directories."""
        if others := self._opened - {group}:
            return others
        mine = self.control(group).pipes
        found = map(pipe_directory, self._group_directories()) if self._directory.is_dir() else ()
        return {f"that of {path}" for path in found if path != mine and left_behind(path)}

    async def _look_after(self, group: str) -> None:
        control = self.control(group)
        while True:
            await asyncio.sleep(POLL_S)
            if group in self._failures:
                continue
            try:
                await self._look(group, control)
            except Exception:  # of whatever kind: a group that nobody looks after would hang at its next fault
                _LOGGER.exception("MPS of trust group %s on device %s cannot be looked at", group, self._device.id)

    async def _look(self, group: str, control: MpsControl) -> None:
        era = self._failures.era(group)
        problem = await asyncio.to_thread(_lasting_problem, control)
        if problem and era == self._failures.era(group):
            self._failures.add(group, problem)


class RunningMpsPartitioner:
    """By an MPS that somebody else runs, where none of ours can be: for one trust group.

    It is never ended, and neither are its servers. program: the control program, None if it is not here; what that
    could tell, or what the control daemon refuses to tell, is done without.
    """

    def __init__(
        self, device: Device, partitioning: Partitioning, env: Mapping[str, str], program: Path | None
    ) -> None:
        self._device = device
        self._partitioning = partitioning
        self._env = dict(env)
        self._shell = None if program is None else MpsShell(program, without_share(env))
        self.lone: Final = True
        self._opened: set[str] = set()
        self._failures = Failures()

    @property
    def partitioning(self) -> Partitioning:
        """Of name "mps"."""
        return self._partitioning

    async def start(self) -> None:
        """Nothing has to be made ready."""

    async def open(self, group: str) -> None:
        """See that it runs, and that no other group uses it. Raises `PartitionerUnavailable`."""
        if others := self._opened - {group}:
            raise PartitionerUnavailable(alone(self._device, group, others, self._partitioning))
        if not mps_runs(self._env):
            raise PartitionerUnavailable(f"the MPS control daemon of {pipes_of(self._env)} does not run any more")
        self._opened.add(group)

    def environment(self, group: str, base: Mapping[str, str]) -> dict[str, str]:
        """`base`, with the way to the MPS that runs."""
        return on_standin(self._device, dict(base) | {PIPES: str(pipes_of(self._env))})

    def watch(self, listener: Listener) -> None:
        """Call `listener(group, reason)` when somebody has said that the work of a trust group has failed."""
        self._failures.watch(listener)

    def fail(self, group: str, reason: str) -> None:
        """Somebody has seen that the work of a group has failed: tell the listeners, unless they know."""
        self._failures.add(group, reason)

    async def recover(self, group: str) -> None:
        """Wait until it takes processes again. Raises `PartitionerUnavailable` if it does not within 5 seconds."""
        if not await asyncio.to_thread(wait_until, self._is_well, RECOVER_S):
            problem = f"the MPS that runs on device {self._device.id} has not recovered within {RECOVER_S:g} s"
            raise PartitionerUnavailable(problem)
        self._failures.forgive(group)

    def _is_well(self) -> bool:
        """Whether its servers take processes, as far as it tells."""
        if self._shell is None:
            return True
        try:
            return not self._shell.illness(self._shell.servers())
        except PartitionerUnavailable:
            return True

    async def close(self, group: str) -> None:
        """Nobody of the group is on the device any more: another may be."""
        self._opened.discard(group)

    async def stop(self) -> None:
        """Nothing was started."""


def _lasting_problem(control: MpsControl) -> str:
    """Why its group has failed, or "". Looked at twice: on a busy machine an answer may not come in time once."""
    return control.problem() and control.problem()


def on_standin(device: Device, env: dict[str, str]) -> dict[str, str]:
    """With the stand-in's model of MPS switched on, in which who has none has no share of the SMs either."""
    if device.kind is DeviceKind.STANDIN:
        kept = [part for part in env.get("FASTGSHARE_STANDIN", "").split(",") if part and not part.startswith("mps=")]
        env["FASTGSHARE_STANDIN"] = ",".join([*kept, "mps=real"])
    return env


def alone(device: Device, group: str, others: set[str], partitioning: Partitioning) -> str:
    """Why a trust group cannot be on a device that others are on, where one at a time can be."""
    named = ", ".join(sorted(others))
    return f"trust group {group} cannot be on device {device.id} beside {named}: {partitioning.because}"
