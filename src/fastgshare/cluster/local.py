"""A cluster of local processes: every instance a child of this process, spoken to over a socket pair."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Final

from fastgshare.cluster.berths import Berth
from fastgshare.cluster.faults import FAILURE, Faults, doubt, is_its_own
from fastgshare.cluster.links import Link
from fastgshare.cluster.lives import Life
from fastgshare.cluster.logs import LogBook
from fastgshare.cluster.members import GRACE_S, Member
from fastgshare.cluster.ports import Daemon, Partitioner
from fastgshare.cluster.processes import RUNTIME, describe_exit, start_instance
from fastgshare.cluster.quarantines import RETRY_S
from fastgshare.dispatch.frames import Hello
from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.errors import (
    FastGShareError,
    InstanceFailed,
    InstanceLost,
    InvalidValue,
    NotFound,
    PartitionerUnavailable,
)
from fastgshare.domain.instances import Instance, InstanceState, InstanceStatus
from fastgshare.domain.logs import LogLine
from fastgshare.domain.rects import Placement
from fastgshare.domain.requests import Reply, Request
from fastgshare.domain.shares import Share
from fastgshare.spec import functions

_OUTPUT_S: Final = 0.2
_SM_TOLERANCE: Final = 1e-6
_NONE: Final[Mapping[str, Any]] = MappingProxyType({})


class LocalCluster:
    """`domain.ports.Cluster` on devices of this machine. Use it as an async context manager; leaving ends all.

    devices: in the order in which they are filled. daemon: who gives tokens on all of them; None: nobody does, and
    cores are set here. partitioners: by device, what divides its SMs between processes; started and stopped by who made
    them. states: by device, the file in which the instances on a stand-in share its state.
    log_directory: where log files are kept; None keeps lines in memory only.
    command: what starts an instance's process; ``--fd N`` is appended.
    start_timeout_s: how long an instance may take to become ready.
    hang_s: how long after the latest deadline of a batch its instance counts as hung, and is ended.
    threads, spin: threads of every instance (None: one per core of its rect; on a GPU, one) and whether they wait
    busily. wants_samples: whether instances are asked for the body of a typical request.

    On the CPU an instance takes tokens for its bursts itself; on a GPU, and on the stand-in, the hook does that for all
    that it launches, as for any program, and measures its bursts. A fault ends all instances of its trust group on that
    device; others of the group start there once the device has recovered.
    """

    def __init__(
        self,
        devices: Sequence[Device],
        *,
        daemon: Daemon | None = None,
        partitioners: Mapping[str, Partitioner] = _NONE,
        states: Mapping[str, Path] = _NONE,
        log_directory: Path | None = None,
        command: Sequence[str] = RUNTIME,
        start_timeout_s: float = 120.0,
        hang_s: float = 30.0,
        threads: int | None = None,
        spin: bool = False,
        wants_samples: bool = False,
    ) -> None:
        self._berths = {d.id: Berth(d, daemon, partitioners.get(d.id), states.get(d.id)) for d in devices}
        self._daemon = daemon
        self._logs = LogBook(log_directory)
        self._command = command
        self._start_timeout_s = start_timeout_s
        self._hang_s = hang_s
        self._threads = threads
        self._spin = spin
        self._wants_samples = wants_samples
        self._members: dict[str, Member] = {}
        self._listeners: list[Callable[[InstanceStatus], None]] = []
        self._device_listeners: list[Callable[[str, str, str], None]] = []
        self._tasks = asyncio.TaskGroup()
        self._faults = Faults(self._members, self._tasks)
        self._closing = False

    async def __aenter__(self) -> LocalCluster:
        await self._tasks.__aenter__()
        for berth in self._berths.values():
            if berth.partitioner is not None:
                berth.partitioner.watch(partial(self._faults.fail, berth))
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
        """Those that instances can start on: not what was lost or is being drained."""
        return [berth.device for berth in self._berths.values() if not berth.closed]

    def observe(self) -> Sequence[InstanceStatus]:
        """All instances whose processes have not ended."""
        return [member.life.status for member in self._members.values()]

    def watch(self, listener: Callable[[InstanceStatus], None]) -> None:
        """Call `listener` at every change of an instance's state."""
        self._listeners.append(listener)

    def logs(self, function_name: str, tail: int) -> Sequence[LogLine]:
        """The last `tail` lines that instances of a function wrote, oldest first."""
        return self._logs.tail(function_name, tail)

    def watch_devices(self, listener: Callable[[str, str, str], None]) -> None:
        """Call `listener(device_id, "lost" or "drained", reason)` when a device is closed."""
        self._device_listeners.append(listener)

    def lose(self, device_id: str, reason: str) -> None:
        """A device does not answer any more: end what is on it, and start nothing there. Raises `NotFound`."""
        berth = self._berth(device_id)
        if not berth.lost.is_set():
            berth.lost.set()
            self._close(berth, "lost", f"device {device_id} was lost: {reason}")
            for member in self._on(berth):
                member.condemn(berth.closed, blameless=True)

    def drain(self, device_id: str, reason: str) -> None:
        """Start nothing more on a device; what is on it goes on until it is stopped. Raises `NotFound`."""
        berth = self._berth(device_id)
        if not berth.closed:
            self._close(berth, "drained", f"device {device_id} is being drained: {reason}")

    def sample(self, instance_id: str) -> bytes | None:
        """The body of a typical request to an instance that is ready; None if it has none, or was not asked for it.

        Raises `NotFound`.
        """
        if instance_id not in self._members:
            raise NotFound("instance", instance_id)
        return self._members[instance_id].link.sample

    async def start(self, instance: Instance) -> None:
        """Start an instance and return once it is ready.

        Raises `InstanceFailed` with its last words if it ends or does not become ready in time.
        """
        berth = await self._admission(instance)
        member = await self._spawn(instance, berth)
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
        self._tasks.create_task(member.insist(drain_s), name=f"end of instance {instance_id}")
        await member.ended.wait()

    async def resize(self, changes: Mapping[str, tuple[Share, Placement]]) -> None:
        """Give running instances other quotas or slots, effective within one window. Unknown ids are ignored.

        Raises `InvalidValue` if a change is of an instance's SM range or memory, `DaemonUnavailable`.
        """
        known = {id: change for id, change in changes.items() if id in self._members}
        for id, (share, placement) in known.items():
            _check_resize(self._members[id].instance, share, placement)
        if self._daemon is not None:
            await self._daemon.place({id: (share, placement.rect) for id, (share, placement) in known.items()})
        for id, (share, placement) in known.items():
            if (member := self._members.get(id)) is not None:
                instance = member.instance
                function = replace(instance.function, share=share)
                member.life.move(replace(instance, function=function, placement=placement))

    async def send(self, instance_id: str, batch: Sequence[Request]) -> Sequence[Reply]:
        """Have an instance work on a batch; one reply per request, in order.

        Raises `InstanceLost`, also for work that failed because that of others on the device has.
        """
        member = self._members.get(instance_id)
        if member is None or member.life.state is not InstanceState.READY:
            raise InstanceLost(instance_id, "it is not ready", begun=False)
        if member.verdict:
            raise InstanceLost(instance_id, member.verdict, begun=False)
        replies = member.link.submit(batch)
        self._watch_for_hang(member, batch, replies)
        found = await asyncio.shield(replies)
        if member.berth.is_hooked and any(reply.status >= FAILURE for reply in found):
            await doubt(member)
        return found

    async def _admission(self, instance: Instance) -> Berth:
        """The place of an instance, once one of its trust group can start there.

        Raises `InstanceFailed`, without blame if it is the group that cannot start: another is tried a while later.
        """
        berth = self._open_berth(instance)
        try:
            # It may have been deployed when the platform had other devices.
            berth.check(instance.function)
            async with asyncio.timeout(self._start_timeout_s):
                await self._faults.entry(berth, instance.function.trust_group)
        except TimeoutError:
            problem = f"its trust group could not start within {self._start_timeout_s:g} s"
            raise InstanceFailed(instance.id, problem, blameless=True, patience_s=RETRY_S) from None
        except PartitionerUnavailable as error:
            raise InstanceFailed(instance.id, str(error), blameless=True, patience_s=RETRY_S) from None
        except FastGShareError as error:
            raise InstanceFailed(instance.id, str(error)) from None
        return self._open_berth(instance)

    def _open_berth(self, instance: Instance) -> Berth:
        berth = self._berths.get(instance.placement.device_id)
        if instance.id in self._members:
            raise InstanceFailed(instance.id, "an instance of that id is here already")
        if self._closing:
            raise InstanceFailed(instance.id, "the platform is ending")
        if berth is None:
            raise InstanceFailed(instance.id, f"there is no device {instance.placement.device_id} here")
        if berth.closed:
            raise InstanceFailed(instance.id, berth.closed, blameless=True)
        return berth

    def _berth(self, device_id: str) -> Berth:
        if device_id not in self._berths:
            raise NotFound("device", device_id)
        return self._berths[device_id]

    def _close(self, berth: Berth, fate: str, reason: str) -> None:
        berth.closed = reason
        for listener in self._device_listeners:
            listener(berth.device.id, fate, reason)
        for member in self._on(berth):
            self._announce(member.life.status)  # nothing is new about it, but there is something to decide

    def _on(self, berth: Berth) -> list[Member]:
        return [member for member in self._members.values() if member.berth is berth]

    async def _spawn(self, instance: Instance, berth: Berth) -> Member:
        name = instance.function.name
        try:
            env = berth.environment(instance, os.environ)
            process, peer = await start_instance(
                self._command, env, lambda text: self._logs.write(name, instance.id, text)
            )
        except (OSError, NotFound) as error:
            raise InstanceFailed(instance.id, f"its process cannot be started: {error}") from error
        link = await Link.open(instance.id, peer)
        member = Member(Life(instance, self._announce), process, link, berth, asyncio.Event())
        self._members[instance.id] = member
        self._tasks.create_task(self._see_to_its_end(member), name=f"instance {instance.id}")
        member.life.begin(process.pid)
        group = instance.function.trust_group
        if berth.closed or self._faults.holds(berth, group):
            overtaken = f"the work of trust group {group} on device {berth.device.id} failed while it started"
            member.condemn(berth.closed or overtaken, blameless=True)
        return member

    async def _introduce(self, member: Member) -> None:
        """Admit an instance to its device, tell it what it is, and wait until it is ready."""
        if self._daemon is None:
            self._set_cores(member)
        else:
            await self._admit(member, self._daemon)
        member.link.greet(Hello(self._start_document(member)))
        measured_s = await member.readiness()
        if measured_s is None:
            return
        if member.berth.is_hooked:
            measured_s = member.instance.function.burst_s  # what was measured is not the device's time
        elif self._daemon is not None:
            await self._daemon.set_burst(member.instance.id, measured_s)
        if member.life.state is InstanceState.STARTING and not member.ended.is_set():
            member.life.go(InstanceState.READY, burst_s=measured_s)

    @staticmethod
    async def _admit(member: Member, daemon: Daemon) -> None:
        instance, function = member.instance, member.instance.function
        await daemon.admit(
            *(instance.id, member.process.pid, function.share, instance.placement.rect, function.burst_s),
            declared=function.burst_s > 0,
            device_id=member.berth.device.id,
            group=function.trust_group,
            fatal_faults=member.berth.is_hooked,
        )

    def _watch_for_hang(
        self, member: Member, batch: Sequence[Request], replies: asyncio.Future[Sequence[Reply]]
    ) -> None:
        """End an instance that does not answer a batch long after all its deadlines, whoever still waits for it."""
        loop = asyncio.get_running_loop()
        hung_at_s = max((request.deadline_s for request in batch), default=loop.time()) + self._hang_s
        verdict = f"it hung: a batch had no answer {self._hang_s:g} s after its deadline"
        watchdog = loop.call_at(hung_at_s, member.condemn, verdict)
        replies.add_done_callback(lambda _: watchdog.cancel())

    def _start_document(self, member: Member) -> dict[str, object]:
        instance, berth = member.instance, member.berth
        takes_tokens = self._daemon is not None and not berth.is_hooked
        return {
            "instance_id": instance.id,
            "function": functions.dump(instance.function),
            "device": str(berth.device.kind),
            "threads": self._threads or (1 if berth.is_hooked else len(berth.cores(instance))),
            "spin": self._spin,
            "wants_sample": self._wants_samples,
            "daemon_socket": str(self._daemon.socket_path) if self._daemon is not None and takes_tokens else None,
            "mem_bytes": 0 if berth.is_hooked else instance.function.share.mem_bytes,
        }

    @staticmethod
    def _set_cores(member: Member) -> None:
        if member.berth.device.kind is DeviceKind.CPU:
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(member.process.pid, member.berth.cores(member.instance))

    async def _see_to_its_end(self, member: Member) -> None:
        """Wait for the end of an instance by any cause, then tell the daemon, the listeners and who waits."""
        await asyncio.wait((member.process.exited, member.link.lost), return_when=asyncio.FIRST_COMPLETED)
        blame = member.link.lost.result() if member.link.lost.done() else ""
        if blame:
            member.condemn(blame)
        elif not await member.ends_within(GRACE_S):
            member.condemn("it closed its connection and went on")
        status = await member.process.exited
        await asyncio.wait((member.link.lost,), timeout=_OUTPUT_S)
        await member.process.last_output(_OUTPUT_S)
        if self._daemon is not None and status == -signal.SIGKILL and (member.berth.is_hooked or not member.verdict):
            with contextlib.suppress(FastGShareError):
                verdict = await self._faults.ask(member, self._daemon)
                member.verdict = member.verdict or (verdict and f"the node daemon ended it: {verdict}")
        await self._forget(member, self._last_words(member, status))

    async def _forget(self, member: Member, reason: str) -> None:
        life = member.life
        del self._members[life.instance.id]
        member.link.close()
        if life.state is InstanceState.DRAINING:
            life.go(InstanceState.GONE)
        else:
            life.go(InstanceState.FAILED, reason=reason, blameless=member.blameless)
        if is_its_own(member):
            member.link.answer_first(FAILURE, f"the work on the device failed: {reason}")
        member.link.give_up(reason)
        if self._daemon is not None:
            with contextlib.suppress(FastGShareError):
                await self._daemon.remove(life.instance.id)
        member.ended.set()

    def _last_words(self, member: Member, status: int) -> str:
        """What an instance said of its end; else how it came to it, and the last line it wrote."""
        if (said := member.link.refusal()) is not None:
            return said
        instance = member.instance
        cause = member.verdict or describe_exit(status)
        if member.process.is_left:
            cause += f" (process {member.process.pid} does not end and is left)"
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
        self._faults.close()
        await asyncio.gather(*(self.stop(id, drain_s=0.0) for id in list(self._members)))


def _check_resize(instance: Instance, share: Share, placement: Placement) -> None:
    old, new = instance.placement.rect, placement.rect
    if abs(old.sm_offset - new.sm_offset) > _SM_TOLERANCE or abs(old.sm - new.sm) > _SM_TOLERANCE:
        allowed = f"the SM range of running instance {instance.id}, {old.sm_offset:g} to {old.sm_end:g}"
        raise InvalidValue("rect", f"{new.sm_offset:g} to {new.sm_end:g}", allowed)
    if share.mem_bytes != instance.function.share.mem_bytes:
        allowed = f"the {instance.function.share.mem_bytes} bytes of running instance {instance.id}"
        raise InvalidValue("mem_bytes", share.mem_bytes, allowed)
