"""The link to an instance: frames over its socket."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
from collections.abc import Sequence
from typing import Any, cast

from fastgshare.dispatch.frames import Batch, Decoder, Failed, Frame, Hello, Ready, Result, Stop, encode
from fastgshare.domain.errors import InstanceFailed, InstanceLost, WireError
from fastgshare.domain.requests import Reply, Request


class Link(asyncio.Protocol):
    """Frames to and from one instance.

    ready: its longest burst in seconds once it is ready; `InstanceFailed` if it says that it cannot start.
    lost: done when the link has ended; holds why if the instance broke the protocol, else "".
    sample: the body of a typical request, if the instance was asked for it and has one.
    """

    def __init__(self, instance_id: str) -> None:
        loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[float] = loop.create_future()
        self.ready.add_done_callback(_look_at)
        self.lost: asyncio.Future[str] = loop.create_future()
        self.sample: bytes | None = None
        self._instance_id = instance_id
        self._decoder = Decoder()
        self._transport: asyncio.Transport | None = None
        self._batch_ids = itertools.count(1)
        self._batches: dict[int, _Pending] = {}
        self._blame = ""
        self._busy_s = loop.time()

    @classmethod
    async def open(cls, instance_id: str, peer: socket.socket) -> Link:
        """A link over a connected socket, which it owns from now on."""
        peer.setblocking(False)
        _, link = await asyncio.get_running_loop().connect_accepted_socket(lambda: cls(instance_id), peer)
        return link

    @property
    def idle_s(self) -> float:
        """For how long it has had no batch to answer; 0 while it has one."""
        return 0.0 if self._batches else asyncio.get_running_loop().time() - self._busy_s

    def greet(self, hello: Hello) -> None:
        """Say what the instance is."""
        self._write(encode(hello))

    def submit(self, requests: Sequence[Request]) -> asyncio.Future[Sequence[Reply]]:
        """Have a batch worked on. The replies, or `InstanceLost` if the link ends before they have come.

        Raises `InstanceLost` if it has ended already. A batch too large for a frame is answered with status 413.
        """
        if self.lost.done() or self._transport is None or self._transport.is_closing():
            raise InstanceLost(self._instance_id, "it has gone")
        batch_id = next(self._batch_ids)
        try:
            data = encode(Batch(batch_id, tuple(requests)))
        except WireError as error:
            return _too_large(requests, error)
        pending = _Pending(tuple(request.id for request in requests))
        self._batches[batch_id] = pending
        self._write(data)
        return pending.replies

    def refusal(self) -> str | None:
        """Why the instance says that it cannot start; None if it has not said so."""
        if not self.ready.done() or self.ready.cancelled():
            return None
        failure = self.ready.exception()
        return failure.reason if isinstance(failure, InstanceFailed) else None

    def stop(self) -> None:
        """Ask the instance to finish what it has received and to end."""
        self._write(encode(Stop()))

    def give_up(self, reason: str) -> None:
        """Fail whatever still waits for replies."""
        for pending in self._batches.values():
            if not pending.replies.done():
                pending.replies.set_exception(InstanceLost(self._instance_id, reason))
        self._batches.clear()

    def answer_first(self, status: int, text: str) -> None:
        """Answer the request that the instance is at work on, in its place; not a batch: any of it may be to blame."""
        for batch_id, pending in list(self._batches.items())[:1]:
            if len(pending.request_ids) == 1:
                pending.settle([Reply(pending.request_ids[0], status, f"{text}\n".encode())])
                del self._batches[batch_id]

    def close(self) -> None:
        """End the link."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Of asyncio."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Of asyncio. An instance that breaks the protocol loses its link."""
        try:
            for frame in self._decoder.feed(data):
                self._take(frame)
        except WireError as error:
            self._blame = f"it broke the protocol: {error}"
            self.close()

    def connection_lost(self, error: Exception | None) -> None:
        """Of asyncio."""
        self.lost.set_result(self._blame)
        if not self.ready.done():
            self.ready.cancel()

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def _take(self, frame: Frame) -> None:
        match frame:
            case Ready(burst_s, sample) if not self.ready.done():
                self.sample = sample
                self.ready.set_result(burst_s)
            case Failed(reason) if not self.ready.done():
                self.ready.set_exception(InstanceFailed(self._instance_id, reason))
            case Result(batch_id, replies) if batch_id in self._batches:
                self._batches[batch_id].settle(replies)
                del self._batches[batch_id]
                self._busy_s = asyncio.get_running_loop().time()
            case _:
                raise WireError(f"a {type(frame).__name__} frame was not expected now")


class _Pending:
    """A batch that an instance has and the replies that are to come."""

    def __init__(self, request_ids: tuple[int, ...]) -> None:
        self.replies: asyncio.Future[Sequence[Reply]] = asyncio.get_running_loop().create_future()
        self.replies.add_done_callback(_look_at)
        self.request_ids = request_ids

    def settle(self, replies: Sequence[Reply]) -> None:
        """Hand the replies to who waits, if anyone still does. Raises `WireError` if they are not those asked for."""
        if tuple(reply.id for reply in replies) != self.request_ids:
            raise WireError("the replies are not those of the batch")
        with contextlib.suppress(asyncio.InvalidStateError):
            self.replies.set_result(replies)


def _too_large(requests: Sequence[Request], error: WireError) -> asyncio.Future[Sequence[Reply]]:
    replies: asyncio.Future[Sequence[Reply]] = asyncio.get_running_loop().create_future()
    replies.set_result([Reply(request.id, 413, f"{error}\n".encode()) for request in requests])
    return replies


def _look_at(future: asyncio.Future[Any]) -> None:
    """A failure that nobody waits for any more is no news for asyncio's log."""
    if not future.cancelled():
        future.exception()
