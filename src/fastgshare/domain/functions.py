"""Functions: what a user deploys."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from fastgshare.domain.errors import InvalidValue
from fastgshare.domain.shares import Share

_NAME: Final = re.compile(r"[a-zA-Z0-9](?:[-a-zA-Z0-9_]{0,61}[a-zA-Z0-9])?")
DEFAULT_GROUP: Final = "default"
_EMPTY: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Slo:
    """A latency bound in seconds and the fraction of requests that must meet it."""

    latency_s: float
    fraction: float = 0.99

    def __post_init__(self) -> None:
        if not self.latency_s > 0:
            raise InvalidValue("slo.latency_s", self.latency_s, "above 0 seconds")
        if not 0 < self.fraction < 1:
            raise InvalidValue("slo.fraction", self.fraction, "above 0, below 1")


@dataclass(frozen=True, slots=True)
class Batching:
    """How many requests may be worked on as one, and how long the first may wait for company."""

    max_size: int = 1
    max_wait_s: float = 0.0

    def __post_init__(self) -> None:
        if not 1 <= self.max_size <= 1024:
            raise InvalidValue("batch.max_size", self.max_size, "1 to 1024")
        if not 0 <= self.max_wait_s <= 10:
            raise InvalidValue("batch.max_wait_s", self.max_wait_s, "0 to 10 seconds")


@dataclass(frozen=True, slots=True)
class Replicas:
    """Bounds for the number of instances."""

    minimum: int = 1
    maximum: int = 5

    def __post_init__(self) -> None:
        if not 0 <= self.minimum <= 1000:
            raise InvalidValue("replicas.min", self.minimum, "0 to 1000")
        if not max(1, self.minimum) <= self.maximum <= 1000:
            raise InvalidValue(
                "replicas.max", self.maximum, f"{max(1, self.minimum)} (replicas.min, at least 1) to 1000"
            )


@dataclass(frozen=True, slots=True)
class Function:
    """What a user deploys: a network, what comes before and after it, its share and its promise.

    model: path of a model file, or ``package:resource`` inside an installed package; None for a handler alone.
    handler: ``path.py:attribute`` or ``module:attribute``; None serves the model's tensors as they are.
    queue_size: requests that may wait; beyond it they are refused (429).
    timeout_s: deadline of a request that brings none.
    burst_s: longest unit of device work if known beforehand; 0: measured when an instance starts.
    trust_group: who it shares a fault with: where the work of one instance can break that of others, only those of its
    group; instances of different groups never use a GPU at the same time.
    env, labels, annotations, secrets, constraints: as OpenFaaS has them; unknown ones are kept and given back.

    Raises `InvalidValue` naming the field.
    """

    name: str
    share: Share
    model: str | None = None
    handler: str | None = None
    namespace: str = "fastgshare-fn"
    slo: Slo | None = None
    batch: Batching = Batching()
    replicas: Replicas = Replicas()
    queue_size: int = 256
    timeout_s: float = 60.0
    burst_s: float = 0.0
    trust_group: str = DEFAULT_GROUP
    env: Mapping[str, str] = field(default_factory=lambda: _EMPTY)
    labels: Mapping[str, str] = field(default_factory=lambda: _EMPTY)
    annotations: Mapping[str, str] = field(default_factory=lambda: _EMPTY)
    secrets: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise InvalidValue("name", self.name, "1 to 63 letters, digits, '-' and '_', no '-' or '_' at its ends")
        if not _NAME.fullmatch(self.trust_group):
            allowed = "1 to 63 letters, digits, '-' and '_', no '-' or '_' at its ends"
            raise InvalidValue("trust_group", self.trust_group, allowed)
        if self.model is None and self.handler is None:
            raise InvalidValue("model", None, "a model, a handler, or both")
        if not 1 <= self.queue_size <= 1_000_000:
            raise InvalidValue("queue_size", self.queue_size, "1 to 1000000")
        if not 0 < self.timeout_s <= 3600:
            raise InvalidValue("timeout_s", self.timeout_s, "above 0 up to 3600 seconds")
        if not 0 <= self.burst_s <= 60:
            raise InvalidValue("burst_s", self.burst_s, "0 (measure it) to 60 seconds")
