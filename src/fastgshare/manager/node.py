"""The node daemon as its owner sees it: a child process that is started, spoken to, and started again if it dies."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from fastgshare.domain.devices import Device
from fastgshare.domain.errors import DaemonUnavailable, FastGShareError
from fastgshare.domain.ledger import LedgerEntry
from fastgshare.domain.rects import Rect
from fastgshare.domain.shares import Share
from fastgshare.manager import messages
from fastgshare.manager.daemon import SOCKET_NAME
from fastgshare.manager.messages import LARGEST_MESSAGE, share_document
from fastgshare.manager.sites import MEMORY_FILES

START_TIMEOUT_S: Final = 15.0
ANSWER_TIMEOUT_S: Final = 5.0
RETRY_S: Final = 0.05
TAKE_OVER_S: Final = 5.0
HEALTHY_S: Final = 0.5
"""A daemon that has lived for so long is replaced at once; one that dies sooner, with growing patience."""

_logger: Final = logging.getLogger(__name__)


class NodeDaemon:
    """Starts and supervises the daemon of a node's devices; repeats all admissions to each successor."""

    def __init__(self, devices: Sequence[Device], directory: Path, *, window_s: float | None = None) -> None:
        self.devices = tuple(devices)
        self.socket_path = directory / SOCKET_NAME
        self.restarts = 0
        self._directory = directory
        self._fixed_window_s = window_s
        self._admissions: dict[str, dict[str, object]] = {}
        self._process: asyncio.subprocess.Process | None = None
        self._peer: socket.socket | None = None
        self._lock = asyncio.Lock()
        self._watcher: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        """Process id of the daemon that runs now; 0 between two."""
        return self._process.pid if self._process and self._process.returncode is None else 0

    async def start(self) -> None:
        """Start the daemon and wait until it answers. Raises `DaemonUnavailable`."""
        self._directory.mkdir(parents=True, exist_ok=True)
        self._remove_files()
        await self._spawn()
        self._watcher = asyncio.create_task(self._supervise(), name="node-daemon")

    async def stop(self) -> None:
        """End the daemon; nothing of it is left."""
        if self._watcher is not None:
            self._watcher.cancel()
            with suppress(asyncio.CancelledError):
                await self._watcher
            self._watcher = None
        self._disconnect()
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            try:
                await asyncio.wait_for(self._process.wait(), ANSWER_TIMEOUT_S)
            except TimeoutError:
                self._process.kill()
                await self._process.wait()
        self._remove_files()

    async def admit(
        self,
        instance_id: str,
        pid: int,
        share: Share,
        rect: Rect | None,
        burst_s: float = 0.0,
        *,
        declared: bool = False,
        root: int = 0,
        device_id: str = "",
        group: str = "",
        fatal_faults: bool = False,
    ) -> None:
        """Let a process in as an instance. rect None: no slot of its own (a set that was forced).

        declared: the burst is a promise, and who overruns it by more than a window is ended.
        root: a process whose descendants count as the instance's too, beside those of `pid` itself (0: none).
        device_id: where ("": on the first device). group: its trust group. fatal_faults: it is ended once its work on
        the device has failed for good.
        """
        admission = messages.admission(
            *(instance_id, pid, share, rect, burst_s),
            declared=declared,
            root=root,
            device_id=device_id,
            group=group,
            fatal_faults=fatal_faults,
        )
        await self._request({"op": "admit", **admission})
        self._admissions[instance_id] = admission

    async def place(self, changes: Mapping[str, tuple[Share, Rect | None]]) -> None:
        """Give instances other shares or rects. Takes effect at once. Raises `FastGShareError` for an unknown id."""
        documents = {name: share_document(share, rect) for name, (share, rect) in changes.items()}
        await self._request({"op": "place", "changes": documents})
        for name, document in documents.items():
            if name in self._admissions:
                self._admissions[name] |= document

    async def set_burst(self, instance_id: str, burst_s: float) -> None:
        """Tell how long an instance's longest burst is."""
        await self._request({"op": "set_burst", "instance_id": instance_id, "burst_s": burst_s})
        if instance_id in self._admissions:
            self._admissions[instance_id]["burst_s"] = burst_s

    async def remove(self, instance_id: str) -> None:
        """Take an instance off the device; unknown ids are ignored."""
        self._admissions.pop(instance_id, None)
        await self._request({"op": "remove", "instance_id": instance_id})

    async def verdict(self, instance_id: str) -> str:
        """Why the daemon ended an instance, in words; "" if it did not."""
        return str(await self._request({"op": "verdict", "instance_id": instance_id}))

    async def totals(self) -> Sequence[LedgerEntry]:
        """Per instance, the sums since it registered."""
        return [LedgerEntry(**entry) for entry in await self._request({"op": "totals"})]

    async def windows(self, last: int) -> Sequence[LedgerEntry]:
        """The ledger's last windows, oldest first (at most 400 entries)."""
        return [LedgerEntry(**entry) for entry in await self._request({"op": "windows", "last": last})]

    async def holds(self) -> Mapping[str, Sequence[tuple[float, float, bool]]]:
        """Per instance its last holds (at most 64): start and end in monotonic seconds, and whether it was a loan."""
        found = await self._request({"op": "holds"})
        return {name: [(a / 1e9, b / 1e9, loan) for a, b, loan in holds] for name, holds in found.items()}

    async def status(self) -> Mapping[str, Any]:
        """The daemon's pid and CPU time, its devices and its instances, by id; see `Visit.status`."""
        status: Mapping[str, Any] = await self._request({"op": "status"})
        return status

    async def window(self, device_id: str = "") -> tuple[int, float]:
        """When window 0 of a device ("": the first) began, in monotonic nanoseconds, and how long windows are, in s."""
        found = (await self.status())["devices"][device_id or self.devices[0].id]
        return int(found["epoch_ns"]), float(found["window_s"])

    # --- the process -------------------------------------------------------------------------------------------------

    async def _spawn(self) -> None:
        arguments = ["--directory", str(self._directory)]
        for device in self.devices:
            arguments += ["--device", json.dumps(asdict(device))]
        if self._fixed_window_s is not None:
            arguments += ["--window-s", str(self._fixed_window_s)]
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "fastgshare.manager.daemon", *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for its owner, who then stops it in order
        )
        assert self._process.stdout is not None
        try:
            line = await asyncio.wait_for(self._process.stdout.readline(), START_TIMEOUT_S)
        except TimeoutError:
            line = b""
        if b"ready" not in line:
            with suppress(ProcessLookupError):
                self._process.kill()
            raise DaemonUnavailable(f"the node daemon did not start in {self._directory}")

    async def _supervise(self) -> None:
        """Start a successor whenever the daemon dies, and tell it who was admitted. Goes on whatever happens."""
        loop = asyncio.get_running_loop()
        delay_s = RETRY_S
        while True:
            assert self._process is not None
            began_s = loop.time()
            status = await self._process.wait()
            self._disconnect()
            self.restarts += 1
            _logger.warning("the node daemon ended with status %d; instances follow their slots meanwhile", status)
            delay_s = RETRY_S if loop.time() - began_s > HEALTHY_S else min(1.0, 2 * delay_s)
            await asyncio.sleep(delay_s)
            try:
                await self._spawn()
                await self._repeat_admissions()
                _logger.warning("the node daemon was started again, as process %d", self.pid)
            except (FastGShareError, OSError) as error:
                _logger.error("the node daemon could not be started again: %s", error)

    async def _repeat_admissions(self) -> None:
        for admission in list(self._admissions.values()):
            try:
                await self._request({"op": "admit", **admission})
            except DaemonUnavailable:
                return  # it died again: its successor hears all of it
            except FastGShareError as error:
                _logger.warning("instance %s was not admitted again: %s", admission["instance_id"], error)

    def _remove_files(self) -> None:
        for left in (self.socket_path, *self._directory.glob(MEMORY_FILES)):
            left.unlink(missing_ok=True)

    # --- the socket --------------------------------------------------------------------------------------------------

    async def _request(self, document: Mapping[str, object]) -> Any:
        """Send a command and return its result. Waits while a new daemon takes over from its predecessor."""
        loop = asyncio.get_running_loop()
        give_up = loop.time() + TAKE_OVER_S
        while True:
            try:
                reply = await self._exchange(json.dumps(document).encode())
            except (OSError, TimeoutError, ValueError) as error:
                if loop.time() > give_up or self._watcher is None:
                    raise DaemonUnavailable(f"the node daemon does not answer: {error}") from error
                await asyncio.sleep(RETRY_S)
                continue
            if reply["ok"]:
                return reply["result"]
            if not reply.get("retry") or loop.time() > give_up:
                raise FastGShareError(f"node daemon: {reply['error']}")
            await asyncio.sleep(RETRY_S)

    async def _exchange(self, message: bytes) -> Any:
        """One command and its reply. Whoever gives up half-way leaves no reply behind for the next."""
        async with self._lock:
            try:
                async with asyncio.timeout(ANSWER_TIMEOUT_S):
                    return json.loads(await self._ask(message))
            except BaseException:
                self._disconnect()
                raise

    async def _ask(self, message: bytes) -> bytes:
        loop = asyncio.get_running_loop()
        if self._peer is None:
            self._peer = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self._peer.setblocking(False)
            await loop.sock_connect(self._peer, str(self.socket_path))
        await loop.sock_sendall(self._peer, message)
        data = await loop.sock_recv(self._peer, LARGEST_MESSAGE)
        if not data:
            raise ConnectionError("connection closed")
        return data

    def _disconnect(self) -> None:
        if self._peer is not None:
            self._peer.close()
            self._peer = None
