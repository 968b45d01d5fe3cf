"""Servers: a web application on an address."""

from __future__ import annotations

import errno
import socket
from types import TracebackType
from typing import Final

from aiohttp import web

from fastgshare.domain.errors import InvalidValue

_BACKLOG: Final = 1024
_SHUTDOWN_S: Final = 1.0


class Server:
    """Serves an application on host and port while it is entered, or between `start` and `stop`.

    port: 0 takes a free one, to be read from `port` afterwards.
    """

    def __init__(self, app: web.Application, host: str, port: int) -> None:
        self.host = host
        self.port = port
        # Bodies pass as they are, and a caller that goes away cancels what it asked for.
        self._runner = web.AppRunner(
            app,
            access_log=None,
            auto_decompress=False,
            handler_cancellation=True,
            shutdown_timeout=_SHUTDOWN_S,
        )

    @property
    def url(self) -> str:
        """Where it answers."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    async def start(self) -> None:
        """Begin to answer. Raises `InvalidValue` if the address cannot be had; nothing is left then."""
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self.host, self.port, backlog=_BACKLOG).start()
        except (OSError, OverflowError) as error:
            await self._runner.cleanup()
            raise InvalidValue("listen", f"{self.host}:{self.port}", _allowed(error)) from None
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Answer what is here, refuse what comes, then end. Nothing happens if it does not run."""
        await self._runner.cleanup()

    async def __aenter__(self) -> Server:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


def _allowed(error: Exception) -> str:
    if isinstance(error, socket.gaierror):
        return "a host that is known"
    if isinstance(error, OverflowError):
        return "a port from 0 to 65535"
    match error.errno if isinstance(error, OSError) else None:
        case errno.EADDRINUSE:
            return "an address that is free; something listens there already"
        case errno.EADDRNOTAVAIL:
            return "an address of this machine"
        case errno.EACCES:
            return "a port that this user may listen on, 1024 or above"
    return f"an address that can be listened on ({error})"
