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
    except ValueError as error:
        raise WireError("neither a hello nor JSON") from error
    if not isinstance(document, dict) or not isinstance(document.get("op"), str):
        raise WireError("a command is a JSON object with an op")
    return document


def share_document(share: Share, rect: Rect | None) -> dict[str, object]:
    """A share and its rect as JSON."""
    rect_fields = [rect.sm_offset, rect.quota_offset, rect.sm, rect.quota] if rect else None
    share_fields = [share.sm_partition, share.quota_request, share.quota_limit, share.mem_bytes]
    return {"share": share_fields, "rect": rect_fields}


def parse_share(document: Mapping[str, object]) -> tuple[Share, Rect | None]:
    """Read what `share_document` wrote. Raises `InvalidValue`."""
    share = _numbers(document, "share")
    rect = _numbers(document, "rect") if document.get("rect") is not None else None
    return Share(share[0], share[1], share[2], int(share[3])), Rect(*rect) if rect else None


def _numbers(document: Mapping[str, object], field: str) -> list[float]:
    value = document.get(field)
    if not isinstance(value, list) or len(value) != 4 or not all(isinstance(x, int | float) for x in value):
        raise InvalidValue(field, value, "a list of four numbers")
    return value


def number(document: Mapping[str, object], field: str) -> float:
    """A number of a command. Raises `InvalidValue`."""
    value = document.get(field)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidValue(field, value, "a number")
    return value


def text(document: Mapping[str, object], field: str) -> str:
    """A string of a command. Raises `InvalidValue`."""
    value = document.get(field)
    if not isinstance(value, str) or not value:
        raise InvalidValue(field, value, "a string")
    return value
