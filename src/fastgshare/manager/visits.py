"""Visits: how a program speaks to a daemon that it did not start. Synchronous; one request at a time."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.errors import DaemonUnavailable, FastGShareError, NoPlacement
from fastgshare.domain.ledger import LedgerEntry
from fastgshare.domain.rects import Rect
from fastgshare.domain.shares import Share
from fastgshare.manager import messages

_TAKE_OVER_S: Final = 5.0
_RETRY_S: Final = 0.05


class Visit:
    """A connection to a node daemon. Every method raises `DaemonUnavailable` if it does not answer in time."""

    def __init__(self, socket_path: Path, *, timeout_s: float = 5.0) -> None:
        """Connect. Raises `DaemonUnavailable` if nobody listens there."""
        self._path = socket_path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(timeout_s)
        try:
            self._socket.connect(str(socket_path))
        except OSError as error:
            self._socket.close()
            raise DaemonUnavailable(f"no node daemon answers at {socket_path}: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection; who was admitted stays."""
        self._socket.close()

    def status(self) -> Mapping[str, Any]:
        """The daemon's pid and CPU time, its `devices` and `instances`, by id.

        Per device: its window (`window_s`, `epoch_ns`), `device` and `ledger_problem`. Per instance: `device_id`,
        `group`, `index`, `pid`, `pids`, `fenced`, `fault` (the driver's error by which its work failed for good, or 0),
        `share` and `rect` (see `messages.parse_share`), `burst_s`, and the device memory that it uses now and has used
        at most, `mem_bytes` and `mem_peak_bytes`.
        """
        status: Mapping[str, Any] = self._ask("status")
        return status

    def device(self) -> Device:
        """The device it keeps; the first, if they are several."""
        fields = next(iter(self.status()["devices"].values()))["device"]
        return Device(**{**fields, "kind": DeviceKind(fields["kind"]), "sm_ids": tuple(fields["sm_ids"])})

    def present(self) -> dict[str, tuple[Share, Rect | None]]:
        """Share and rect of every instance that is admitted."""
        return {name: messages.parse_share(seat) for name, seat in self.status()["instances"].items()}

    def admit(
        self,
        instance_id: str,
        pid: int,
        share: Share,
        rect: Rect | None,
        burst_s: float = 0.0,
        *,
        declared: bool = False,
        root: int = 0,
        group: str = "",
    ) -> None:
        """Let a process in as an instance, until it ends. rect None: no slot of its own (a set that was forced).

        group: its trust group. root: a process whose descendants count as the instance's too, beside those of `pid`
        itself (0: none).
        Raises `NoPlacement` if rect or memory do not fit beside those present: look again who is, and choose another.
        """
        admission = messages.admission(
            instance_id, pid, share, rect, burst_s, declared=declared, root=root, group=group
        )
        self._ask("admit", fits=True, **admission)

    def place(self, changes: Mapping[str, tuple[Share, Rect | None]]) -> None:
        """Give instances other shares or rects, at once: all or none. Raises `NoPlacement` like `admit`."""
        documents = {name: messages.share_document(share, rect) for name, (share, rect) in changes.items()}
        self._ask("place", fits=True, changes=documents)

    def set_burst(self, instance_id: str, burst_s: float) -> None:
        """Tell how long an instance's longest burst is."""
        self._ask("set_burst", instance_id=instance_id, burst_s=burst_s)

    def remove(self, instance_id: str) -> None:
        """Take an instance off the device; unknown ids are ignored."""
        self._ask("remove", instance_id=instance_id)

    def verdict(self, instance_id: str) -> str:
        """Why the daemon ended an instance, in words; "" if it did not."""
        return str(self._ask("verdict", instance_id=instance_id))

    def totals(self) -> Sequence[LedgerEntry]:
        """Per instance, the sums since it registered."""
        return [LedgerEntry(**entry) for entry in self._ask("totals")]

    def windows(self, last: int) -> Sequence[LedgerEntry]:
        """The ledger's last windows, oldest first (at most 400 entries)."""
        return [LedgerEntry(**entry) for entry in self._ask("windows", last=last)]

    def _ask(self, op: str, **fields: object) -> Any:
        """One command and its result. Waits while the daemon takes over from a predecessor."""
        give_up_s = time.monotonic() + _TAKE_OVER_S
        message = json.dumps({"op": op, **fields}).encode()
        while True:
            reply = self._exchange(message)
            if reply["ok"]:
                return reply["result"]
            if not reply.get("retry"):
                kind = NoPlacement if reply.get("kind") == NoPlacement.__name__ else FastGShareError
                raise kind(f"node daemon: {reply['error']}")
            if time.monotonic() > give_up_s:
                raise DaemonUnavailable(f"node daemon: {reply['error']}")
            time.sleep(_RETRY_S)

    def _exchange(self, message: bytes) -> Any:
        try:
            self._socket.sendall(message)
            data = self._socket.recv(messages.LARGEST_MESSAGE)
            if not data:
                raise ConnectionError("it has closed the connection")
            return json.loads(data)
        except (OSError, ValueError) as error:
            self._socket.close()
            raise DaemonUnavailable(f"the node daemon at {self._path} does not answer: {error}") from error
