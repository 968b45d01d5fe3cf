"""A cluster of local processes: every instance a child of this process, spoken to over a socket pair."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Final

from fastgshare.cluster.devices import check_function
from fastgshare.cluster.links import Link
from fastgshare.cluster.lives import Life
from fastgshare.cluster.logs import LogBook
from fastgshare.cluster.ports import Daemon
from fastgshare.cluster.processes import RUNTIME, Process, describe_exit, start_instance
from fastgshare.dispatch.frames import Hello
from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.errors import FastGShareError, InstanceFailed, InstanceLost, InvalidValue, NotFound
from fastgshare.domain.instances import Instance, InstanceState, InstanceStatus
from fastgshare.domain.logs import LogLine
from fastgshare.domain.rects import Placement
from fastgshare.domain.requests import Reply, Request
from fastgshare.domain.shares import Share
from fastgshare.manager.environments import environment, without_share
from fastgshare.spec import functions

_GRACE_S: Final = 2.0
"""How long a process may take from its last word, or from SIGTERM, to its end."""
_OUTPUT_S: Final = 0.2
_SM_TOLERANCE: Final = 1e-6


@dataclass(slots=True)
class _Member:
    """An instance that is here. verdict: why this cluster ended it, if it did. ended: set when all is over."""

    life: Life
    process: Process
    link: Link
    ended: asyncio.Event
    verdict: str = ""

    def condemn(self, verdict: str) -> None:
        """End it at once, for the first reason there was."""
        self.verdict = self.verdict or verdict
        self.process.kill()


class LocalCluster:
    """`domain.ports.Cluster` on one device of this machine. Use it as an async context manager; leaving ends all.

    daemon: who gives tokens; None: nobody does, and cores are set here.
    log_directory: where log files are kept; None keeps lines in memory only.
    command: what starts an instance's process; ``--fd N`` is appended.
    start_timeout_s: how long an instance may take to become ready.
    hang_s: how long after the latest deadline of a batch its instance counts as hung, and is ended.
    threads, spin: threads of every instance (None: one per core of its rect; on a GPU, one) and whether they wait
    busily.
    state: file in which the instances on a stand-in share its state.

    On the CPU an instance takes tokens for its bursts itself; on a GPU, and on the stand-in, the hook does that for all
    that it launches, as for any program, and measures its bursts.
    """

    def __init__(
        self,
        device: Device,
        *,
        daemon: Daemon | None = None,
        log_directory: Path | None = None,
        command: Sequence[str] = RUNTIME,
        start_timeout_s: float = 120.0,
        hang_s: float = 30.0,
        threads: int | None = None,
        spin: bool = False,
        state: Path | None = None,
    ) -> None:
        self._device = device
        self._hooked = daemon is not None and device.kind in (DeviceKind.GPU, DeviceKind.STANDIN)
        self._state = state
        self._daemon = daemon
        self._logs = LogBook(log_directory)
        self._command = command
        self._start_timeout_s = start_timeout_s
        self._hang_s = hang_s
        self._threads = threads
        self._spin = spin
        self._members: dict[str, _Member] = {}
        self._listeners: list[Callable[[InstanceStatus], None]] = []
        self._tasks = asyncio.TaskGroup()
        self._closing = False

    async def __aenter__(self) -> LocalCluster:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._end_all()
        finally:
            self._logs.close()
            # The group is not told of `error`: it would wrap it, and all its tasks have ended by now.
            await self._tasks.__aexit__(None, None, None)

    def devices(self) -> Sequence[Device]:
        """The one device."""
        return (self._device,)

    def observe(self) -> Sequence[InstanceStatus]:
        """All instances whose processes have not ended."""
        return [member.life.status for member in self._members.values()]

    def watch(self, listener: Callable[[InstanceStatus], None]) -> None:
        """Call `listener` at every change of an instance's state."""
        self._listeners.append(listener)

    def logs(self, function_name: str, tail: int) -> Sequence[LogLine]:
        """The last `tail` lines that instances of a function wrote, oldest first."""
        return self._logs.tail(function_name, tail)

    async def start(self, instance: Instance) -> None:
        """Start an instance and return once it is ready.

        Raises `InstanceFailed` with its last words if it ends or does not become ready in time.
        """
        if instance.id in self._members:
            raise InstanceFailed(instance.id, "an instance of that id is here already")
        if self._closing:
            raise InstanceFailed(instance.id, "the platform is ending")
        self._check(instance)
        member = await self._spawn(instance)
        try:
            async with asyncio.timeout(self._start_timeout_s):
                await self._introduce(member)
        except TimeoutError:
            member.condemn(f"it was not ready within {self._start_timeout_s:g} s")
        except FastGShareError as error:
            member.condemn(str(error))
        except asyncio.CancelledError:
            member.condemn("its start was called off")
            raise
        if member.life.state is not InstanceState.READY:
            await member.ended.wait()
            raise InstanceFailed(instance.id, member.life.status.reason or "it was stopped while it started")

    async def stop(self, instance_id: str, *, drain_s: float) -> None:
        """Let an instance finish what it works on, for at most `drain_s`, then end it. Unknown ids are ignored."""
        member = self._members.get(instance_id)
        if member is None:
            return
        if member.life.state is InstanceState.STARTING:
            drain_s = 0.0
        if member.life.state is not InstanceState.DRAINING:
            member.life.go(InstanceState.DRAINING)
            member.link.stop()
        # A task of its own: whoever gives up waiting must not leave an instance that nobody ends.
        self._tasks.create_task(_insist(member, drain_s), name=f"end of instance {instance_id}")
        await member.ended.wait()

    async def resize(self, changes: Mapping[str, tuple[Share, Placement]]) -> None:
        """Give running instances other quotas or slots, effective within one window. Unknown ids are ignored.

        Raises `InvalidValue` if a change is of an instance's SM range or memory, `DaemonUnavailable`.
        """
        known = {id: change for id, change in changes.items() if id in self._members}
        for id, (share, placement) in known.items():
            _check_resize(self._members[id].life.instance, share, placement)
        if self._daemon is not None:
            await self._daemon.place({id: (share, placement.rect) for id, (share, placement) in known.items()})
        for id, (share, placement) in known.items():
            if (member := self._members.get(id)) is not None:
                instance = member.life.instance
                function = replace(instance.function, share=share)
                member.life.move(replace(instance, function=function, placement=placement))

    async def send(self, instance_id: str, batch: Sequence[Request]) -> Sequence[Reply]:
        """Have an instance work on a batch; one reply per request, in order. Raises `InstanceLost`."""
        member = self._members.get(instance_id)
        if member is None or member.life.state is not InstanceState.READY:
            raise InstanceLost(instance_id, "it is not ready")
        replies = member.link.submit(batch)
        self._watch_for_hang(member, batch, replies)
        return await asyncio.shield(replies)

    def _check(self, instance: Instance) -> None:
        """Refuse what the hook cannot hold: a function may have been deployed when the platform had another device."""
        if self._hooked:
            try:
                check_function(self._device, instance.function, os.environ)
            except InvalidValue as error:
                raise InstanceFailed(instance.id, str(error)) from None

    async def _spawn(self, instance: Instance) -> _Member:
        name = instance.function.name
        try:
            process, peer = await start_instance(
                self._command, self._environment(instance), lambda text: self._logs.write(name, instance.id, text)
            )
        except (OSError, NotFound) as error:
            raise InstanceFailed(instance.id, f"its process cannot be started: {error}") from error
        link = await Link.open(instance.id, peer)
        member = _Member(Life(instance, self._announce), process, link, asyncio.Event())
        self._members[instance.id] = member
        self._tasks.create_task(self._see_to_its_end(member), name=f"instance {instance.id}")
        member.life.begin(process.pid)
        return member

    async def _introduce(self, member: _Member) -> None:
        """Admit an instance to the device, tell it what it is, and wait until it is ready."""
        instance = member.life.instance
        if self._daemon is None:
            self._set_cores(member)
        else:
            share, rect = instance.function.share, instance.placement.rect
            burst_s = instance.function.burst_s
            await self._daemon.admit(instance.id, member.process.pid, share, rect, burst_s, declared=burst_s > 0)
        member.link.greet(Hello(self._start_document(instance)))
        measured_s = await _readiness(member.link)
        if measured_s is None:
            return
        if self._hooked:
            measured_s = instance.function.burst_s  # what was measured is not the device's time
        elif self._daemon is not None:
            await self._daemon.set_burst(instance.id, measured_s)
        if member.life.state is InstanceState.STARTING and not member.ended.is_set():
            member.life.go(InstanceState.READY, burst_s=measured_s)

    def _watch_for_hang(
        self, member: _Member, batch: Sequence[Request], replies: asyncio.Future[Sequence[Reply]]
    ) -> None:
        """End an instance that does not answer a batch long after all its deadlines, whoever still waits for it."""
        loop = asyncio.get_running_loop()
        hung_at_s = max((request.deadline_s for request in batch), default=loop.time()) + self._hang_s
        verdict = f"it hung: a batch had no answer {self._hang_s:g} s after its deadline"
        watchdog = loop.call_at(hung_at_s, member.condemn, verdict)
        replies.add_done_callback(lambda _: watchdog.cancel())

    def _start_document(self, instance: Instance) -> dict[str, object]:
        return {
            "instance_id": instance.id,
            "function": functions.dump(instance.function),
            "threads": self._threads or (1 if self._hooked else len(self._cores(instance))),
            "spin": self._spin,
            "daemon_socket": None if self._daemon is None or self._hooked else str(self._daemon.socket_path),
            "mem_bytes": 0 if self._hooked else instance.function.share.mem_bytes,
        }

    def _environment(self, instance: Instance) -> dict[str, str]:
        """What an instance's process is told from the start. Raises `NotFound` without a hook to hold it."""
        if self._daemon is None or not self._hooked:
            return without_share(os.environ)
        return environment(
            *(self._device, instance.function.share),
            socket_path=self._daemon.socket_path,
            instance_id=instance.id,
            state=self._state,
            base=os.environ,
        )

    def _cores(self, instance: Instance) -> tuple[int, ...]:
        rect = instance.placement.rect
        return self._device.sms_of(rect.sm_offset, rect.sm)

    def _set_cores(self, member: _Member) -> None:
        if self._device.kind is DeviceKind.CPU:
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(member.process.pid, self._cores(member.life.instance))

    async def _see_to_its_end(self, member: _Member) -> None:
        """Wait for the end of an instance by any cause, then tell the daemon, the listeners and who waits."""
        await asyncio.wait((member.process.exited, member.link.lost), return_when=asyncio.FIRST_COMPLETED)
        blame = member.link.lost.result() if member.link.lost.done() else ""
        if blame:
            member.condemn(blame)
        elif not await _ends_within(member.process, _GRACE_S):
            member.condemn("it closed its connection and went on")
        status = await member.process.exited
        await asyncio.wait((member.link.lost,), timeout=_OUTPUT_S)
        await member.process.last_output(_OUTPUT_S)
        if not member.verdict and self._daemon is not None and status == -signal.SIGKILL:
            with contextlib.suppress(FastGShareError):
                verdict = await self._daemon.verdict(member.life.instance.id)
                member.verdict = f"the node daemon ended it: {verdict}" if verdict else ""
        await self._forget(member, self._last_words(member, status))

    async def _forget(self, member: _Member, reason: str) -> None:
        life = member.life
        del self._members[life.instance.id]
        member.link.close()
        if life.state is InstanceState.DRAINING:
            life.go(InstanceState.GONE)
        else:
            life.go(InstanceState.FAILED, reason=reason)
        member.link.give_up(reason)
        if self._daemon is not None:
            with contextlib.suppress(FastGShareError):
                await self._daemon.remove(life.instance.id)
        member.ended.set()

    def _last_words(self, member: _Member, status: int) -> str:
        """What an instance said of its end; else how it came to it, and the last line it wrote."""
        if (said := member.link.refusal()) is not None:
            return said
        instance = member.life.instance
        cause = member.verdict or describe_exit(status)
        line = self._logs.last_words(instance.function.name, instance.id)
        if member.life.state is not InstanceState.DRAINING:
            self._logs.write(instance.function.name, instance.id, f"(ended: {cause})")
        return f"{cause}; its last line: {line}" if line else cause

    def _announce(self, status: InstanceStatus) -> None:
        """Tell all listeners; one that raises does not keep the others from hearing it."""
        loop = asyncio.get_running_loop()
        for listener in self._listeners:
            try:
                listener(status)
            except Exception as error:
                loop.call_exception_handler({"message": "a listener of the cluster failed", "exception": error})

    async def _end_all(self) -> None:
        """End all instances without waiting for their work."""
        self._closing = True
        await asyncio.gather(*(self.stop(id, drain_s=0.0) for id in list(self._members)))


async def _ends_within(process: Process, wait_s: float) -> bool:
    await asyncio.wait((process.exited,), timeout=wait_s)
    return process.exited.done()


async def _insist(member: _Member, drain_s: float) -> None:
    """Wait for an instance that was asked to end, then demand it, then end it."""
    for wait_s, insist in ((drain_s, member.process.terminate), (_GRACE_S, member.process.kill)):
        if await _ends_within(member.process, wait_s):
            return
        insist()


async def _readiness(link: Link) -> float | None:
    """The longest burst of an instance once it is ready; None if its link ends or it refuses before."""
    await asyncio.wait((link.ready, link.lost), return_when=asyncio.FIRST_COMPLETED)
    if link.ready.cancelled() or not link.ready.done() or link.ready.exception() is not None:
        return None
    return link.ready.result()


def _check_resize(instance: Instance, share: Share, placement: Placement) -> None:
    old, new = instance.placement.rect, placement.rect
    if abs(old.sm_offset - new.sm_offset) > _SM_TOLERANCE or abs(old.sm - new.sm) > _SM_TOLERANCE:
        allowed = f"the SM range of running instance {instance.id}, {old.sm_offset:g} to {old.sm_end:g}"
        raise InvalidValue("rect", f"{new.sm_offset:g} to {new.sm_end:g}", allowed)
    if share.mem_bytes != instance.function.share.mem_bytes:
        allowed = f"the {instance.function.share.mem_bytes} bytes of running instance {instance.id}"
        raise InvalidValue("mem_bytes", share.mem_bytes, allowed)
