"""Guards: what stands before the platform's own API: credentials, callers that are web pages, errors, figures."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import hdrs, web

from fastgshare.domain.errors import FastGShareError
from fastgshare.domain.ports import Clock
from fastgshare.gateway.answers import say, say_error
from fastgshare.gateway.figures import Figures
from fastgshare.gateway.invocations import METHODS

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class Guard:
    """Wraps handlers. credentials: user and password that callers must have; None lets everyone in.

    Without credentials, whatever changes something is refused to web pages (requests with an Origin): else any page
    that a person looks at could deploy code on that person's machine.
    """

    def __init__(self, figures: Figures, clock: Clock, credentials: tuple[str, str] | None) -> None:
        self._figures = figures
        self._clock = clock
        self._expected: bytes | None = None
        if credentials is not None:
            self._expected = b"Basic " + base64.b64encode(":".join(credentials).encode())

    def protect(self, path: str, handler: Handler, *, public: bool = False) -> Handler:
        """The handler behind this guard. path: its route, for the figures. public: no credentials asked for."""

        async def guarded(request: web.Request) -> web.StreamResponse:
            began_s = self._clock.now()
            status = 500
            try:
                response = self._refuse(request, public) or await handler(request)
                status = response.status
            except FastGShareError as error:
                response = say_error(error)
                status = response.status
            except web.HTTPException as error:
                status = error.status
                raise
            finally:
                method = request.method if request.method in METHODS else "other"
                self._figures.observe_system(status, method, path, self._clock.now() - began_s)
            return response

        return guarded

    def _refuse(self, request: web.Request, public: bool) -> web.Response | None:
        if self._expected is None:
            if hdrs.ORIGIN in request.headers and request.method not in _READING:
                return say(403, "header Origin: web pages may not change what is deployed here")
            return None
        given = request.headers.get(hdrs.AUTHORIZATION, "").encode("utf-8", "surrogateescape")
        if public or hmac.compare_digest(given, self._expected):
            return None
        return say(
            401, "header Authorization: user and password are needed", WWW_Authenticate='Basic realm="fastgshare"'
        )
