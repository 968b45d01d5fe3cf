"""Programs: any command on a share of a device, as `fastgshare run` starts it."""

from __future__ import annotations

import ctypes
import os
import select
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from fastgshare.cluster.dividers import Divider
from fastgshare.cluster.guests import Guest, started
from fastgshare.cluster.homes import Division, Home
from fastgshare.cluster.keepers import attend
from fastgshare.cluster.launches import Launch, find_program
from fastgshare.cluster.rooms import find_room
from fastgshare.cluster.signals import Notices
from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.errors import DaemonUnavailable, FastGShareError, InvalidValue
from fastgshare.domain.functions import DEFAULT_GROUP
from fastgshare.domain.rects import Rect
from fastgshare.domain.shares import Share
from fastgshare.manager.environments import environment
from fastgshare.manager.visits import Visit
from fastgshare.spec.shares import check_share

_PR_SET_CHILD_SUBREAPER: Final = 36
_RETRY_MS: Final = 1000
_STOPS: Final = (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
_SIGNALLED: Final = 128
"""A shell's exit status for a program that was ended by signal n is this and n."""


@dataclass(frozen=True, slots=True)
class Order:
    """A command that is to run on a share of a device.

    refuses: what happens where the share cannot be enforced. group: its trust group. partitioner: what is to divide the
    device's SMs, "auto", "mps" or "none".
    """

    command: tuple[str, ...]
    device: Device
    share: Share
    name: str
    refuses: bool = True
    group: str = DEFAULT_GROUP
    partitioner: str = "auto"


def check_enforceable(device: Device, share: Share, *, refuses: bool) -> None:
    """Raise `InvalidValue` for a share of which a part cannot be enforced on a device, unless that may pass."""
    if device.kind is DeviceKind.CPU and share.quota_request < 1 and refuses:
        raise InvalidValue(
            "request",
            share.quota_request,
            "1 on device cpu, where a program's cores and memory are enforced but not its time; less with "
            "--if-unenforced pass, which keeps time free for it and does not hold it to that",
        )


class Stay:
    """One program's time on a device: let in, seen to, let out.

    env: of this process, and of the program beside what it is told of its share. say: for what goes on all the same.
    placed: is told where the program is, before it runs.
    """

    def __init__(
        self,
        order: Order,
        home: Home,
        env: Mapping[str, str],
        *,
        say: Callable[[str], None],
        placed: Callable[[Guest], None] = lambda _: None,
    ) -> None:
        self._order = order
        self._home = home
        self._env = env
        self._say = say
        self._placed = placed
        self._daemon_fd = -1
        self._complained = False
        self._said: set[str] = set()

    def run(self) -> int:
        """Run the program to its end; its exit status, or 128 and the number of the signal that ended it.

        Raises `CannotRun`, `NoPlacement` if there is no room, `InvalidValue`, `DaemonUnavailable`,
        `PartitionerUnavailable`.
        """
        path = find_program(self._order.command[0], self._env)
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # what it starts and leaves stays below us
        notices, guest = self._enter(path)
        status = self._see_to(guest, notices)
        with self._home.locked():
            self._leave(guest, status)
        return status

    def _enforceable(self, divider: Divider) -> Share:
        """The share as it can be enforced here. Raises `InvalidValue` for one that cannot, unless that may pass."""
        share, device = self._order.share, self._order.device
        check_share(device, share)
        check_enforceable(device, share, refuses=self._order.refuses)
        if device.kind is DeviceKind.CPU and share.quota_request < 1:
            self._note("on device cpu, request and limit are not enforced (--if-unenforced pass)")
        if device.takes_turns and divider.device.sm_steps == 1 and share.sm_partition < 100:
            self._note(f"nothing divides device {device.id}: SMs are not enforced, programs take turns on all of them")
            return replace(share, sm_partition=100)
        return share

    def _note(self, text: str) -> None:
        """Say it once."""
        if text not in self._said:
            self._said.add(text)
            self._say(text)

    # --- coming ------------------------------------------------------------------------------------------------------

    def _enter(self, path: str) -> tuple[Notices, Guest]:
        """Find room and take it; anew, if others came or went in between: a search may be long and locks nobody out."""
        while True:
            before = self._home.guests()
            divider = Divider(self._order.device, self._home, self._order.partitioner, self._env)
            share, device = self._enforceable(divider), self._home.device() or divider.device
            rects = self._room(device, share, before)
            with self._home.locked():
                if self._home.guests() == before:
                    return self._take(path, share, device, before, rects, divider)

    def _room(self, device: Device, share: Share, guests: Sequence[Guest]) -> dict[str, Rect]:
        name = self._order.name
        if taken := [guest for guest in guests if guest.name == name]:
            allowed = f"one that no program on device {device.id} has; process {taken[0].pid} has it"
            raise InvalidValue("name", name, allowed)
        return find_room(device, guests, name, share, self._order.group)

    def _take(
        self,
        path: str,
        share: Share,
        device: Device,
        before: Sequence[Guest],
        rects: Mapping[str, Rect],
        divider: Divider,
    ) -> tuple[Notices, Guest]:
        """Start the program, have it admitted, let it go: under the home's lock."""
        order = self._order
        notices = Notices()
        launch = self._launch(path, device, share, notices, divider.environment(order.group))
        guest = Guest(
            *(order.name, launch.pid, started(launch.pid), os.getpid(), share, rects[order.name]),
            *(order.command, order.refuses, order.group),
        )
        try:
            division = divider.open(order.group)
            self._settle(device, [*(replace(g, rect=rects.get(g.name, g.rect)) for g in before), guest], division)
            self._placed(guest)
            launch.let_go()
        except BaseException:
            launch.call_off()
            with suppress(FastGShareError):
                self._settle(device, before, divider.close_all_but([other.group for other in before]))
            raise
        return notices, guest

    def _launch(self, path: str, device: Device, share: Share, notices: Notices, base: Mapping[str, str]) -> Launch:
        order, home = self._order, self._home
        env = environment(
            *(device, share),
            socket_path=home.socket_path,
            instance_id=order.name,
            state=home.state_path if device.kind is DeviceKind.STANDIN else None,
            base=base,
            refuses=order.refuses,
        )
        data_bytes = share.mem_bytes if device.kind is DeviceKind.CPU else 0
        return Launch(path, order.command, env, data_bytes, notices.before)

    def _settle(self, device: Device, guests: Sequence[Guest], division: Division) -> None:
        """Record who is on the device, have its daemon know them, and watch it."""
        self._home.keep(device, guests, division)
        self._watch(attend(self._home, device, guests, self._env))

    def _watch(self, daemon: int) -> None:
        self._forget_daemon()
        with suppress(ProcessLookupError):
            self._daemon_fd = os.pidfd_open(daemon)

    def _forget_daemon(self) -> None:
        if self._daemon_fd >= 0:
            os.close(self._daemon_fd)
            self._daemon_fd = -1

    # --- being there -------------------------------------------------------------------------------------------------

    def _see_to(self, guest: Guest, notices: Notices) -> int:
        """Wait for the program's end, pass signals on to it, and see that its device has a daemon."""
        while True:
            poll = select.poll()
            poll.register(notices, select.POLLIN)
            if self._daemon_fd >= 0:
                poll.register(self._daemon_fd, select.POLLIN)
            ready = {fd for fd, _ in poll.poll(None if self._daemon_fd >= 0 else _RETRY_MS)}
            for notice in notices.read():
                if notice.sent and notice.number != signal.SIGCHLD:
                    os.kill(guest.pid, notice.number)
            if (status := _reap(guest.pid)) is not None:
                return status
            if self._daemon_fd < 0 or self._daemon_fd in ready:
                self._replace_daemon()

    def _replace_daemon(self) -> None:
        """Whoever notices first that the daemon has ended starts a successor; the others find it."""
        try:
            with self._home.locked():
                device = self._home.device() or self._order.device
                self._watch(attend(self._home, device, self._home.guests(), self._env))
        except FastGShareError as error:
            self._forget_daemon()
            if not self._complained:
                self._complained = True
                self._say(f"the node daemon has ended, and there is no other yet: {error}")

    # --- going -------------------------------------------------------------------------------------------------------

    def _leave(self, guest: Guest, status: int) -> None:
        """Take the program off the device: under the home's lock."""
        device = self._home.device() or self._order.device
        left = [other for other in self._home.guests() if other.pid != guest.pid]
        self._home.keep(device, left, self._close_groups(left))
        with suppress(DaemonUnavailable), Visit(self._home.socket_path) as visit:
            if status == _SIGNALLED + signal.SIGKILL and (verdict := visit.verdict(guest.name)):
                self._say(f"the node daemon ended {guest.name}: {verdict}")
            if all(other.name != guest.name for other in left):
                visit.remove(guest.name)

    def _close_groups(self, left: Sequence[Guest]) -> Division | None:
        """End what lets in the trust groups that nobody who is left is of."""
        if not self._home.division().groups:
            return None
        try:
            divider = Divider(self._order.device, self._home, "auto", self._env)
            return divider.close_all_but([other.group for other in left])
        except FastGShareError as error:
            self._say(f"MPS goes on although nobody needs it: {error}")
            return None


def _reap(pid: int) -> int | None:
    """Collect children that have ended; the status of that one if it is among them. Stops with it for a terminal."""
    found = None
    with suppress(ChildProcessError):
        while (child := os.waitpid(-1, os.WNOHANG | os.WUNTRACED))[0]:
            if child[0] != pid:
                continue
            if os.WIFSTOPPED(child[1]):
                _stop_by(os.WSTOPSIG(child[1]))
                continue
            code = os.waitstatus_to_exitcode(child[1])
            found = code if code >= 0 else _SIGNALLED - code
    return found


def _stop_by(number: int) -> None:
    """Stop as the program has, if that is a terminal's doing: its shell waits for this process."""
    if number in _STOPS:
        os.kill(os.getpid(), number)  # while it is blocked: it merges with the terminal's own, if that still waits
        before = signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
