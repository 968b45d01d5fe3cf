"""What a dispatcher answers and what it asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from fastgshare.domain.errors import FastGShareError
from fastgshare.domain.requests import Request


class IllegalTransition(FastGShareError):
    """A dispatcher was told something that cannot be; it has changed nothing."""


class Refusal(Enum):
    """Why a request is not accepted."""

    QUEUE_FULL = "queue_full"
    NO_INSTANCE = "no_instance"
    HOPELESS = "hopeless"


class Outcome(Enum):
    """How an accepted request ends without the reply of an instance; the value is its HTTP status."""

    LOST = 502
    NO_INSTANCE = 503
    EXPIRED = 504


@dataclass(frozen=True, slots=True)
class Accepted:
    """The request will be answered exactly once."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The request is not taken; `retry_after_s` is when trying again makes sense."""

    reason: Refusal
    retry_after_s: float


@dataclass(frozen=True, slots=True)
class Assignment:
    """Have an instance work on these requests, as one batch."""

    batch_id: int
    instance_id: str
    requests: tuple[Request, ...]


@dataclass(frozen=True, slots=True)
class Unserved:
    """Tell whoever made the request that it ended without an instance's reply."""

    request: Request
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Load:
    """What one instance has been given and has not answered yet."""

    batches: int
    requests: int
    draining: bool


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A dispatcher at one moment.

    waiting: requests in the queue. in_flight: requests with an instance whose answer is still wanted.
    completed_per_s: recent rate of completions, None if nothing is known yet. retried: retries so far.
    """

    waiting: int
    in_flight: int
    instances: Mapping[str, Load]
    instances_coming: bool
    completed_per_s: float | None
    retried: int
