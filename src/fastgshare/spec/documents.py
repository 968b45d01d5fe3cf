"""The shapes of functions.yaml. Every field's description says what is allowed: it ends up in the error."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, PlainValidator

from fastgshare.domain.errors import InvalidValue
from fastgshare.domain.functions import DEFAULT_GROUP
from fastgshare.domain.units import parse_bytes
from fastgshare.spec.numbers import number, whole


def _mem_bytes(size: object) -> int:
    """Bytes of a size. Whole numbers are taken digit by digit: floats would round the large ones."""
    if isinstance(size, bool) or not isinstance(size, (int, str)):
        raise ValueError("a size")
    if isinstance(size, int) or size.strip().isdecimal():
        return whole(size)
    try:
        return parse_bytes("mem", size)
    except InvalidValue:
        raise ValueError("a size") from None


Number = Annotated[Decimal, PlainValidator(number)]
Whole = Annotated[int, PlainValidator(whole)]
MemBytes = Annotated[int, PlainValidator(_mem_bytes)]
_TEXTS = "a mapping of names to text; numbers and true or false in quotes"


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class ShareDocument(_Document):
    """A mapping with sm, request and, if need be, limit and mem."""

    sm: Number = Field(description="percent of the device's SMs (CPU: cores), above 0 up to 100")
    request: Number = Field(description="fraction of every window, above 0 up to 1")
    limit: Number | None = Field(None, description="fraction of every window, from request up to 1")
    mem: MemBytes = Field(0, description="a size in bytes such as 512Mi, 2GiB, 1.5G or 1048576; 0 for no cap")


class SloDocument(_Document):
    """A mapping with latency_ms and, if need be, percentile."""

    latency_ms: Number = Field(description="milliseconds, above 0")
    percentile: Number = Field(Decimal(99), description="percent of requests, above 0 and below 100")


class BatchDocument(_Document):
    """A mapping with max_size and max_wait_ms."""

    max_size: Whole = Field(1, description="whole number from 1 to 1024")
    max_wait_ms: Number = Field(Decimal(0), description="milliseconds, 0 to 10000")


class ReplicasDocument(_Document):
    """A mapping with min and max."""

    minimum: Whole = Field(1, alias="min", description="whole number from 0 to 1000")
    maximum: Whole | None = Field(None, alias="max", description="whole number, at least 1 and min, up to 1000")


class FunctionDocument(_Document):
    """A mapping with name, model or handler, share and, if need be, other fields."""

    name: str = Field(description="1 to 63 letters, digits, '-' and '_', no '-' or '_' at its ends")
    model: str | None = Field(None, description="path of a model file, or package:resource")
    handler: str | None = Field(None, description="path.py:attribute or module:attribute")
    namespace: str = Field("fastgshare-fn", description="text")
    share: ShareDocument = Field(description="a mapping with sm, request and, if need be, limit and mem")
    slo: SloDocument | None = Field(None, description="a mapping with latency_ms and, if need be, percentile")
    batch: BatchDocument = Field(
        default_factory=lambda: BatchDocument.model_validate({}), description="a mapping with max_size and max_wait_ms"
    )
    replicas: ReplicasDocument = Field(
        default_factory=lambda: ReplicasDocument.model_validate({}), description="a mapping with min and max"
    )
    queue_size: Whole = Field(256, description="whole number from 1 to 1000000")
    timeout_ms: Number = Field(Decimal(60000), description="milliseconds, above 0 up to 3600000")
    burst_ms: Number = Field(Decimal(0), description="milliseconds, 0 (measure it) up to 60000")
    trust_group: str = Field(
        DEFAULT_GROUP, description="1 to 63 letters, digits, '-' and '_', no '-' or '_' at its ends"
    )
    env: dict[str, str] = Field({}, description=_TEXTS)
    labels: dict[str, str] = Field({}, description=_TEXTS)
    annotations: dict[str, str] = Field({}, description=_TEXTS)
    secrets: list[str] = Field([], description="a list of names")
    constraints: list[str] = Field([], description="a list of texts")


class FunctionsDocument(_Document):
    """A mapping with one field, functions."""

    functions: list[FunctionDocument] = Field(description="a list of functions")
