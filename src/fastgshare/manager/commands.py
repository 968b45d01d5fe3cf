"""Commands: what whoever controls the daemon may ask of it, over the same socket."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Final, Protocol

from fastgshare.domain.errors import FastGShareError, InvalidValue, WireError
from fastgshare.domain.units import ns, seconds
from fastgshare.manager import messages
from fastgshare.manager.layout import Hold
from fastgshare.manager.peers import Peer
from fastgshare.manager.seats import Seat
from fastgshare.manager.sites import Site
from fastgshare.manager.timetable import Timetable

_LARGEST_REPLY: Final = messages.LARGEST_MESSAGE
_LARGEST_WINDOWS: Final = 10_000
_HOLDS_IN_ALL: Final = 2048

Document = dict[str, object]


class Controlled(Protocol):
    """The daemon, as its commands need it."""

    @property
    def sites(self) -> Sequence[Site]:
        """All devices."""

    @property
    def is_taking_over(self) -> bool:
        """Whether commands have to wait for the predecessor's memory."""

    def site(self, device_id: str) -> Site:
        """A device, "" for the first. Raises `InvalidValue`."""

    def site_of(self, instance_id: str) -> Site:
        """The device of an instance. Raises `NotFound`."""

    def admit(self, seat: Seat, device_id: str) -> None:
        """Let an instance in on a device."""

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
            "verdict": self._verdict,
            "totals": lambda _: [asdict(entry) for site in daemon.sites for entry in site.books.totals()],
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
        seat.group = messages.optional_text(document, "group")
        seat.fatal_faults = bool(document.get("fatal_faults"))
        device_id = messages.optional_text(document, "device_id")
        if document.get("fits"):
            change = {seat.instance_id: (share, rect)}
            self._daemon.site(device_id).table.check_fits(change, {seat.instance_id: seat.group})
        self._daemon.admit(seat, device_id)

    def _place(self, document: Document) -> None:
        changes = document.get("changes")
        if not isinstance(changes, dict):
            raise InvalidValue("changes", changes, "an object of instance ids")
        parsed = {name: messages.parse_share(change) for name, change in changes.items()}
        sites = {name: self._daemon.site_of(name) for name in parsed}
        by_site = {site: {n: parsed[n] for n, at in sites.items() if at is site} for site in set(sites.values())}
        for site, changed in by_site.items() if document.get("fits") else ():
            site.table.check_fits(changed)
        for site, changed in by_site.items():
            site.table.place(changed, time.monotonic_ns())

    def _set_burst(self, document: Document) -> None:
        burst_ns = ns(messages.number(document, "burst_s", messages.LONGEST_BURST_S))
        name = messages.text(document, "instance_id")
        self._daemon.site_of(name).table.set_burst(name, burst_ns, time.monotonic_ns())

    def _verdict(self, document: Document) -> str:
        name = messages.text(document, "instance_id")
        return next((verdict for site in self._daemon.sites if (verdict := site.table.verdict(name))), "")

    def _remove(self, document: Document) -> None:
        self._daemon.remove(messages.text(document, "instance_id"))

    def _windows(self, document: Document) -> list[Document]:
        last = int(messages.number(document, "last", _LARGEST_WINDOWS))
        kept = [entry for site in self._daemon.sites for entry in site.books.recent(last)]
        entries = sorted(kept, key=lambda entry: entry.window_start_s)
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
        tables = [site.table for site in self._daemon.sites]
        members = [(table, member) for table in tables for seat in table.seats.values() for member in seat.members]
        most = max(1, min(64, _HOLDS_IN_ALL // max(1, len(members))))
        found: dict[str, list[Hold]] = {name: [] for table in tables for name in table.seats}
        for table, member in members:
            head = table.memory.page(member.index)
            found[member.seat.instance_id] += table.memory.holds(member.index, head, 0)[-most:] if head else []
        return {name: [(h.start_ns, h.end_ns, h.loan) for h in sorted(holds)] for name, holds in found.items()}

    def _status(self, document: Document) -> Document:
        instances = {
            seat.instance_id: self._describe(site.table, seat)
            for site in self._daemon.sites
            for seat in site.table.seats.values()
        }
        devices = {site.device.id: self._describe_device(site) for site in self._daemon.sites}
        return {"pid": os.getpid(), "cpu_s": time.process_time(), "devices": devices, "instances": instances}

    @staticmethod
    def _describe_device(site: Site) -> Document:
        return {
            "device": asdict(site.device),
            "epoch_ns": site.table.epoch_ns,
            "window_s": seconds(site.table.window_ns),
            "ledger_problem": site.books.problem,
        }

    @staticmethod
    def _describe(table: Timetable, seat: Seat) -> Document:
        heads = [table.memory.page(member.index) for member in seat.members]
        used = [(head.mem_bytes, head.mem_peak_bytes) for head in heads if head is not None]
        who: Document = {
            "device_id": table.device.id,
            "group": seat.group,
            "fault": next((head.fault for head in heads if head is not None and head.fault), 0),
            "index": seat.members[0].index if seat.members else -1,
            "pid": seat.pid,
            "pids": [member.process.pid for member in seat.members],
            "fenced": seat.fenced,
            "burst_s": seconds(seat.burst_ns),
            "mem_bytes": sum(now for now, _ in used),
            "mem_peak_bytes": sum(peak for _, peak in used),
        }
        return who | messages.share_document(seat.share, seat.rect)
