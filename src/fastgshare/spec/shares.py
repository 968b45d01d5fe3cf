"""Shares as people write them on a command line: ``sm=30,request=0.3,limit=0.8,mem=2GiB``."""

from __future__ import annotations

from typing import Final

from fastgshare.domain.devices import Device
from fastgshare.domain.errors import InvalidValue
from fastgshare.domain.shares import Share
from fastgshare.domain.units import parse_bytes
from fastgshare.spec.numbers import number, whole

EXAMPLE: Final = "sm=30,request=0.3,limit=0.8,mem=2GiB"
_ALLOWED: Final = {
    "sm": "percent of the device's SMs (CPU: cores), above 0 up to 100",
    "request": "fraction of every window, above 0 up to 1",
    "limit": "fraction of every window, from request up to 1",
    "mem": "a size in bytes such as 512Mi, 2GiB or 1048576; 0 for no cap",
}
_WORDS: Final = {"sm_partition": "sm", "quota_request": "request", "quota_limit": "limit", "mem_bytes": "mem"}


def parse_share(text: str) -> Share:
    """A share. limit is request unless given, mem is no cap.

    Raises `InvalidValue` naming the part, its value and what is allowed.
    """
    fields = _fields(text)
    for needed in ("sm", "request"):
        if needed not in fields:
            raise InvalidValue(f"{needed} of share {text}", None, f"{_ALLOWED[needed]}, as in {EXAMPLE}")
    return _share(text, {"limit": fields["request"], "mem": 0, **fields})


def change_share(share: Share, text: str) -> Share:
    """A share with the parts that `text` names changed. Raises `InvalidValue` as `parse_share` does."""
    before = (share.sm_partition, share.quota_request, share.quota_limit, share.mem_bytes)
    return _share(text, {**dict(zip(_ALLOWED, before, strict=True)), **_fields(text)})


def write_share(share: Share) -> str:
    """As `parse_share` reads it."""
    text = f"sm={share.sm_partition:g},request={share.quota_request:g},limit={share.quota_limit:g}"
    return f"{text},mem={share.mem_bytes}" if share.mem_bytes else text


def _fields(text: str) -> dict[str, float]:
    fields: dict[str, float] = {}
    for part in text.split(","):
        key, equals, value = (word.strip() for word in part.partition("="))
        if key not in _ALLOWED or not equals or key in fields:
            raise InvalidValue(f"part of share {text}", part, f"{', '.join(_ALLOWED)}, each once, as in {EXAMPLE}")
        fields[key] = _mem_bytes(text, value) if key == "mem" else _number(text, key, value)
    return fields


def _number(text: str, key: str, value: str) -> float:
    try:
        return float(number(value))
    except ValueError:
        raise InvalidValue(f"{key} of share {text}", value, _ALLOWED[key]) from None


def _mem_bytes(text: str, value: str) -> int:
    try:
        return whole(value) if value.isdecimal() else parse_bytes("mem", value)
    except (ValueError, InvalidValue):
        raise InvalidValue(f"mem of share {text}", value, _ALLOWED["mem"]) from None


def check_share(device: Device, share: Share) -> None:
    """Raise `InvalidValue`, in the words people write, for a share that a device does not have."""
    try:
        device.check(share)
    except InvalidValue as error:
        raise InvalidValue(_WORDS[error.field], error.value, error.allowed) from None


def _share(text: str, fields: dict[str, float]) -> Share:
    try:
        return Share(fields["sm"], fields["request"], fields["limit"], int(fields["mem"]))
    except InvalidValue as error:
        word = _WORDS[error.field]
        raise InvalidValue(f"{word} of share {text}", error.value, error.allowed.replace("quota_", "")) from None
