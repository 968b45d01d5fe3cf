"""Answers: what the gateway says where no function speaks; one line of plain text."""

from __future__ import annotations

import math
from typing import Final

from aiohttp import web

from fastgshare.dispatch.outcomes import Outcome, Refusal, Refused
from fastgshare.domain.errors import (
    DaemonUnavailable,
    FastGShareError,
    InstanceFailed,
    InvalidValue,
    NoPlacement,
    NotFound,
)
from fastgshare.domain.functions import Function
from fastgshare.gateway.headers import INTERNAL

_MAX_RETRY_S: Final = 60
_STATUSES: Final[tuple[tuple[type[FastGShareError], int], ...]] = (
    (InvalidValue, 400),
    (NotFound, 404),
    (NoPlacement, 409),
    (InstanceFailed, 422),
    (DaemonUnavailable, 503),
)


def say(status: int, text: str, **headers: str) -> web.Response:
    """A line of text. headers: by their names with underscores for hyphens."""
    return web.Response(
        status=status, text=text + "\n", headers={name.replace("_", "-"): value for name, value in headers.items()}
    )


def say_error(error: FastGShareError) -> web.Response:
    """The status and the words of an error."""
    status = next((status for kind, status in _STATUSES if isinstance(error, kind)), 500)
    return say(status, " ".join(str(error).split()))


def say_refused(function: Function, refused: Refused) -> web.Response:
    """429 or 503, and when trying again makes sense, in whole seconds."""
    retry_after = str(min(_MAX_RETRY_S, max(1, math.ceil(refused.retry_after_s))))
    if refused.reason is Refusal.NO_INSTANCE:
        return _internal(503, f"function {function.name!r} has no instance", retry_after)
    if refused.reason is Refusal.HOPELESS:
        return _internal(429, f"function {function.name!r} cannot answer before the deadline", retry_after)
    waiting = f"function {function.name!r} has no room in its queue"
    return _internal(429, f"{waiting}; it holds {function.queue_size} requests", retry_after)


def say_unserved(function: Function, outcome: Outcome) -> web.Response:
    """502, 503 or 504, by how the request ended."""
    match outcome:
        case Outcome.LOST:
            text = f"function {function.name!r} lost the instance that worked on the request"
        case Outcome.EXPIRED:
            text = f"function {function.name!r} did not answer before the deadline"
        case Outcome.NO_INSTANCE:
            text = f"function {function.name!r} has no instance"
    return _internal(outcome.value, text)


def _internal(status: int, text: str, retry_after: str | None = None) -> web.Response:
    response = say(status, text)
    response.headers[INTERNAL] = "proxy"
    if retry_after is not None:
        response.headers["Retry-After"] = retry_after
    return response


def say_bad_reply(function: Function, error: FastGShareError) -> web.Response:
    """502 for a reply that cannot be passed on."""
    return _internal(502, f"function {function.name!r} replied with what HTTP cannot carry: {error}")
