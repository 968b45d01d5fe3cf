"""The shapes of trials in files. Every field's description says what is allowed: it ends up in the error."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator

from fastgshare.domain.profiles import Outcome
from fastgshare.spec.numbers import number, whole


def _number(given: object) -> float:
    return float(number(given))


def _integer(given: object) -> int:
    """A whole number digit by digit, however large."""
    if isinstance(given, bool) or not isinstance(given, (int, str)):
        raise ValueError("a whole number")
    return int(given)


def _bytes(text: object) -> bytes:
    if not isinstance(text, str):
        raise ValueError("base64")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("base64") from None


Number = Annotated[float, BeforeValidator(_number)]
Whole = Annotated[int, BeforeValidator(whole)]
Integer = Annotated[int, BeforeValidator(_integer)]
Seconds = Annotated[Number, Field(ge=0)]
Fraction = Annotated[Number, Field(ge=0, le=1.5)]
Histogram = Annotated[bytes, PlainValidator(_bytes)]

SOURCES = ("trial", "production", "import")
_FRACTION = "a fraction, 0 to 1 (measured, at times a little above it); nothing where not known"
_LATENCY = "seconds, at least 0; nothing where it is not known"


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ConfigurationDocument(_Document):
    """A mapping with sm, quota and, if need be, batch."""

    sm: Number = Field(gt=0, le=100, description="percent of SMs, above 0 up to 100")
    quota: Number = Field(gt=0, le=1, description="fraction of every window, above 0 up to 1")
    batch: Whole = Field(1, ge=1, le=1024, description="whole number from 1 to 1024")


class FiguresDocument(_Document):
    """A mapping with rps and, if need be, other figures."""

    rps: Number = Field(ge=0, description="requests a second, at least 0")
    rps_error: Number = Field(0.0, ge=0, description="standard error of rps, at least 0")
    p50_s: Seconds | None = Field(None, description=_LATENCY)
    p95_s: Seconds | None = Field(None, description=_LATENCY)
    p99_s: Seconds | None = Field(None, description=_LATENCY)
    sm_utilisation: Fraction | None = Field(None, description=_FRACTION)
    sm_occupancy: Fraction | None = Field(None, description=_FRACTION)
    mem_bytes: Integer | None = Field(None, ge=0, le=2**60, description="bytes, at least 0; nothing where not known")
    received_quota: Fraction | None = Field(None, description=_FRACTION)


class TrialDocument(_Document):
    """A mapping with function, device_type, asked, given, outcome, figures and, if need be, other fields."""

    function: str = Field(min_length=1, description="name of a function")
    model_digest: str = Field("", description='SHA-256 of the model, or of the handler; "" where it is not known')
    device_type: str = Field(description="text")
    asked: ConfigurationDocument = Field(description="a mapping with sm, quota and, if need be, batch")
    given: ConfigurationDocument = Field(description="a mapping with sm, quota and, if need be, batch")
    outcome: Outcome = Field(description=", ".join(Outcome))
    figures: FiguresDocument | None = Field(None, description="a mapping with rps, or nothing")
    offered_rps: Number = Field(0.0, ge=0, description="requests a second, at least 0; 0: as many as it could take")
    within_s: Seconds = Field(0.0, description="seconds, at least 0; 0: no bound")
    seed: Integer = Field(0, ge=0, lt=2**63, description="whole number from 0 to 2^63 - 1")
    started_unix_s: Seconds = Field(0.0, description="seconds since 1970, at least 0")
    took_s: Seconds = Field(0.0, description="seconds, at least 0")
    reason: str = Field("", description="text")
    source: Literal["trial", "production", "import"] = Field("trial", description=", ".join(SOURCES))
    versions: dict[str, str] = Field({}, description="a mapping of names to text")
    histogram: Histogram = Field(b"", description="an HdrHistogram in base64, or nothing")


class FileDocument(_Document):
    """A mapping with format, version and trials."""

    format: Literal["fastgshare-profiles"] = Field(description="fastgshare-profiles")
    version: Literal[1] = Field(description="1")
    trials: list[TrialDocument] = Field(description="a list of trials")


class PublishedRow(_Document):
    """A row with gpuName, model, quota, sm and qps."""

    gpu_name: str = Field(alias="gpuName", min_length=1, description="name of a device type")
    model: str = Field(min_length=1, description="name of a model")
    quota: Number = Field(
        gt=0, le=100, description="above 0 up to 1, a fraction; or, where any in the file is above 1, percent up to 100"
    )
    sm: Number = Field(gt=0, le=100, description="percent of SMs, above 0 up to 100; or a fraction, where all are")
    qps: Number = Field(ge=0, description="requests a second, at least 0")
