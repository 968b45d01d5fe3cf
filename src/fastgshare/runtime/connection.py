"""The socket to the cluster: one thread reads, one writes, so that neither waits for the other or for the work."""

from __future__ import annotations

import logging
import os
import socket
import threading
from queue import SimpleQueue
from typing import Final, NoReturn

from fastgshare.dispatch.frames import Batch, Decoder, Failed, Frame, Hello, Ready, Result, Stop, encode
from fastgshare.domain.errors import WireError

_READ_BYTES: Final = 2**18
_LOGGER: Final = logging.getLogger(__name__)


class Connection:
    """Frames from and to the cluster. When the other side goes, the process ends at once: nobody waits for it."""

    def __init__(self, peer: socket.socket) -> None:
        self._peer = peer
        self._inbox: SimpleQueue[Batch | None] = SimpleQueue()
        self._outbox: SimpleQueue[bytes | None] = SimpleQueue()
        self._decoder = Decoder()
        self._writer = threading.Thread(target=self._write, name="writer", daemon=True)

    def greet(self) -> Hello:
        """Wait for the first frame, then read and write in the background.

        Raises `WireError` if it is not HELLO.
        """
        frames: list[Frame] = []
        while not frames:
            frames = self._decoder.feed(self._receive())
        hello = frames[0]
        if not isinstance(hello, Hello):
            raise WireError(f"HELLO expected, {type(hello).__name__} received")
        self._take(frames[1:])
        threading.Thread(target=self._read, name="reader", daemon=True).start()
        self._writer.start()
        return hello

    def next_batch(self) -> Batch | None:
        """Wait for the next batch; None after STOP, when all that came before has been taken."""
        return self._inbox.get()

    def more(self) -> bool:
        """Whether a further batch waits."""
        return not self._inbox.empty()

    def send(self, frame: Ready | Failed | Result) -> None:
        """Send in the background. Raises `WireError` if the frame is too large."""
        self._outbox.put(encode(frame))

    def flush(self) -> None:
        """Return when all is sent; nothing can be sent afterwards."""
        self._outbox.put(None)
        self._writer.join()

    def _receive(self) -> bytes:
        try:
            data = self._peer.recv(_READ_BYTES)
        except OSError as error:
            _leave(f"the connection to the cluster broke: {error}")
        if not data:
            _leave("the cluster has gone")
        return data

    def _read(self) -> None:
        try:
            while True:
                self._take(self._decoder.feed(self._receive()))
        except WireError as error:
            _leave(f"the cluster does not follow the protocol: {error}")

    def _take(self, frames: list[Frame]) -> None:
        for frame in frames:
            match frame:
                case Batch():
                    self._inbox.put(frame)
                case Stop():
                    self._inbox.put(None)
                case _:
                    raise WireError(f"{type(frame).__name__} is not for an instance")

    def _write(self) -> None:
        while (data := self._outbox.get()) is not None:
            try:
                self._peer.sendall(data)
            except OSError as error:
                _leave(f"the cluster takes no more: {error}")


def _leave(reason: str) -> NoReturn:
    """End the process from whatever thread, without waiting for work that nobody wants any more."""
    _LOGGER.warning("%s; leaving", reason)
    os._exit(1)
