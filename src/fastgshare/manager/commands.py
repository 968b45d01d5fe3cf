"""Commands: what whoever controls the daemon may ask of it, over the same socket."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Final, Protocol

from fastgshare.domain.errors import FastGShareError, InvalidValue, WireError
from fastgshare.domain.units import ns, seconds
from fastgshare.manager import messages
from fastgshare.manager.books import Books
from fastgshare.manager.layout import Hold
from fastgshare.manager.peers import Peer
from fastgshare.manager.seats import Seat
from fastgshare.manager.timetable import Timetable

_LARGEST_REPLY: Final = messages.LARGEST_MESSAGE
_LARGEST_WINDOWS: Final = 10_000
_HOLDS_IN_ALL: Final = 2048

Document = dict[str, object]


class Controlled(Protocol):
    """The daemon, as its commands need it."""

    @property
    def table(self) -> Timetable:
        """The timetable. Raises `FastGShareError` while a predecessor's memory is awaited."""

    @property
    def books(self) -> Books:
        """The ledger."""

    @property
    def is_taking_over(self) -> bool:
        """Whether commands have to wait for the predecessor's memory."""

    def admit(self, seat: Seat) -> None:
        """Let an instance in."""

    def remove(self, instance_id: str) -> None:
        """Take an instance off the device."""


class Commands:
    """Understands commands and answers them; nothing that is wrong with one goes further than its answer."""

    def __init__(self, daemon: Controlled) -> None:
        self._daemon = daemon
        self._handlers: dict[str, Callable[[Document], object]] = {
            "admit": self._admit,
            "place": self._place,
            "set_burst": self._set_burst,
            "remove": self._remove,
            "verdict": lambda d: daemon.table.verdict(messages.text(d, "instance_id")),
            "totals": lambda _: [asdict(entry) for entry in daemon.books.totals()],
            "windows": self._windows,
            "holds": self._holds,
            "status": self._status,
        }

    def answer(self, peer: Peer, data: bytes) -> None:
        """Answer one command. Raises `WireError` for what is none, or from a user who may not control the daemon."""
        if peer.uid not in (0, os.getuid()):
            raise WireError(f"user {peer.uid} does not control this daemon")
        document = messages.parse_command(data)
        handler = self._handlers.get(str(document["op"]))
        try:
            if handler is None:
                raise InvalidValue("op", document["op"], ", ".join(sorted(self._handlers)))
            reply = json.dumps({"ok": True, "result": handler(document)}).encode()
            if len(reply) > _LARGEST_REPLY:
                raise InvalidValue("reply", len(reply), f"at most {_LARGEST_REPLY} bytes; ask for less")
        except FastGShareError as error:
            refusal = {"ok": False, "error": str(error)[:2000], "kind": type(error).__name__}
            reply = json.dumps(refusal | {"retry": self._daemon.is_taking_over}).encode()
        peer.socket.send(reply)

    def _admit(self, document: Document) -> None:
        share, rect = messages.parse_share(document)
        pid = int(messages.number(document, "pid", messages.LARGEST_PID))
        seat = Seat(messages.text(document, "instance_id"), pid, share, rect)
        seat.burst_ns = ns(messages.number(document, "burst_s", messages.LONGEST_BURST_S))
        seat.declared = bool(document.get("declared"))
        seat.root = int(messages.number({"root": 0, **document}, "root", messages.LARGEST_PID))
        if document.get("fits"):
            self._daemon.table.check_fits({seat.instance_id: (share, rect)})
        self._daemon.admit(seat)

    def _place(self, document: Document) -> None:
        changes = document.get("changes")
        if not isinstance(changes, dict):
            raise InvalidValue("changes", changes, "an object of instance ids")
        parsed = {name: messages.parse_share(change) for name, change in changes.items()}
        if document.get("fits"):
            self._daemon.table.check_fits(parsed)
        self._daemon.table.place(parsed, time.monotonic_ns())

    def _set_burst(self, document: Document) -> None:
        burst_ns = ns(messages.number(document, "burst_s", messages.LONGEST_BURST_S))
        self._daemon.table.set_burst(messages.text(document, "instance_id"), burst_ns, time.monotonic_ns())

    def _remove(self, document: Document) -> None:
        self._daemon.remove(messages.text(document, "instance_id"))

    def _windows(self, document: Document) -> list[Document]:
        entries = self._daemon.books.recent(int(messages.number(document, "last", _LARGEST_WINDOWS)))
        found: list[Document] = []
        size = 0
        for entry in reversed(entries):
            size += len(json.dumps(asdict(entry))) + 2
            if size > _LARGEST_REPLY - 100:
                break
            found.append(asdict(entry))
        return found[::-1]

    def _holds(self, document: Document) -> dict[str, list[tuple[int, int, bool]]]:
        """The last holds of each instance, as many as fit a message."""
        table = self._daemon.table
        members = [member for seat in table.seats.values() for member in seat.members]
        most = max(1, min(64, _HOLDS_IN_ALL // max(1, len(members))))
        found: dict[str, list[Hold]] = {name: [] for name in table.seats}
        for member in members:
            head = table.memory.page(member.index)
            found[member.seat.instance_id] += table.memory.holds(member.index, head, 0)[-most:] if head else []
        return {name: [(h.start_ns, h.end_ns, h.loan) for h in sorted(holds)] for name, holds in found.items()}

    def _status(self, document: Document) -> Document:
        table = self._daemon.table
        return {
            "pid": os.getpid(),
            "cpu_s": time.process_time(),
            "epoch_ns": table.epoch_ns,
            "window_s": seconds(table.window_ns),
            "device": asdict(table.device),
            "instances": {seat.instance_id: self._describe(table, seat) for seat in table.seats.values()},
            "ledger_problem": self._daemon.books.problem,
        }

    @staticmethod
    def _describe(table: Timetable, seat: Seat) -> Document:
        heads = [table.memory.page(member.index) for member in seat.members]
        used = [(head.mem_bytes, head.mem_peak_bytes) for head in heads if head is not None]
        who: Document = {
            "index": seat.members[0].index if seat.members else -1,
            "pid": seat.pid,
            "pids": [member.process.pid for member in seat.members],
            "fenced": seat.fenced,
            "burst_s": seconds(seat.burst_ns),
            "mem_bytes": sum(now for now, _ in used),
            "mem_peak_bytes": sum(peak for _, peak in used),
        }
        return who | messages.share_document(seat.share, seat.rect)
