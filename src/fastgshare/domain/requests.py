"""Requests and replies as they travel from the gateway to an instance and back."""

from __future__ import annotations

from dataclasses import dataclass

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Request:
    """One call of a function.

    path: what follows the function's name in the URL, with its leading slash ("" if nothing does).
    arrived_s, deadline_s: on the clock of the process that made it (monotonic seconds).
    """

    id: int
    function_name: str
    body: bytes
    arrived_s: float
    deadline_s: float
    method: str = "POST"
    path: str = ""
    query: str = ""
    headers: Headers = ()


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to the request with the same id. status is an HTTP status."""

    id: int
    status: int
    body: bytes
    headers: Headers = ()
