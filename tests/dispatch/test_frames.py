from __future__ import annotations

import contextlib
import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastgshare.dispatch.frames import Batch, Decoder, Failed, Frame, Hello, Ready, Result, Stop, encode
from fastgshare.domain.errors import WireError
from fastgshare.domain.requests import Reply, Request

finite = st.floats(allow_nan=False, allow_infinity=False)
ids = st.integers(0, 2**63)
headers = st.lists(st.tuples(st.text(), st.text()), max_size=4).map(tuple)
requests = st.builds(
    Request, ids, st.text(), st.binary(max_size=200), finite, finite, st.text(), st.text(), st.text(), headers
)
replies = st.builds(Reply, ids, st.integers(100, 599), st.binary(max_size=200), headers)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | finite | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
frames = st.one_of(
    st.builds(Hello, st.dictionaries(st.text(), json_values, max_size=4)),
    st.builds(Ready, finite, st.none() | st.binary(max_size=200)),
    st.builds(Failed, st.text()),
    st.builds(Batch, ids, st.lists(requests, max_size=4).map(tuple)),
    st.builds(Result, ids, st.lists(replies, max_size=4).map(tuple)),
    st.just(Stop()),
)
REQUEST = Request(7, "ocr", b"body", 1.5, 2.5, "POST", "/a", "b=c", (("X-A", "1"),))


@given(st.lists(frames, max_size=4))
def test_what_was_encoded_comes_back(sent: list[Frame]) -> None:
    assert Decoder().feed(b"".join(map(encode, sent))) == sent


@given(st.lists(frames, min_size=1, max_size=3), st.data())
def test_it_does_not_matter_where_the_bytes_are_cut(sent: list[Frame], data: st.DataObject) -> None:
    raw = b"".join(map(encode, sent))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=8)))
    decoder = Decoder()
    pieces = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    assert [frame for piece in pieces for frame in decoder.feed(piece)] == sent


@given(st.binary(max_size=300))
def test_garbage_never_raises_anything_but_a_wire_error(raw: bytes) -> None:
    with contextlib.suppress(WireError):
        Decoder().feed(raw)


@given(frames, st.data())
def test_a_damaged_frame_never_raises_anything_but_a_wire_error(frame: Frame, data: st.DataObject) -> None:
    raw = bytearray(encode(frame))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(WireError):
        Decoder(max_bytes=2**16).feed(bytes(raw))


@given(st.sampled_from(range(1, 7)), json_values)
def test_any_json_as_description_is_a_frame_or_a_wire_error(kind: int, value: object) -> None:
    meta = json.dumps(value).encode()
    with contextlib.suppress(WireError):
        Decoder().feed(struct.pack("!2sBBIQ", b"FG", 1, kind, len(meta), 0) + meta)


def test_a_broken_decoder_stays_broken() -> None:
    decoder = Decoder()
    with pytest.raises(WireError, match="not a frame"):
        decoder.feed(b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(WireError, match="not a frame"):
        decoder.feed(encode(Stop()))


def test_a_frame_beyond_the_bound_is_refused_before_it_arrives() -> None:
    head = encode(Batch(1, (REQUEST,)))[:16]
    with pytest.raises(WireError, match="larger than the 50 bytes allowed"):
        Decoder(max_bytes=50).feed(head)


def test_a_frame_beyond_the_bound_is_not_sent() -> None:
    with pytest.raises(WireError, match="larger than the 50 bytes allowed"):
        encode(Batch(1, (REQUEST,)), max_bytes=50)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_not_sent(number: float) -> None:
    with pytest.raises(WireError, match="Ready"):
        encode(Ready(number))


def test_what_json_cannot_carry_is_not_sent() -> None:
    with pytest.raises(WireError, match="Hello"):
        encode(Hello({"a": object()}))


def test_bodies_and_their_description_must_agree() -> None:
    raw = encode(Result(1, (Reply(1, 200, b"12345"),)))
    shorter = raw.replace(b",5]", b",4]")
    with pytest.raises(WireError, match="longer than described"):
        Decoder().feed(shorter)
    with pytest.raises(WireError, match="shorter than described"):
        Decoder().feed(raw.replace(b",5]", b",6]"))


def test_deeply_nested_json_is_a_wire_error() -> None:
    meta = b"[" * 200_000
    with pytest.raises(WireError, match="malformed"):
        Decoder().feed(struct.pack("!2sBBIQ", b"FG", 1, 2, len(meta), 0) + meta)


@pytest.mark.parametrize("description", [b"[NaN]", b"[Infinity]", b"[1e999]", b'["x"]', b"[]", b"[true]", b"\xff"])
def test_a_ready_frame_carries_one_finite_number(description: bytes) -> None:
    with pytest.raises(WireError, match="malformed"):
        Decoder().feed(struct.pack("!2sBBIQ", b"FG", 1, 2, len(description), 0) + description)
