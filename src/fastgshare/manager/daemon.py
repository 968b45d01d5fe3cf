"""The node daemon: one process that decides who may use the device when. ``python -m fastgshare.manager.daemon``.

Instances need it to join, to borrow time and to be replaced when they fail; while it is away they follow their own
slots. It keeps nothing that cannot be had again: pages come back from the instances, shares from who controls it.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Final

import click

from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.errors import FastGShareError, InvalidValue, WireError
from fastgshare.domain.units import ns
from fastgshare.manager import layout, messages
from fastgshare.manager.books import Books
from fastgshare.manager.memory import DeviceMemory
from fastgshare.manager.seats import Seat
from fastgshare.manager.timetable import Timetable

SOCKET_NAME: Final = "daemon.sock"
MEMORY_NAME: Final = "memory.json"
GRACE_NS: Final = 1_000_000_000
"""How long a restarted daemon waits for its predecessor's instances before it lets new ones in."""

LEND_VALID_NS: Final = 200_000_000
"""Borrowers stop when the daemon has given no sign of life for so long (at least two windows)."""

SHORTEST_GAP_NS: Final = 1_000_000
"""Plans are made at most this often, however many instances knock."""

FLUSH_NS: Final = 1_000_000_000
_PR_SET_PDEATHSIG: Final = 1
_PEER: Final = struct.Struct("iII")


class Daemon:
    """Sockets, timers and processes around one `Timetable`."""

    def __init__(self, device: Device, directory: Path, window_s: float | None) -> None:
        self._directory = directory
        self._books = Books(directory / "ledger.csv")
        now = time.monotonic_ns()
        self._fresh = not (directory / MEMORY_NAME).exists()
        self._grace_until_ns = 0 if self._fresh else now + GRACE_NS
        self._device = device
        self._window_ns = ns(window_s) if window_s else None
        self._table: Timetable | None = None
        self._epoll = select.epoll()
        self._listener = self._listen(directory / SOCKET_NAME)
        self._peers: dict[int, socket.socket] = {}
        self._waiting: dict[int, messages.Hello] = {}  # registered, not admitted yet; by socket
        self._seats_by_fd: dict[int, Seat] = {}
        self._looked_ns = self._flushed_ns = self._next_tick_ns = 0
        self._look_due = False
        self._stopping = False
        if self._fresh:
            self._start_anew()

    def run(self) -> None:
        """Serve until told to stop."""
        while not self._stopping:
            now = time.monotonic_ns()
            for fd, _ in self._epoll.poll(self._timeout_s(now)):
                self._handle(fd)
            self._on_time(time.monotonic_ns())
        self._books.flush()
        (self._directory / SOCKET_NAME).unlink(missing_ok=True)
        (self._directory / MEMORY_NAME).unlink(missing_ok=True)

    def stop(self) -> None:
        """End `run` after the present round."""
        self._stopping = True

    # --- rounds ------------------------------------------------------------------------------------------------------

    @property
    def table(self) -> Timetable:
        """The device's timetable. Raises `FastGShareError` while the predecessor's memory is awaited."""
        if self._table is None:
            raise FastGShareError("the daemon is taking over from its predecessor")
        return self._table

    def _timeout_s(self, now_ns: int) -> float:
        due = [self._next_tick_ns if self._table else self._grace_until_ns]
        if self._look_due:
            due.append(self._looked_ns + SHORTEST_GAP_NS)
        return max(0, min(due) - now_ns) / 1e9

    def _on_time(self, now_ns: int) -> None:
        if self._grace_until_ns and now_ns >= self._grace_until_ns:
            self._grace_until_ns = 0
            if self._table is None:
                self._start_anew()
            self.table.drop_inherited(now_ns)
            self._welcome_waiting()
        if self._table is None:
            return
        if self._look_due and now_ns >= self._looked_ns + SHORTEST_GAP_NS:
            self._look_due, self._looked_ns = False, now_ns
            self._table.look(now_ns)
            if self._table.suspicious:
                self._next_tick_ns = min(self._next_tick_ns, now_ns + self._table.window_ns // 8)
        if now_ns >= self._next_tick_ns:
            self._table.tick(now_ns)
            soon_ns = now_ns + self._table.window_ns // 8
            self._next_tick_ns = soon_ns if self._table.suspicious else self._table.next_tick_ns(now_ns)
        if now_ns >= self._flushed_ns + FLUSH_NS:
            self._flushed_ns = now_ns
            self._books.flush()

    def _start_anew(self) -> None:
        self._use(DeviceMemory.create(LEND_VALID_NS))
        inodes = json.dumps(self.table.memory.inodes)
        (self._directory / MEMORY_NAME).write_text(inodes)

    def _use(self, memory: DeviceMemory) -> None:
        self._table = Timetable(self._device, memory, self._books, self._window_ns, time.monotonic_ns())

    # --- sockets -----------------------------------------------------------------------------------------------------

    def _listen(self, path: Path) -> socket.socket:
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.bind(str(path))
        path.chmod(0o666)  # who may do what is decided by SO_PEERCRED, message by message
        listener.listen(128)
        listener.setblocking(False)
        self._epoll.register(listener, select.EPOLLIN)
        return listener

    def _handle(self, fd: int) -> None:
        if fd == self._listener.fileno():
            self._accept()
        elif fd in self._peers:
            self._receive(self._peers[fd])
        else:
            self._process_ended(fd)

    def _accept(self) -> None:
        with suppress(BlockingIOError):
            peer, _ = self._listener.accept()
            peer.setblocking(False)
            self._peers[peer.fileno()] = peer
            self._epoll.register(peer, select.EPOLLIN)

    def _receive(self, peer: socket.socket) -> None:
        """One message. Whatever is wrong with it costs its sender the connection, and nobody else anything."""
        try:
            data, fds, _, _ = socket.recv_fds(peer, messages.LARGEST_MESSAGE, layout.CELLS + 2)
        except BlockingIOError:
            return
        except OSError:
            data, fds = b"", []
        try:
            if not data:
                self._disconnect(peer)
            elif data == messages.KICK:
                self._look_due = True
            elif data == messages.BYE:
                self._leave(peer)
            elif data[:1] == b"{":
                self._command(peer, data)
            else:
                self._introduced(peer, messages.parse_hello(data), fds)
        except (WireError, OSError) as error:
            print(f"daemon: connection closed: {error}", file=sys.stderr, flush=True)
            self._disconnect(peer)
        finally:
            for fd in fds:
                os.close(fd)

    def _disconnect(self, peer: socket.socket) -> None:
        fd = peer.fileno()
        self._waiting.pop(fd, None)
        seat = self._seats_by_fd.pop(fd, None)
        if seat is not None:
            seat.socket_fd = -1
        del self._peers[fd]
        self._epoll.unregister(fd)
        peer.close()

    # --- instances ---------------------------------------------------------------------------------------------------

    def _introduced(self, peer: socket.socket, hello: messages.Hello, fds: Sequence[int]) -> None:
        pid, _, _ = _PEER.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
        if hello.kind == layout.READOPT and self._readopt(peer, hello, pid, fds):
            return
        self._waiting[peer.fileno()] = hello
        self._welcome_waiting()

    def _readopt(self, peer: socket.socket, hello: messages.Hello, pid: int, fds: Sequence[int]) -> bool:
        """Take an instance back with the cell it has. False: its pages are not ours, it has to register anew."""
        if len(fds) != layout.CELLS + 2:
            raise WireError(f"a re-adoption brings {layout.CELLS + 2} descriptors, not {len(fds)}")
        if self._table is None:
            with suppress(WireError, ValueError, OSError):
                inodes = json.loads((self._directory / MEMORY_NAME).read_text())
                self._use(DeviceMemory.take_back(fds, inodes))
        if self._table is None or os.fstat(fds[0]).st_ino != self.table.memory.inodes[0]:
            return False
        if os.fstat(fds[1]).st_ino != self.table.memory.inodes[1 + hello.index]:
            raise WireError(f"the page of instance {hello.instance_id} is not that of cell {hello.index}")
        seat = self.table.seats.get(hello.instance_id) or self._seat_from_cell(hello, pid)
        if seat.pid != pid or seat.index not in (-1, hello.index):
            raise WireError(f"process {pid} is not instance {hello.instance_id}")
        seat.index = hello.index
        self._attach(peer, seat)
        self.table.occupy(seat, time.monotonic_ns())
        peer.send(messages.answer(layout.ADOPTED, seat.index))
        return True

    def _seat_from_cell(self, hello: messages.Hello, pid: int) -> Seat:
        """An instance that comes back before its admission is repeated: its share is what the board says."""
        seat = Seat.from_cell(hello.instance_id, pid, self.table.memory.cell(hello.index), hello.index)
        self.table.adopt_window(self.table.memory.cell(hello.index))
        self.table.admit(seat, time.monotonic_ns())
        self._epoll.register(seat.pidfd, select.EPOLLIN)
        return seat

    def _welcome_waiting(self) -> None:
        """Let in who has both registered and been admitted."""
        if self._table is None or self._grace_until_ns:
            return
        for fd, hello in list(self._waiting.items()):
            peer = self._peers[fd]
            pid, _, _ = _PEER.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
            seat = self.table.seats.get(hello.instance_id)
            if seat is not None and seat.pid == pid:
                del self._waiting[fd]
                self._welcome(peer, seat)

    def _welcome(self, peer: socket.socket, seat: Seat) -> None:
        try:
            self.table.take_cell(seat, time.monotonic_ns())
        except FastGShareError as error:
            peer.send(messages.answer(layout.REFUSED, reason=str(error)))
            return
        self._attach(peer, seat)
        fds = self.table.memory.descriptors_for(seat.index)
        try:
            socket.send_fds(peer, [messages.answer(layout.WELCOME, seat.index)], fds)
        finally:
            for fd in fds:
                os.close(fd)

    def _attach(self, peer: socket.socket, seat: Seat) -> None:
        seat.socket_fd = peer.fileno()
        self._seats_by_fd[peer.fileno()] = seat

    def _leave(self, peer: socket.socket) -> None:
        seat = self._seats_by_fd.get(peer.fileno())
        if seat is not None:
            self._remove(seat.instance_id)

    def _process_ended(self, pidfd: int) -> None:
        for seat in list(self._table.seats.values()) if self._table else []:
            if seat.pidfd == pidfd:
                if seat.fenced:
                    print(f"daemon: instance {seat.instance_id} was ended: {seat.fenced}", file=sys.stderr, flush=True)
                self._remove(seat.instance_id)

    def _remove(self, instance_id: str) -> None:
        seat = self.table.remove(instance_id, time.monotonic_ns())
        if seat is None:
            return
        self._seats_by_fd.pop(seat.socket_fd, None)
        self._epoll.unregister(seat.pidfd)
        os.close(seat.pidfd)

    # --- control -----------------------------------------------------------------------------------------------------

    def _command(self, peer: socket.socket, data: bytes) -> None:
        _, uid, _ = _PEER.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
        if uid not in (0, os.getuid()):
            raise WireError(f"user {uid} does not control this daemon")
        document = messages.parse_command(data)
        handlers: dict[str, Callable[[dict[str, object]], object]] = {
            "admit": self._admit,
            "place": self._place,
            "set_burst": self._set_burst,
            "remove": lambda d: self._remove(messages.text(d, "instance_id")),
            "totals": lambda d: [asdict(entry) for entry in self._books.totals()],
            "windows": lambda d: [asdict(e) for e in self._books.recent(int(messages.number(d, "last")))][-400:],
            "holds": lambda d: self._holds(),
            "status": lambda d: self._status(),
        }
        handler = handlers.get(str(document["op"]))
        try:
            if handler is None:
                raise InvalidValue("op", document["op"], ", ".join(sorted(handlers)))
            reply = {"ok": True, "result": handler(document)}
        except FastGShareError as error:
            reply = {"ok": False, "error": str(error), "retry": self._table is None}
        peer.send(json.dumps(reply).encode())

    def _admit(self, document: dict[str, object]) -> None:
        share, rect = messages.parse_share(document)
        seat = Seat(messages.text(document, "instance_id"), int(messages.number(document, "pid")), share, rect)
        seat.burst_ns = ns(messages.number(document, "burst_s"))
        seat.declared = bool(document.get("declared"))
        known = seat.instance_id in self.table.seats
        self.table.admit(seat, time.monotonic_ns())
        if not known:
            self._epoll.register(seat.pidfd, select.EPOLLIN)
        self._welcome_waiting()

    def _place(self, document: dict[str, object]) -> None:
        changes = document.get("changes")
        if not isinstance(changes, dict):
            raise InvalidValue("changes", changes, "an object of instance ids")
        parsed = {name: messages.parse_share(change) for name, change in changes.items()}
        self.table.place(parsed, time.monotonic_ns())

    def _set_burst(self, document: dict[str, object]) -> None:
        burst_ns = ns(messages.number(document, "burst_s"))
        self.table.set_burst(messages.text(document, "instance_id"), burst_ns, time.monotonic_ns())

    def _holds(self) -> dict[str, list[tuple[int, int, bool]]]:
        """The holds each instance's ring still has, the last ones that fit a message."""
        found = {}
        for seat in self.table.seats.values():
            head = self.table.memory.page(seat.index) if seat.index >= 0 else None
            holds = self.table.memory.holds(seat.index, head, 0) if head else []
            found[seat.instance_id] = [(h.start_ns, h.end_ns, h.loan) for h in holds[-64:]]
        return found

    def _status(self) -> dict[str, object]:
        seats = {s.instance_id: {"index": s.index, "pid": s.pid, "fenced": s.fenced} for s in self.table.seats.values()}
        return {
            "pid": os.getpid(),
            "cpu_s": time.process_time(),
            "epoch_ns": self.table.epoch_ns,
            "window_s": self.table.window_ns / 1e9,
            "instances": seats,
            "ledger_problem": self._books.problem,
        }


@click.command()
@click.option("--directory", type=click.Path(file_okay=False, path_type=Path), required=True, help="Socket and ledger.")
@click.option("--device", "device_json", required=True, help="The device, as JSON of `Device`.")
@click.option("--window-s", type=float, default=None, help="A fixed window; default: 40 ms, longer for longer bursts.")
def main(directory: Path, device_json: str, window_s: float | None) -> None:
    """Run the node daemon of one device until SIGTERM."""
    fields = json.loads(device_json)
    device = Device(
        fields["id"], DeviceKind(fields["kind"]), fields["sm_count"], fields["mem_bytes"], tuple(fields["sm_ids"])
    )
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, -10)  # its grants must not wait behind those they are for
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)  # whoever started it is dead: nobody needs it
    daemon = Daemon(device, directory, window_s)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: daemon.stop())
    print("daemon: ready", flush=True)
    daemon.run()


if __name__ == "__main__":
    main()
