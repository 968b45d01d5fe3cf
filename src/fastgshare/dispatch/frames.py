"""Frames between a cluster and an instance: a codec without I/O.

A frame is a header (magic, version, kind, length of the description, length of the bodies), a compact JSON
description and the raw bodies of its requests or replies, one behind the other. What arrives is checked once, here:
a `Decoder` yields well-typed frames or raises `WireError`.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, NoReturn, TypeVar

from fastgshare.domain.errors import WireError
from fastgshare.domain.requests import Headers, Reply, Request

MAX_FRAME_BYTES: Final = 256 * 2**20
"""Largest frame accepted and sent unless told otherwise: header, description and bodies together."""

_HEADER: Final = struct.Struct("!2sBBIQ")
_MAGIC: Final = b"FG"
_VERSION: Final = 1
_JSON: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Hello:
    """Cluster to instance, first: what the instance is and has; the document of the start contract."""

    document: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Ready:
    """Instance to cluster: it answers from now on; burst_s is its longest burst in seconds.

    sample: the body of a typical request, if HELLO asks for it and there is one.
    """

    burst_s: float
    sample: bytes | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """Instance to cluster: it cannot start; why, in one sentence."""

    reason: str


@dataclass(frozen=True, slots=True)
class Batch:
    """Cluster to instance: requests to work on as one."""

    batch_id: int
    requests: tuple[Request, ...]


@dataclass(frozen=True, slots=True)
class Result:
    """Instance to cluster: one reply per request of the batch, in order."""

    batch_id: int
    replies: tuple[Reply, ...]


@dataclass(frozen=True, slots=True)
class Stop:
    """Cluster to instance: finish what was received, then exit."""


Frame = Hello | Ready | Failed | Batch | Result | Stop


def encode(frame: Frame, *, max_bytes: int = MAX_FRAME_BYTES) -> bytes:
    """The bytes of a frame. Raises `WireError` if it is larger than `max_bytes` or JSON cannot carry it."""
    kind, description, bodies = _describe(frame)
    try:
        meta = _JSON.encode(description).encode("ascii")
    except (TypeError, ValueError, RecursionError) as error:
        raise WireError(f"a {type(frame).__name__} frame cannot be written as JSON: {error}") from error
    body_bytes = sum(map(len, bodies))
    _check_size(len(meta), body_bytes, max_bytes)
    return b"".join((_HEADER.pack(_MAGIC, _VERSION, kind, len(meta), body_bytes), meta, *bodies))


class Decoder:
    """Bytes, as they arrive, to frames. After a `WireError` the connection is lost: feeding on raises it again."""

    def __init__(self, *, max_bytes: int = MAX_FRAME_BYTES) -> None:
        self._buffer = bytearray()
        self._max_bytes = max_bytes
        self._broken: WireError | None = None

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes, in order. Raises `WireError` on garbage or on a frame too large.

        Frames completed by the same `data` before the garbage are lost with it.
        """
        if self._broken is not None:
            raise self._broken
        self._buffer += data
        try:
            return self._complete_frames()
        except WireError as error:
            self._broken = error
            self._buffer.clear()
            raise

    def _complete_frames(self) -> list[Frame]:
        frames: list[Frame] = []
        while len(self._buffer) >= _HEADER.size:
            kind, meta_bytes, body_bytes = self._header()
            end = _HEADER.size + meta_bytes + body_bytes
            if len(self._buffer) < end:
                break
            with memoryview(self._buffer) as view:
                split = _HEADER.size + meta_bytes
                frames.append(_parse(kind, bytes(view[_HEADER.size : split]), bytes(view[split:end])))
            del self._buffer[:end]
        return frames

    def _header(self) -> tuple[int, int, int]:
        magic, version, kind, meta_bytes, body_bytes = _HEADER.unpack_from(self._buffer)
        if magic != _MAGIC or version != _VERSION or kind not in _PARSERS:
            raise WireError(f"not a frame: magic {magic!r}, version {version}, kind {kind}")
        _check_size(meta_bytes, body_bytes, self._max_bytes)
        return kind, meta_bytes, body_bytes


def _check_size(meta_bytes: int, body_bytes: int, max_bytes: int) -> None:
    total = _HEADER.size + meta_bytes + body_bytes
    if total > max_bytes:
        raise WireError(f"a frame of {total} bytes is larger than the {max_bytes} bytes allowed")


def _describe(frame: Frame) -> tuple[int, object, tuple[bytes, ...]]:
    """Kind, description and bodies of a frame."""
    match frame:
        case Hello(document):
            return 1, dict(document), ()
        case Ready(burst_s, sample):
            return (2, [burst_s], ()) if sample is None else (2, [burst_s, len(sample)], (sample,))
        case Failed(reason):
            return 3, [reason], ()
        case Batch(batch_id, requests):
            return 4, [batch_id, [_request_row(r) for r in requests]], tuple(r.body for r in requests)
        case Result(batch_id, replies):
            rows = [[r.id, r.status, r.headers, len(r.body)] for r in replies]
            return 5, [batch_id, rows], tuple(r.body for r in replies)
        case Stop():
            return 6, [], ()


def _request_row(r: Request) -> list[object]:
    timing = [r.arrived_s, r.deadline_s]
    return [r.id, r.function_name, *timing, r.method, r.path, r.query, r.headers, len(r.body)]


def _parse(kind: int, meta: bytes, bodies: bytes) -> Frame:
    """One frame of its parts; raises `WireError`."""
    try:
        description = _FROM_JSON.decode(meta.decode("ascii"))
        return _PARSERS[kind](description, _Bodies(bodies))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise WireError(f"the description of a frame of kind {kind} is malformed: {error}") from error


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")


_FROM_JSON: Final = json.JSONDecoder(parse_constant=_no_constant)


class _Bodies:
    """Hands out the bodies of a frame in order; all must be taken."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._offset = 0

    def take(self, size: int) -> bytes:
        if not 0 <= size <= len(self._data) - self._offset:
            raise ValueError("the bodies are shorter than described")
        self._offset += size
        return self._data[self._offset - size : self._offset]

    def end(self) -> None:
        if self._offset != len(self._data):
            raise ValueError("the bodies are longer than described")


def _typed(value: object, expected: type[_T]) -> _T:
    if type(value) is not expected:
        raise TypeError(f"{expected.__name__} expected, {type(value).__name__} found")
    return value


def _number(value: object) -> float:
    if type(value) is not float and type(value) is not int:
        raise TypeError(f"number expected, {type(value).__name__} found")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value} is not a finite number")
    return number


def _items(value: object, count: int) -> list[object]:
    items: list[object] = _typed(value, list)
    if len(items) != count:
        raise ValueError(f"{count} values expected, {len(items)} found")
    return items


def _headers(value: object) -> Headers:
    pairs: Iterable[object] = _typed(value, list)
    return tuple((_typed(k, str), _typed(v, str)) for k, v in (_items(pair, 2) for pair in pairs))


def _hello(description: object, bodies: _Bodies) -> Frame:
    bodies.end()
    document: dict[str, object] = _typed(description, dict)
    return Hello(document)


def _ready(description: object, bodies: _Bodies) -> Frame:
    burst_s, *size = _typed(description, list) or [None]
    sample = bodies.take(_typed(_items(size, 1)[0], int)) if size else None
    bodies.end()
    return Ready(_number(burst_s), sample)


def _failed(description: object, bodies: _Bodies) -> Frame:
    bodies.end()
    return Failed(_typed(_items(description, 1)[0], str))


def _batch(description: object, bodies: _Bodies) -> Frame:
    batch_id, rows = _items(description, 2)
    requests = tuple(_request(row, bodies) for row in _typed(rows, list))
    bodies.end()
    return Batch(_typed(batch_id, int), requests)


def _request(row: object, bodies: _Bodies) -> Request:
    id_, function_name, arrived_s, deadline_s, method, path, query, headers, size = _items(row, 9)
    return Request(
        id=_typed(id_, int),
        function_name=_typed(function_name, str),
        body=bodies.take(_typed(size, int)),
        arrived_s=_number(arrived_s),
        deadline_s=_number(deadline_s),
        method=_typed(method, str),
        path=_typed(path, str),
        query=_typed(query, str),
        headers=_headers(headers),
    )


def _result(description: object, bodies: _Bodies) -> Frame:
    batch_id, rows = _items(description, 2)
    replies = tuple(_reply(row, bodies) for row in _typed(rows, list))
    bodies.end()
    return Result(_typed(batch_id, int), replies)


def _reply(row: object, bodies: _Bodies) -> Reply:
    id_, status, headers, size = _items(row, 4)
    return Reply(_typed(id_, int), _typed(status, int), bodies.take(_typed(size, int)), _headers(headers))


def _stop(description: object, bodies: _Bodies) -> Frame:
    bodies.end()
    _items(description, 0)
    return Stop()


_PARSERS: Final[Mapping[int, Callable[[object, _Bodies], Frame]]] = {
    1: _hello,
    2: _ready,
    3: _failed,
    4: _batch,
    5: _result,
    6: _stop,
}
