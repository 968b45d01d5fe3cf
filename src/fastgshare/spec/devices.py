"""Devices as people name them: ``cpu``, ``cuda:0``, ``standin:sms=132,mem=80GiB``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fastgshare.domain.devices import DeviceKind
from fastgshare.domain.errors import InvalidValue
from fastgshare.domain.units import parse_bytes
from fastgshare.spec.numbers import whole

ALLOWED: Final = "cpu, cuda:N or standin[:sms=132,mem=80GiB]"
STANDIN_SMS: Final = 132
STANDIN_MEM_BYTES: Final = 80 * 2**30
_MOST_SMS: Final = 1024
_LEAST_MEM_BYTES: Final = 2**20
_MOST_MEM_BYTES: Final = 2**50


@dataclass(frozen=True, slots=True)
class DeviceRequest:
    """A device that somebody asks for; whether it is there is not known yet.

    index: which GPU, as CUDA counts those that this process may see. sms, mem_bytes: of the stand-in; else 0.
    """

    kind: DeviceKind
    index: int = 0
    sms: int = 0
    mem_bytes: int = 0

    def __str__(self) -> str:
        """As `parse_device` reads it."""
        if self.kind is DeviceKind.GPU:
            return f"cuda:{self.index}"
        if self.kind is DeviceKind.STANDIN:
            parts = [f"sms={self.sms}"] if self.sms != STANDIN_SMS else []
            parts += [f"mem={_size(self.mem_bytes)}"] if self.mem_bytes != STANDIN_MEM_BYTES else []
            return f"standin:{','.join(parts)}".removesuffix(":")
        return str(self.kind)


def parse_device(text: str) -> DeviceRequest:
    """A device by its name. Raises `InvalidValue` naming the part that is wrong."""
    name, colon, rest = text.strip().partition(":")
    if name == "cpu" and not colon:
        return DeviceRequest(DeviceKind.CPU)
    if name == "cuda" and (not colon or (rest.isascii() and rest.isdecimal())):
        return DeviceRequest(DeviceKind.GPU, int(rest or 0))
    if name == "standin" and (rest or not colon):
        return _standin(rest)
    raise InvalidValue("device", text, ALLOWED)


def _standin(text: str) -> DeviceRequest:
    sizes = {"sms": STANDIN_SMS, "mem": STANDIN_MEM_BYTES}
    given: set[str] = set()
    for part in text.split(",") if text else ():
        key, equals, value = part.partition("=")
        if key not in sizes or not equals or key in given:
            raise InvalidValue("device: part of standin", part, "sms=NUMBER and mem=SIZE, each once")
        sizes[key] = _sms(value) if key == "sms" else _mem_bytes(value)
        given.add(key)
    return DeviceRequest(DeviceKind.STANDIN, 0, sizes["sms"], sizes["mem"])


def _sms(text: str) -> int:
    try:
        sms = whole(text)
    except ValueError:
        sms = 0
    if not 1 <= sms <= _MOST_SMS:
        raise InvalidValue("device: sms", text, f"a whole number from 1 to {_MOST_SMS}")
    return sms


def _mem_bytes(text: str) -> int:
    mem_bytes = parse_bytes("device: mem", text)
    if not _LEAST_MEM_BYTES <= mem_bytes <= _MOST_MEM_BYTES:
        raise InvalidValue("device: mem", text, "a size from 1MiB to 1024TiB")
    return mem_bytes


def _size(count: int) -> str:
    """Bytes in the largest unit that loses nothing."""
    for unit, size in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count % size == 0:
            return f"{count // size}{unit}"
    return str(count)
