"""Peers: connections to the daemon's socket, and how much of it strangers may take."""

from __future__ import annotations

import resource
import select
import socket
import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fastgshare.manager import layout, messages

SILENT_NS: Final = 5_000_000_000
"""Who connects has to say something within this."""

_CREDENTIALS: Final = struct.Struct("iII")


@dataclass(frozen=True, slots=True)
class Message:
    """What a peer sent; b"" if it has closed its end. fds: descriptors that came along; the receiver closes them."""

    data: bytes
    fds: Sequence[int]


@dataclass(slots=True)
class Peer:
    """One connection. pid, uid: who opened it, by the kernel's word. since_ns: when; silent: it has said nothing."""

    socket: socket.socket
    pid: int
    uid: int
    since_ns: int
    silent: bool = True

    @property
    def fd(self) -> int:
        """Its descriptor."""
        return self.socket.fileno()

    def receive(self) -> Message | None:
        """Its next message; None if there is none yet."""
        try:
            data, fds, _, _ = socket.recv_fds(self.socket, messages.LARGEST_MESSAGE, layout.CELLS + 2)
        except BlockingIOError:
            return None
        except OSError:
            return Message(b"", [])
        self.silent = False
        return Message(data, fds)


class Peers:
    """All connections of a listening socket, in an epoll set."""

    def __init__(self, path: Path, epoll: select.epoll) -> None:
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(path))
        path.chmod(0o666)  # who may do what is decided by credentials, message by message
        self._listener.listen(128)
        self._listener.setblocking(False)
        self._epoll = epoll
        self._epoll.register(self._listener, select.EPOLLIN)
        self._peers: dict[int, Peer] = {}

    @property
    def listener_fd(self) -> int:
        """The listening socket's descriptor."""
        return self._listener.fileno()

    def get(self, fd: int) -> Peer | None:
        """The peer behind a descriptor."""
        return self._peers.get(fd)

    def accept(self, now_ns: int) -> list[Peer]:
        """Take all connections that wait; if there is no room, the oldest that has said nothing goes."""
        accepted = []
        while (peer := self._accept_one(now_ns)) is not None:
            accepted.append(peer)
        return accepted

    def _accept_one(self, now_ns: int) -> Peer | None:
        try:
            connection, _ = self._listener.accept()
        except BlockingIOError:
            return None
        except OSError:
            self._drop_silent(before_ns=now_ns, most=1)
            return None
        connection.setblocking(False)
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, uid, _ = _CREDENTIALS.unpack(credentials)
        peer = self._peers[connection.fileno()] = Peer(connection, pid, uid, now_ns)
        self._epoll.register(connection, select.EPOLLIN)
        return peer

    def close(self, peer: Peer) -> None:
        """End a connection."""
        if self._peers.pop(peer.fd, None) is not None:
            self._epoll.unregister(peer.fd)
            peer.socket.close()

    def sweep(self, now_ns: int) -> None:
        """End connections that have said nothing for too long."""
        self._drop_silent(before_ns=now_ns - SILENT_NS, most=len(self._peers))

    def _drop_silent(self, *, before_ns: int, most: int) -> None:
        silent = sorted(
            (p for p in self._peers.values() if p.silent and p.since_ns < before_ns), key=lambda p: p.since_ns
        )
        for peer in silent[:most]:
            self.close(peer)
