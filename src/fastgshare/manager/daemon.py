"""The node daemon: one process that decides who may use which device when. ``python -m fastgshare.manager.daemon``.

Instances need it to join, to borrow time and to be replaced when they fail; while it is away they follow their own
slots. It keeps nothing that cannot be had again: pages come back from the instances, shares from who controls it.
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.errors import DaemonUnavailable, FastGShareError, InvalidValue, NotFound, WireError
from fastgshare.domain.units import ns
from fastgshare.manager import layout, messages
from fastgshare.manager.commands import Commands
from fastgshare.manager.members import Member
from fastgshare.manager.peers import Message, Peer, Peers
from fastgshare.manager.processes import Process
from fastgshare.manager.seats import Seat
from fastgshare.manager.sites import MEMORY_NAME, Site

SOCKET_NAME: Final = "daemon.sock"
GRACE_NS: Final = 1_000_000_000
"""How long a restarted daemon waits for its predecessor's instances before it lets new ones in."""

FLUSH_NS: Final = 1_000_000_000
COMPLAINTS_PER_FLUSH: Final = 5
_PR_SET_PDEATHSIG: Final = 1

__all__ = ["MEMORY_NAME", "SOCKET_NAME", "Daemon", "parse_device"]


class Daemon:
    """Sockets, timers and processes around the sites of a node's devices."""

    def __init__(
        self, devices: Sequence[Device], directory: Path, window_s: float | None, until_empty_s: float | None = None
    ) -> None:
        self._until_empty_ns = None if until_empty_s is None else ns(until_empty_s)
        self._empty_since_ns = time.monotonic_ns()
        self._directory = directory
        self._complaints = 0
        window_ns = ns(window_s) if window_s else None
        self.sites = tuple(
            Site(device, directory, number, window_ns, self._complain) for number, device in enumerate(devices)
        )
        self._epoll = select.epoll()
        self._peers = Peers(directory / SOCKET_NAME, self._epoll)
        self._commands = Commands(self)
        self._waiting: dict[int, messages.Hello] = {}  # has introduced itself, is not admitted yet; by descriptor
        self._members_by_fd: dict[int, Member] = {}
        self._next_flush_ns = 0
        self._stopping = self._hellos_due = False
        self._grace_until_ns = time.monotonic_ns() + GRACE_NS if self.is_taking_over else 0

    def run(self) -> None:
        """Serve until told to stop. Whatever one peer does, the others are served."""
        while not self._stopping:
            for fd, _ in self._epoll.poll(self._timeout_s(time.monotonic_ns())):
                try:
                    self._handle(fd)
                except Exception as error:  # a fault in one peer's affairs must not become everybody's
                    self._complain(f"{type(error).__name__}: {error}")
                    self._disconnect_fd(fd)
            try:
                self._end_round(time.monotonic_ns())
                self._on_time(time.monotonic_ns())
            except Exception as error:
                self._complain(f"{type(error).__name__}: {error}")
        (self._directory / SOCKET_NAME).unlink(missing_ok=True)
        for site in self.sites:
            site.books.flush()
            site.remove_files()

    def stop(self) -> None:
        """End `run` after the present round."""
        self._stopping = True

    @property
    def is_taking_over(self) -> bool:
        """Whether a predecessor's memory is still awaited, of any device."""
        return not all(site.is_ready for site in self.sites)

    def site(self, device_id: str) -> Site:
        """The site of a device, "" for the first. Raises `InvalidValue`."""
        for site in self.sites:
            if device_id in ("", site.device.id):
                return site
        raise InvalidValue("device_id", device_id, ", ".join(site.device.id for site in self.sites))

    def site_of(self, instance_id: str) -> Site:
        """The site that an instance is on. Raises `NotFound`, `FastGShareError` while a predecessor's is awaited."""
        site = self._find_site(instance_id)
        if site is None and self.is_taking_over:
            raise FastGShareError("the daemon is taking over from its predecessor")
        if site is None:
            raise NotFound("instance", instance_id)
        return site

    def _find_site(self, instance_id: str) -> Site | None:
        return next((site for site in self._ready() if instance_id in site.table.seats), None)

    def _ready(self) -> list[Site]:
        return [site for site in self.sites if site.is_ready]

    # --- rounds ------------------------------------------------------------------------------------------------------

    def _timeout_s(self, now_ns: int) -> float:
        due = [at for site in self.sites if (at := site.due_ns()) is not None]
        if self._grace_until_ns:
            due.append(self._grace_until_ns)
        if self._until_empty_ns is not None and self._is_empty():
            due.append(self._empty_since_ns + self._until_empty_ns)
        return max(0, min(due, default=now_ns) - now_ns) / 1e9

    def _end_round(self, now_ns: int) -> None:
        """What many may have asked for at once is done once: a new timetable, and letting in who waits."""
        welcome = self._join_waiting(now_ns) if self._hellos_due else []
        for site in self.sites:
            site.refit(now_ns)
        for site, peer, member in welcome:
            self._welcome(site, peer, member)

    def _on_time(self, now_ns: int) -> None:
        if self._grace_until_ns and now_ns >= self._grace_until_ns:
            self._end_grace(now_ns)
        for site in self.sites:
            site.on_time(now_ns)
        if now_ns >= self._next_flush_ns:
            self._next_flush_ns = now_ns + FLUSH_NS
            self._complaints = 0
            for site in self.sites:
                site.books.flush()
            self._peers.sweep(now_ns)
        self._end_if_empty(now_ns)

    def _is_empty(self) -> bool:
        return all(site.is_empty for site in self.sites)

    def _end_if_empty(self, now_ns: int) -> None:
        if not self._is_empty():
            self._empty_since_ns = now_ns
        elif self._until_empty_ns is not None and now_ns - self._empty_since_ns >= self._until_empty_ns:
            self.stop()

    def _end_grace(self, now_ns: int) -> None:
        self._grace_until_ns = 0
        for site in self.sites:
            site.begin_anew()
            site.table.drop_inherited(now_ns)
            site.refit_due = True
        self._hellos_due = True
        self._end_round(now_ns)

    # --- peers -------------------------------------------------------------------------------------------------------

    def _handle(self, fd: int) -> None:
        peer = self._peers.get(fd)
        if fd == self._peers.listener_fd:
            for accepted in self._peers.accept(time.monotonic_ns()):
                self._receive(accepted)  # who connects has mostly said what it wants already
        elif peer is not None:
            self._receive(peer)
        else:
            self._process_ended(fd)

    def _receive(self, peer: Peer) -> None:
        """One message. Whatever is wrong with it costs its sender the connection, and nobody else anything."""
        message = peer.receive()
        if message is None:
            return
        try:
            self._understand(peer, message)
        except (WireError, OSError) as error:
            self._complain(f"connection of process {peer.pid} closed: {error}")
            self._disconnect(peer)
        finally:
            for fd in message.fds:
                os.close(fd)

    def _understand(self, peer: Peer, message: Message) -> None:
        if not message.data:
            self._disconnect(peer)
        elif message.data == messages.KICK:
            self._look_soon(peer)
        elif message.data == messages.BYE:
            self._leave(peer)
        elif message.data[:1] == b"{":
            self._commands.answer(peer, message.data)
        else:
            self._introduced(peer, messages.parse_hello(message.data), message.fds)

    def _look_soon(self, peer: Peer) -> None:
        member = self._members_by_fd.get(peer.fd)
        site = self._find_site(member.seat.instance_id) if member is not None else None
        if site is not None:
            site.look_soon()

    def _disconnect_fd(self, fd: int) -> None:
        peer = self._peers.get(fd)
        if peer is not None:
            self._disconnect(peer)

    def _disconnect(self, peer: Peer) -> None:
        self._waiting.pop(peer.fd, None)
        member = self._members_by_fd.pop(peer.fd, None)
        if member is not None and member.socket_fd == peer.fd:
            member.socket_fd = -1
        self._peers.close(peer)

    def _complain(self, text: str) -> None:
        """Say what went wrong, but not endlessly, and to whoever still listens."""
        self._complaints += 1
        if self._complaints <= COMPLAINTS_PER_FLUSH:
            with suppress(OSError, ValueError):
                print(f"daemon: {text}", file=sys.stderr, flush=True)

    # --- instances ---------------------------------------------------------------------------------------------------

    def _introduced(self, peer: Peer, hello: messages.Hello, fds: Sequence[int]) -> None:
        if hello.kind == layout.READOPT:
            if len(fds) != layout.CELLS + 2:
                raise WireError(f"a re-adoption brings {layout.CELLS + 2} descriptors, not {len(fds)}")
            if self._is_taken_back(fds, hello.index):
                hello = messages.Hello(layout.READOPT, hello.index, hello.instance_id)
            else:
                hello = messages.Hello(layout.REGISTER, 0, hello.instance_id)  # other memory: it has to begin anew
        self._waiting[peer.fd] = hello
        self._hellos_due = True

    def _is_taken_back(self, fds: Sequence[int], index: int) -> bool:
        """Whether these are the pages of one of the devices; of one whose memory is awaited, they are taken."""
        problems = []
        for site in self.sites:
            try:
                if not site.is_ready:
                    site.take_over(fds)
                if site.table.memory.is_page_of(fds[1], index):
                    return True
            except WireError as error:
                problems.append(str(error))
        if problems:
            self._complain(f"not the predecessor's memory: {problems[0]}")
        return False

    def admit(self, seat: Seat, device_id: str) -> None:
        """Let an instance in on a device ("": the first). Raises `InvalidValue`."""
        here, site = self._find_site(seat.instance_id), self.site(device_id)
        if here is not None and here is not site:
            raise InvalidValue("device_id", device_id, f"{here.device.id}, where instance {seat.instance_id} is")
        site.table.admit(seat, time.monotonic_ns())
        if here is None:
            for process in (seat.process, *(member.process for member in seat.members)):
                self._watch(process)
        site.refit_due = self._hellos_due = True

    def _watch(self, process: Process | None) -> None:
        if process is not None:
            self._epoll.register(process.fd, select.EPOLLIN)

    def _unwatch(self, process: Process | None) -> None:
        if process is not None:
            with suppress(OSError, ValueError):
                self._epoll.unregister(process.fd)

    def _join_waiting(self, now_ns: int) -> list[tuple[Site, Peer, Member]]:
        """Who has both introduced itself and been admitted is given a cell; returns those who are to be told of it."""
        self._hellos_due = False
        joined = []
        for fd, hello in list(self._waiting.items()):
            peer = self._peers.get(fd)
            readopted = hello.kind == layout.READOPT
            if peer is None or (self._grace_until_ns and not readopted):
                continue
            site = self._find_site(hello.instance_id)
            try:
                member = self._join(site, peer, hello, now_ns)
            except (OSError, FastGShareError) as error:
                self._complain(f"instance {hello.instance_id} could not be let in: {error}")
                self._disconnect_fd(fd)
                continue
            if site is not None and member is not None:
                joined.append((site, peer, member))
        return joined

    def _join(self, site: Site | None, peer: Peer, hello: messages.Hello, now_ns: int) -> Member | None:
        """Give a process a new cell, if it is one of the instance's and has not come back to the cell it had."""
        seat = site.table.seats[hello.instance_id] if site is not None else None
        process = self._process_of(peer, seat)
        if site is None or seat is None or process is None:
            if hello.kind == layout.READOPT and not self._grace_until_ns:
                del self._waiting[peer.fd]
                peer.socket.send(messages.answer(layout.REFUSED, reason="it is no longer on this device"))
            return None
        del self._waiting[peer.fd]
        known = seat.member(process.pid)
        if known is not None and hello.kind == layout.READOPT and hello.index == known.index:
            process.close()
            self._attach(peer, known)
            peer.socket.send(messages.answer(layout.ADOPTED, known.index))
            return None
        if known is not None:
            self._let_go(site, known)  # another cell, since it may have written to this one
        try:
            member = site.table.join(seat, process, now_ns)
        except FastGShareError as error:
            process.close()
            peer.socket.send(messages.answer(layout.REFUSED, reason=str(error)))
            return None
        self._watch(process)
        self._attach(peer, member)
        site.refit_due = True
        return member

    @staticmethod
    def _process_of(peer: Peer, seat: Seat | None) -> Process | None:
        """The process behind a connection, if it is one of the instance's."""
        if seat is None:
            return None
        process = Process.open(peer.pid)
        if seat.includes(process):
            return process
        process.close()
        return None

    def _welcome(self, site: Site, peer: Peer, member: Member) -> None:
        fds = site.table.memory.descriptors_for(member.index)
        try:
            socket.send_fds(peer.socket, [messages.answer(layout.WELCOME, member.index)], fds)
        except OSError as error:
            self._complain(f"process {peer.pid} could not be let in: {error}")
            self._disconnect(peer)

    def _attach(self, peer: Peer, member: Member) -> None:
        member.socket_fd = peer.fd
        self._members_by_fd[peer.fd] = member

    def _leave(self, peer: Peer) -> None:
        member = self._members_by_fd.get(peer.fd)
        site = self._find_site(member.seat.instance_id) if member is not None else None
        if site is not None and member is not None:
            self._let_go(site, member)

    def _let_go(self, site: Site, member: Member) -> None:
        """One process is no longer on the device; its instance is."""
        site.table.leave(member, time.monotonic_ns())
        site.refit_due = True
        self._disconnect_fd(member.socket_fd)
        self._unwatch(member.process)
        member.process.close()

    def _process_ended(self, pidfd: int) -> None:
        # The number may have been given to another process in this very round: ask.
        for site, seat in [(at, seat) for at in self._ready() for seat in at.table.seats.values()]:
            for member in [m for m in seat.members if m.process.fd == pidfd and m.process.has_ended()]:
                if member.fenced:
                    self._complain(f"process {member.process.pid} of {seat.instance_id} was ended: {member.fenced}")
                self._let_go(site, member)
            if seat.process is not None and seat.process.fd == pidfd and seat.has_ended():
                self._remove(site, seat.instance_id)

    def remove(self, instance_id: str) -> None:
        """Take an instance off its device; unknown ids are ignored."""
        site = self._find_site(instance_id)
        if site is not None:
            self._remove(site, instance_id)

    def _remove(self, site: Site, instance_id: str) -> None:
        seat = site.table.remove(instance_id, time.monotonic_ns())
        if seat is None:
            return
        site.refit_due = True
        for member in seat.members:
            self._disconnect_fd(member.socket_fd)  # should it live on and knock again, it is refused
            self._unwatch(member.process)
        self._unwatch(seat.process)
        seat.close_processes()


def parse_device(text: str) -> Device:
    """A device, of any kind, from the JSON of its fields. Raises `InvalidValue`."""
    try:
        fields = json.loads(text)
        kind = DeviceKind(fields["kind"])
        ids = tuple(fields.get("sm_ids", ()))
        more = (fields.get("type", ""), fields.get("steps", 0))
        return Device(fields["id"], kind, fields["sm_count"], fields.get("mem_bytes", 0), ids, *more)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        allowed = f"a JSON object with id, kind ({', '.join(DeviceKind)}), sm_count, mem_bytes, sm_ids, type and steps"
        raise InvalidValue("device", text, allowed) from error


def alone_in(directory: Path) -> int:
    """Become the one daemon of a directory; returns the descriptor that keeps it so. Raises `DaemonUnavailable`."""
    directory.mkdir(parents=True, exist_ok=True)
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        raise DaemonUnavailable(f"another node daemon serves {directory}") from error
    return fd


def _live_on_its_own() -> None:
    """Outlive whoever started it: what ends a terminal's programs does not end the daemon of other people's too."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # `fastgshare run` blocks all, SIGTERM too, and that is inherited


def _end_with_parent(daemon: Daemon) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)  # whoever started it is dead: nobody needs it
    signal.signal(signal.SIGINT, lambda *_: daemon.stop())


@dataclass(frozen=True, slots=True)
class _Order:
    """What the command line says. directory: for socket and ledgers. detached: it outlives whoever started it."""

    directory: Path
    devices: tuple[Device, ...]
    window_s: float | None
    until_empty_s: float | None
    detached: bool


def _parse(arguments: Sequence[str] | None) -> _Order:
    """Raises `InvalidValue` for a device, `SystemExit` for the rest."""
    parser = argparse.ArgumentParser(
        prog="python -m fastgshare.manager.daemon",
        description="Run the node daemon of some devices until SIGTERM. One a directory: a second one says so.",
    )
    parser.add_argument("--directory", type=Path, required=True, help="for its socket and the ledgers")
    parser.add_argument("--device", action="append", required=True, help="a device, as JSON of `Device`; repeatable")
    parser.add_argument("--window-s", type=float, help="a fixed window; default: 40 ms, longer for longer bursts")
    parser.add_argument("--until-empty-s", type=float, help="end when so long nobody was admitted")
    parser.add_argument("--detached", action="store_true", help="outlive whoever started it")
    given = parser.parse_args(arguments)
    devices = tuple(map(parse_device, given.device))
    ids = [device.id for device in devices]
    if len(set(ids)) < len(ids):
        raise InvalidValue("device", ", ".join(ids), "every device once")
    if given.until_empty_s is not None and not given.until_empty_s >= 0:
        raise InvalidValue("until-empty-s", given.until_empty_s, "0 or more seconds")
    return _Order(given.directory, devices, given.window_s, given.until_empty_s, given.detached)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the daemon; its exit status: 0 after SIGTERM, 1 if it cannot serve."""
    try:
        order = _parse(arguments)
        alone_in(order.directory)
    except FastGShareError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, -10)  # its grants must not wait behind those they are for
    daemon = Daemon(order.devices, order.directory, order.window_s, order.until_empty_s)
    signal.signal(signal.SIGTERM, lambda *_: daemon.stop())
    if order.detached:
        _live_on_its_own()
    else:
        _end_with_parent(daemon)
    print("daemon: ready", flush=True)
    daemon.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
