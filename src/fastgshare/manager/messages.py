"""Messages on the daemon's socket (SOCK_SEQPACKET, one message a packet).

Instances speak the binary form of native/gate/layout.h; whoever controls the daemon (same user) speaks JSON:
``{"op": ..., ...}`` and gets ``{"ok": true, ...}`` or ``{"ok": false, "error": ...}``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from fastgshare.domain.errors import InvalidValue, WireError
from fastgshare.domain.rects import Rect
from fastgshare.domain.shares import Share
from fastgshare.manager import layout

LARGEST_MESSAGE: Final = 131_072
KICK: Final = b"K"
BYE: Final = b"B"
LONGEST_NAME: Final = 111
LONGEST_BURST_S: Final = 60.0
LARGEST_PID: Final = 2**22
_LARGEST_NUMBER: Final = 2**62
_ROUNDING: Final = 1e-3


@dataclass(frozen=True, slots=True)
class Hello:
    """How an instance introduces itself."""

    kind: int
    index: int
    instance_id: str


def parse_hello(data: bytes) -> Hello:
    """Read an instance's first message. Raises `WireError`."""
    if len(data) != layout.HELLO.size:
        raise WireError(f"a hello has {layout.HELLO.size} bytes, not {len(data)}")
    magic, version, kind, index, _, name = layout.HELLO.unpack(data)
    if magic != layout.HELLO_MAGIC or version != layout.VERSION:
        raise WireError(f"a hello of version {layout.VERSION} is expected, not {magic:#x} version {version}")
    if kind not in (layout.REGISTER, layout.READOPT) or index >= layout.CELLS:
        raise WireError(f"kind {kind} with index {index} is not a hello")
    try:
        return Hello(kind, index, name.rstrip(b"\0").decode())
    except UnicodeDecodeError as error:
        raise WireError("the instance's id is not UTF-8") from error


def answer(status: int, index: int = 0, reason: str = "") -> bytes:
    """The daemon's answer to a hello."""
    return layout.ANSWER.pack(layout.HELLO_MAGIC, layout.VERSION, 0, status, index, reason.encode()[:111])


def parse_command(data: bytes) -> dict[str, object]:
    """Read a control message. Raises `WireError`."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise WireError("neither a hello nor JSON") from error
    if not isinstance(document, dict) or not isinstance(document.get("op"), str):
        raise WireError("a command is a JSON object with an op")
    return document


def admission(
    instance_id: str,
    pid: int,
    share: Share,
    rect: Rect | None,
    burst_s: float,
    *,
    declared: bool,
    root: int = 0,
    device_id: str = "",
    group: str = "",
    fatal_faults: bool = False,
) -> dict[str, object]:
    """The fields of an admission as JSON."""
    who: dict[str, object] = {"instance_id": instance_id, "pid": pid, "root": root, "device_id": device_id}
    who |= {"group": group, "fatal_faults": fatal_faults}
    return who | {"burst_s": burst_s, "declared": declared} | share_document(share, rect)


def share_document(share: Share, rect: Rect | None) -> dict[str, object]:
    """A share and its rect as JSON."""
    rect_fields = [rect.sm_offset, rect.quota_offset, rect.sm, rect.quota] if rect else None
    share_fields = [share.sm_partition, share.quota_request, share.quota_limit, share.mem_bytes]
    return {"share": share_fields, "rect": rect_fields}


def parse_share(document: object) -> tuple[Share, Rect | None]:
    """Read what `share_document` wrote. Raises `InvalidValue`; a rect lies within the device and its window."""
    if not isinstance(document, dict):
        raise InvalidValue("change", document, "an object with a share and a rect")
    sm, request, limit, mem = _four_numbers(document, "share")
    share = Share(sm, request, limit, int(mem))
    if document.get("rect") is None:
        return share, None
    rect = Rect(*_four_numbers(document, "rect"))
    inside = rect.sm_offset >= 0 and rect.sm_end <= 100 + _ROUNDING
    in_window = rect.quota_offset >= 0 and rect.quota_end <= 1 + _ROUNDING
    if not inside or not in_window or abs(rect.sm - share.sm_partition) > _ROUNDING:
        raise InvalidValue("rect", document["rect"], "a rect of the share's SMs within 100 percent and one window")
    return share, rect


def _four_numbers(document: Mapping[str, object], field: str) -> tuple[float, float, float, float]:
    value = document.get(field)
    if not isinstance(value, list) or len(value) != 4 or not all(_is_number(x) for x in value):
        raise InvalidValue(field, value, "a list of four numbers")
    return value[0], value[1], value[2], value[3]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _LARGEST_NUMBER


def number(document: Mapping[str, object], field: str, most: float) -> float:
    """A number of a command, from 0 to `most`. Raises `InvalidValue`."""
    value = document.get(field)
    if not _is_number(value) or not isinstance(value, int | float) or value > most:
        raise InvalidValue(field, value, f"a number from 0 to {most:g}")
    return value


def optional_text(document: Mapping[str, object], field: str) -> str:
    """A name in a command that may be left out: "" then. Raises `InvalidValue`."""
    return text(document, field) if document.get(field) else ""


def text(document: Mapping[str, object], field: str) -> str:
    """A name in a command. Raises `InvalidValue`."""
    value = document.get(field)
    if not isinstance(value, str) or not 1 <= len(value.encode()) <= LONGEST_NAME:
        raise InvalidValue(field, value, f"a text of 1 to {LONGEST_NAME} bytes")
    return value
