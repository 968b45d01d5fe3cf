"""The node daemon: one process that decides who may use the device when. ``python -m fastgshare.manager.daemon``.

Instances need it to join, to borrow time and to be replaced when they fail; while it is away they follow their own
slots. It keeps nothing that cannot be had again: pages come back from the instances, shares from who controls it.
"""

from __future__ import annotations

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
from pathlib import Path
from typing import Final

import click

from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.errors import DaemonUnavailable, FastGShareError, InvalidValue, WireError
from fastgshare.domain.units import ns
from fastgshare.manager import layout, messages
from fastgshare.manager.books import Books
from fastgshare.manager.commands import Commands
from fastgshare.manager.journals import Journal, read_journal
from fastgshare.manager.members import Member
from fastgshare.manager.memory import DeviceMemory
from fastgshare.manager.peers import Message, Peer, Peers
from fastgshare.manager.processes import Process
from fastgshare.manager.seats import Seat
from fastgshare.manager.timetable import LEND_VALID_NS, Timetable

SOCKET_NAME: Final = "daemon.sock"
MEMORY_NAME: Final = "memory.jsonl"
GRACE_NS: Final = 1_000_000_000
"""How long a restarted daemon waits for its predecessor's instances before it lets new ones in."""

SHORTEST_GAP_NS: Final = 1_000_000
"""Plans are made at most this often, however many instances knock; and at most a fifth of the time goes into them."""

FLUSH_NS: Final = 1_000_000_000
COMPLAINTS_PER_FLUSH: Final = 5
_PR_SET_PDEATHSIG: Final = 1


class Daemon:
    """Sockets, timers and processes around one `Timetable`."""

    def __init__(
        self, device: Device, directory: Path, window_s: float | None, until_empty_s: float | None = None
    ) -> None:
        self._until_empty_ns = None if until_empty_s is None else ns(until_empty_s)
        self._empty_since_ns = time.monotonic_ns()
        self._device = device
        self._directory = directory
        self._window_ns = ns(window_s) if window_s else None
        self._books = Books(directory / "ledger.csv")
        self._table: Timetable | None = None
        self._epoll = select.epoll()
        self._peers = Peers(directory / SOCKET_NAME, self._epoll)
        self._commands = Commands(self)
        self._waiting: dict[int, messages.Hello] = {}  # has introduced itself, is not admitted yet; by descriptor
        self._members_by_fd: dict[int, Member] = {}
        self._next_look_ns = self._next_flush_ns = self._next_tick_ns = 0
        self._look_due = self._stopping = self._refit_due = self._hellos_due = False
        self._journal = Journal(directory / MEMORY_NAME)
        self._complaints = 0
        self._grace_until_ns = 0
        if (directory / MEMORY_NAME).exists():
            self._grace_until_ns = time.monotonic_ns() + GRACE_NS
        else:
            self._start_anew()

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
        self._books.flush()
        for name in (SOCKET_NAME, MEMORY_NAME):
            (self._directory / name).unlink(missing_ok=True)

    def stop(self) -> None:
        """End `run` after the present round."""
        self._stopping = True

    @property
    def books(self) -> Books:
        """The device's ledger."""
        return self._books

    @property
    def is_taking_over(self) -> bool:
        """Whether the predecessor's memory is still awaited."""
        return self._table is None

    @property
    def table(self) -> Timetable:
        """The device's timetable. Raises `FastGShareError` while the predecessor's memory is awaited."""
        if self._table is None:
            raise FastGShareError("the daemon is taking over from its predecessor")
        return self._table

    # --- rounds ------------------------------------------------------------------------------------------------------

    def _timeout_s(self, now_ns: int) -> float:
        due = [self._next_tick_ns if self._table else self._grace_until_ns]
        if self._look_due:
            due.append(self._next_look_ns)
        if self._until_empty_ns is not None and self._table and not self._table.seats:
            due.append(self._empty_since_ns + self._until_empty_ns)
        return max(0, min(due) - now_ns) / 1e9

    def _end_round(self, now_ns: int) -> None:
        """What many may have asked for at once is done once: a new timetable, and letting in who waits."""
        welcome = self._join_waiting(now_ns) if self._hellos_due else []
        if self._refit_due and self._table is not None:
            self._refit_due = False
            self._table.refit(now_ns)
            self._note_cells()  # before anybody may work: a successor has to know
        for peer, member in welcome:
            self._welcome(peer, member)

    def _on_time(self, now_ns: int) -> None:
        if self._grace_until_ns and now_ns >= self._grace_until_ns:
            self._end_grace(now_ns)
        if self._table is None:
            return
        if self._look_due and now_ns >= self._next_look_ns:
            self._look_due = False
            self._table.look(now_ns)
            took_ns = time.monotonic_ns() - now_ns
            self._next_look_ns = now_ns + max(SHORTEST_GAP_NS, 5 * took_ns)
        if now_ns >= self._next_tick_ns:
            self._table.tick(now_ns)
        self._next_tick_ns = self._table.next_tick_ns(now_ns)
        if now_ns >= self._next_flush_ns:
            self._next_flush_ns = now_ns + FLUSH_NS
            self._complaints = 0
            self._books.flush()
            self._peers.sweep(now_ns)
        self._end_if_empty(now_ns)

    def _end_if_empty(self, now_ns: int) -> None:
        if self.table.seats:
            self._empty_since_ns = now_ns
        elif self._until_empty_ns is not None and now_ns - self._empty_since_ns >= self._until_empty_ns:
            self.stop()

    def _end_grace(self, now_ns: int) -> None:
        self._grace_until_ns = 0
        if self._table is None:
            self._start_anew()
        self.table.drop_inherited(now_ns)
        self._refit_due = self._hellos_due = True
        self._end_round(now_ns)

    # --- the device's memory -----------------------------------------------------------------------------------------

    def _start_anew(self) -> None:
        memory = DeviceMemory.create(LEND_VALID_NS)
        self._table = Timetable(self._device, memory, self._books, self._window_ns, time.monotonic_ns())
        self._begin_journal()

    def _take_over(self, fds: Sequence[int]) -> None:
        """Go on with the predecessor's memory, if these descriptors are of it."""
        try:
            known, cells = read_journal(self._directory / MEMORY_NAME)
            memory = DeviceMemory.take_back(fds, known)
        except (WireError, ValueError, OSError) as error:
            self._complain(f"not the predecessor's memory: {error}")
            return
        now_ns = time.monotonic_ns()
        self._table = Timetable(self._device, memory, self._books, self._window_ns, now_ns, cells=cells)
        self._begin_journal()

    def _begin_journal(self) -> None:
        try:
            self._journal.begin(self.table.memory.identities, self.table.cells)
        except OSError as error:
            self._complain(f"a successor could not take over: {error}")

    def _note_cells(self) -> None:
        """Keep on disk who has which cell, for a successor."""
        try:
            self._journal.note(self.table.cells)
        except OSError as error:
            self._complain(f"a successor could not take over: {error}")

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
            self._look_due = True
        elif message.data == messages.BYE:
            self._leave(peer)
        elif message.data[:1] == b"{":
            self._commands.answer(peer, message.data)
        else:
            self._introduced(peer, messages.parse_hello(message.data), message.fds)

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
            if self._table is None:
                self._take_over(fds)
            if self._table is not None and self.table.memory.is_page_of(fds[1], hello.index):
                hello = messages.Hello(layout.READOPT, hello.index, hello.instance_id)
            else:
                hello = messages.Hello(layout.REGISTER, 0, hello.instance_id)  # other memory: it has to begin anew
        self._waiting[peer.fd] = hello
        self._hellos_due = True

    def admit(self, seat: Seat) -> None:
        """Let an instance in. Raises `InvalidValue`."""
        known = seat.instance_id in self.table.seats
        self.table.admit(seat, time.monotonic_ns())
        if not known:
            for process in (seat.process, *(member.process for member in seat.members)):
                self._watch(process)
        self._refit_due = self._hellos_due = True

    def _watch(self, process: Process | None) -> None:
        if process is not None:
            self._epoll.register(process.fd, select.EPOLLIN)

    def _unwatch(self, process: Process | None) -> None:
        if process is not None:
            with suppress(OSError, ValueError):
                self._epoll.unregister(process.fd)

    def _join_waiting(self, now_ns: int) -> list[tuple[Peer, Member]]:
        """Who has both introduced itself and been admitted is given a cell; returns those who are to be told of it."""
        self._hellos_due = False
        joined = []
        for fd, hello in list(self._waiting.items()) if self._table is not None else ():
            peer = self._peers.get(fd)
            readopted = hello.kind == layout.READOPT
            if peer is None or (self._grace_until_ns and not readopted):
                continue
            try:
                member = self._join(peer, hello, now_ns)
            except (OSError, FastGShareError) as error:
                self._complain(f"instance {hello.instance_id} could not be let in: {error}")
                self._disconnect_fd(fd)
                continue
            if member is not None:
                joined.append((peer, member))
        return joined

    def _join(self, peer: Peer, hello: messages.Hello, now_ns: int) -> Member | None:
        """Give a process a new cell, if it is one of the instance's and has not come back to the cell it had."""
        seat = self.table.seats.get(hello.instance_id)
        process = self._process_of(peer, seat)
        if seat is None or process is None:
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
            self._let_go(known)  # another cell, since it may have written to this one
        try:
            member = self.table.join(seat, process, now_ns)
        except FastGShareError as error:
            process.close()
            peer.socket.send(messages.answer(layout.REFUSED, reason=str(error)))
            return None
        self._watch(process)
        self._attach(peer, member)
        self._refit_due = True
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

    def _welcome(self, peer: Peer, member: Member) -> None:
        fds = self.table.memory.descriptors_for(member.index)
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
        if member is not None:
            self._let_go(member)

    def _let_go(self, member: Member) -> None:
        """One process is no longer on the device; its instance is."""
        self.table.leave(member, time.monotonic_ns())
        self._refit_due = True
        self._disconnect_fd(member.socket_fd)
        self._unwatch(member.process)
        member.process.close()

    def _process_ended(self, pidfd: int) -> None:
        # The number may have been given to another process in this very round: ask.
        for seat in list(self._table.seats.values()) if self._table else []:
            for member in [m for m in seat.members if m.process.fd == pidfd and m.process.has_ended()]:
                if member.fenced:
                    self._complain(f"process {member.process.pid} of {seat.instance_id} was ended: {member.fenced}")
                self._let_go(member)
            if seat.process is not None and seat.process.fd == pidfd and seat.has_ended():
                self.remove(seat.instance_id)

    def remove(self, instance_id: str) -> None:
        """Take an instance off the device; unknown ids are ignored."""
        seat = self.table.remove(instance_id, time.monotonic_ns())
        if seat is None:
            return
        self._refit_due = True
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
        return Device(
            fields["id"], kind, fields["sm_count"], fields.get("mem_bytes", 0), tuple(fields.get("sm_ids", ()))
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        allowed = f"a JSON object with id, kind ({', '.join(DeviceKind)}), sm_count, mem_bytes and sm_ids"
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


@click.command()
@click.option("--directory", type=click.Path(file_okay=False, path_type=Path), required=True, help="Socket and ledger.")
@click.option("--device", "device_json", required=True, help="The device, as JSON of `Device`.")
@click.option("--window-s", type=float, default=None, help="A fixed window; default: 40 ms, longer for longer bursts.")
@click.option("--until-empty-s", type=click.FloatRange(0), default=None, help="End when so long nobody was admitted.")
@click.option("--detached", is_flag=True, help="Outlive whoever started it.")
def main(
    directory: Path, device_json: str, window_s: float | None, until_empty_s: float | None, detached: bool
) -> None:
    """Run the node daemon of one device until SIGTERM. One a directory: a second one says so and ends with status 1."""
    try:
        device = parse_device(device_json)
        alone_in(directory)
    except FastGShareError as error:
        raise click.ClickException(str(error)) from error
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, -10)  # its grants must not wait behind those they are for
    daemon = Daemon(device, directory, window_s, until_empty_s)
    signal.signal(signal.SIGTERM, lambda *_: daemon.stop())
    if detached:
        _live_on_its_own()
    else:
        _end_with_parent(daemon)
    print("daemon: ready", flush=True)
    daemon.run()


if __name__ == "__main__":
    main()
