"""Headers: what of them goes from the caller to a function, and back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from multidict import CIMultiDict, CIMultiDictProxy

from fastgshare.domain.errors import InvalidValue
from fastgshare.domain.requests import Headers

CALL_ID: Final = "X-Call-Id"
START_TIME: Final = "X-Start-Time"
SERVED_BY: Final = "X-Served-By"
DURATION: Final = "X-Duration-Seconds"
INSTANCE: Final = "X-Fastgshare-Instance"
INTERNAL: Final = "X-OpenFaaS-Internal"
TIMEOUT: Final = "X-Timeout-Ms"

_HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_NOT_TO_A_FUNCTION: Final = _HOP_BY_HOP | {"host", "x-call-id", "x-start-time", "x-forwarded-for", "x-forwarded-host"}
_NOT_FROM_A_FUNCTION: Final = _HOP_BY_HOP | {"date", "server", "x-call-id", "x-start-time", "x-served-by"}
_TOKEN: Final = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz")
_NO_VALUE: Final = frozenset("\r\n\0")


def to_function(headers: CIMultiDictProxy[str], *, call_id: str, start_ns: int, peer: str) -> Headers:
    """The caller's headers without those of the connection, with those that say where the call comes from."""
    dropped = _NOT_TO_A_FUNCTION
    if "Connection" in headers:
        dropped = dropped | {name.strip().lower() for name in headers["Connection"].split(",")}
    kept = [(name, value) for name, value in headers.items() if name.lower() not in dropped]
    came_by = headers.get("X-Forwarded-For")
    kept.append((CALL_ID, call_id))
    kept.append((START_TIME, str(start_ns)))
    kept.append(("X-Forwarded-For", f"{came_by}, {peer}" if came_by else peer))
    kept.append(("X-Forwarded-Host", headers.get("X-Forwarded-Host", "") or headers.get("Host", "")))
    return tuple(kept)


def pass_on(headers: Iterable[tuple[str, str]], response: CIMultiDict[str]) -> None:
    """Add a reply's headers to those of a response, without those that belong to the connection.

    Raises `InvalidValue` for what HTTP forbids.
    """
    for name, value in headers:
        lower = name.lower()
        if lower in _NOT_FROM_A_FUNCTION:
            continue
        if not lower or not _TOKEN.issuperset(lower):
            raise InvalidValue("header", name, "letters, digits and !#$%&'*+-.^_`|~ in its name")
        if not _NO_VALUE.isdisjoint(value):
            raise InvalidValue(f"header {name}", value, "text without line ends")
        response.add(name, value)
