"""Invocations: ``/function/{name}[.namespace][/path]``, the way of a request through the gateway."""

from __future__ import annotations

import asyncio
import math
import time
import uuid
from itertools import count
from typing import Final

from aiohttp import hdrs, web

from fastgshare import __version__
from fastgshare.dispatch.outcomes import Refused
from fastgshare.domain.errors import InvalidValue, NotFound
from fastgshare.domain.functions import Function
from fastgshare.domain.ports import Clock
from fastgshare.domain.requests import Request
from fastgshare.gateway import headers
from fastgshare.gateway.answers import say, say_bad_reply, say_error, say_refused, say_unserved
from fastgshare.gateway.figures import FunctionFigures
from fastgshare.gateway.lanes import Lane, Served
from fastgshare.gateway.service import FunctionService

PREFIX: Final = "/function/"
METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD")
_ALLOWED: Final = frozenset(METHODS)
_MAX_TIMEOUT_MS: Final = 3_600_000
UPLOAD_S: Final = 60.0
_MAX_CALL_ID: Final = 128
_SERVER: Final = f"fastgshare/{__version__}"
_OK: Final = range(200, 300)
_CARRIED: Final = range(200, 600)


class Invocations:
    """Answers requests for functions. upload_s: how long a caller may take to send a body."""

    def __init__(self, service: FunctionService, clock: Clock, *, upload_s: float = UPLOAD_S) -> None:
        self._service = service
        self._clock = clock
        self._upload_s = upload_s
        # An id per call that cannot be guessed from another gateway's costs one random number per process.
        self._series = uuid.uuid4().hex[:20]
        self._number = count(1)

    async def handle(self, http: web.Request) -> web.Response:
        """Answer one request; the routes lead here."""
        name, path = split(http.rel_url.path)
        if http.method not in _ALLOWED:
            return say(
                405, f"method: {http.method!r} is not allowed; allowed: {', '.join(METHODS)}", Allow=", ".join(METHODS)
            )
        try:
            lane = self._lane(name)
        except NotFound as error:
            return say_error(error)
        figures = lane.figures
        figures.started += 1
        arrived_s = self._clock.now()
        response = await self._answer(http, lane, path, arrived_s)
        self._count(figures, lane.function, response.status, self._clock.now() - arrived_s)
        return response

    async def _answer(self, http: web.Request, lane: Lane, path: str, arrived_s: float) -> web.Response:
        function = lane.function
        try:
            timeout_s = read_timeout_s(http.headers.get(headers.TIMEOUT), function)
            body = await self._read(http)
        except InvalidValue as error:
            return say_error(error)
        except web.HTTPRequestEntityTooLarge:
            return say(413, f"the body is larger than the {http.client_max_size} bytes that are allowed")
        except TimeoutError:
            return say(408, f"the body did not arrive within {self._upload_s:g} seconds")
        call_id = self._call_id(http.headers.get(headers.CALL_ID))
        start_ns = time.time_ns()
        request = Request(
            self._service.next_id(),
            function.name,
            body,
            arrived_s,
            self._clock.now() + timeout_s,
            http.method,
            path,
            http.rel_url.raw_query_string,
            headers.to_function(http.headers, call_id=call_id, start_ns=start_ns, peer=http.remote or ""),
        )
        ending = await self._service.call(lane, request)
        if isinstance(ending, Served):
            response = _pass_on(http, function, ending)
        elif isinstance(ending, Refused):
            response = say_refused(function, ending)
        else:
            response = say_unserved(function, ending)
        answer_headers = response.headers
        answer_headers[headers.CALL_ID] = call_id
        answer_headers[headers.START_TIME] = str(start_ns)
        answer_headers[headers.SERVED_BY] = _SERVER
        answer_headers[headers.DURATION] = f"{self._clock.now() - arrived_s:.6f}"
        return response

    def _lane(self, name: str) -> Lane:
        try:
            return self._service.lane(name)
        except NotFound:
            plain, _, namespace = name.partition(".")
            if not namespace:
                raise
        lane = self._service.lane(plain)
        if lane.function.namespace != namespace:
            raise NotFound("function", name)
        return lane

    async def _read(self, http: web.Request) -> bytes:
        if not http.body_exists:
            return b""
        if http.content.is_eof():
            return await http.read()
        async with asyncio.timeout(self._upload_s):
            return await http.read()

    def _call_id(self, given: str | None) -> str:
        if given and len(given) <= _MAX_CALL_ID:
            return given
        return f"{self._series}{next(self._number):012x}"

    def _count(self, figures: FunctionFigures, function: Function, status: int, seconds: float) -> None:
        figures.finish(status, seconds)
        if function.slo is not None:
            if status in _OK and seconds <= function.slo.latency_s:
                figures.slo_met += 1
            else:
                figures.slo_missed += 1


def split(path: str) -> tuple[str, str]:
    """The function's name in a path that begins with ``/function/``, and what follows it with its slash."""
    end = path.find("/", len(PREFIX))
    return (path[len(PREFIX) :], "") if end < 0 else (path[len(PREFIX) : end], path[end:])


def read_timeout_s(text: str | None, function: Function) -> float:
    """Seconds that a request may take: what its header says in milliseconds, else the function's own.

    Raises `InvalidValue` naming the header.
    """
    if text is None:
        return function.timeout_s
    try:
        timeout_ms = float(text)
    except ValueError:
        timeout_ms = math.nan
    if not 0 < timeout_ms <= _MAX_TIMEOUT_MS:
        raise InvalidValue(f"header {headers.TIMEOUT}", text, f"above 0 up to {_MAX_TIMEOUT_MS} milliseconds")
    return timeout_ms / 1000


def _pass_on(http: web.Request, function: Function, served: Served) -> web.Response:
    """A function's reply as it is. Without a content type it has the request's, as OpenFaaS does it."""
    reply = served.reply
    try:
        if reply.status not in _CARRIED:
            raise InvalidValue("status", reply.status, "200 to 599")
        response = web.Response(status=reply.status, body=reply.body)
        headers.pass_on(reply.headers, response.headers)
    except InvalidValue as error:
        return say_bad_reply(function, error)
    if hdrs.CONTENT_TYPE not in response.headers:
        response.headers[hdrs.CONTENT_TYPE] = http.headers.get(hdrs.CONTENT_TYPE, "text/plain")
    response.headers[headers.INSTANCE] = served.instance_id
    return response
