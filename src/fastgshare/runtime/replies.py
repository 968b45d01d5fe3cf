"""What handlers return or raise, to replies."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Final

from fastgshare.domain.requests import Headers, Reply
from fastgshare.runtime.handlers import BadRequest, Request, Response, Result

_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE: Final = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
_TEXT: Final = "text/plain; charset=utf-8"
_BINARY: Final = "application/octet-stream"


def reply(request: Request, result: Result) -> Reply:
    """The reply that a result stands for. Raises `TypeError` or `ValueError` if it stands for none."""
    match result:
        case Exception():
            return failure(request, result)
        case Response():
            return _of_response(request, result)
        case bytes() | bytearray() | memoryview():
            return _reply(request, 200, bytes(result), _BINARY)
        case str():
            return _reply(request, 200, result.encode(), _TEXT)
        case _:
            return _reply(request, 200, _json(result), "application/json")


def failure(request: Request, error: BaseException) -> Reply:
    """The reply to a request whose handler raised: 400 for `BadRequest`, else 500."""
    if isinstance(error, BadRequest):
        return problem(request, 400, str(error))
    return problem(request, 500, f"the handler failed: {describe(error)}")


def problem(request: Request, status: int, text: str) -> Reply:
    """A reply of one line that says what went wrong."""
    return _reply(request, status, (" ".join(text.split()) + "\n").encode(errors="replace"), _TEXT)


def describe(error: BaseException) -> str:
    """An exception's type and text, in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _of_response(request: Request, response: Response) -> Reply:
    if type(response.status) is not int or not 200 <= response.status <= 599:
        raise ValueError(f"status {response.status!r} is not an HTTP status from 200 to 599")
    body = response.body.encode() if isinstance(response.body, str) else bytes(response.body)
    default = _TEXT if isinstance(response.body, str) else _BINARY
    return _reply(request, response.status, body, response.content_type or default, _headers(response.headers))


def _headers(headers: Mapping[str, str]) -> Headers:
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            raise ValueError(f"header {name!r}: {value!r} cannot be sent in HTTP")
    return tuple(headers.items())


def _reply(request: Request, status: int, body: bytes, content_type: str, headers: Headers = ()) -> Reply:
    checked = _headers({"Content-Type": content_type})
    return Reply(request.id, status, body, checked + headers)


def _json(result: object) -> bytes:
    text = json.dumps(result, default=_plain, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode()


def _plain(value: object) -> object:
    """Arrays and numbers of numpy as JSON has them, mappings and sequences of other kinds too."""
    tolist = getattr(value, "tolist", None)
    if callable(tolist):
        return tolist()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
        return list(value)
    raise TypeError(f"a result of type {type(value).__name__} is neither bytes, text nor JSON")
