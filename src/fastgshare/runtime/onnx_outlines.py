"""What ONNX files are made of, read from the file without the package that defines the format.

The format is protobuf; the numbers below are those of its fields in onnx.proto.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Final

from fastgshare.runtime.models import Outline

_GRAPH_OF_MODEL: Final = 7
_NODE, _INITIALIZER, _SPARSE_INITIALIZER = 1, 5, 15
_ATTRIBUTE: Final = 5
_TENSORS_OF_ATTRIBUTE: Final = (5, 10)
_GRAPHS_OF_ATTRIBUTE: Final = (6, 11)
_TENSORS_OF_SPARSE: Final = (1, 2)
_DIMS, _DATA_TYPE = 1, 2
_BITS: Final = {
    **dict.fromkeys((1, 6, 12), 32),
    **dict.fromkeys((2, 3, 9, 17, 18, 19, 20, 24), 8),
    **dict.fromkeys((4, 5, 10, 16), 16),
    **dict.fromkeys((7, 11, 13, 14), 64),
    15: 128,
    **dict.fromkeys((21, 22, 23), 4),
    **dict.fromkeys((25, 26), 2),
}
"""Data type of a tensor -> bits of a value; strings are not counted."""
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5

Field = tuple[int, "int | memoryview"]


def outline(path: Path) -> Outline:
    """Nodes of a network, those of its subgraphs once each, and the bytes of its weights, also of those in other files.

    Raises `ValueError` if the file is not protobuf.
    """
    with path.open("rb") as file:
        whole = memoryview(mmap(file.fileno(), 0, access=ACCESS_READ))  # weights are skipped, not read
    return sum((_graph(value) for number, value in _parts(whole) if number == _GRAPH_OF_MODEL), Outline(0, 0))


def _graph(data: memoryview) -> Outline:
    total = Outline(0, 0)
    for number, value in _fields(data):
        if isinstance(value, int):
            continue
        if number == _NODE:
            total += _node(value)
        elif number == _INITIALIZER:
            total += Outline(0, _tensor_bytes(value))
        elif number == _SPARSE_INITIALIZER:
            total += Outline(0, sum(_tensor_bytes(v) for n, v in _parts(value) if n in _TENSORS_OF_SPARSE))
    return total


def _node(data: memoryview) -> Outline:
    total = Outline(1, 0)
    for number, attribute in _parts(data):
        if number != _ATTRIBUTE:
            continue
        for inner, value in _parts(attribute):
            if inner in _GRAPHS_OF_ATTRIBUTE:
                total += _graph(value)
            elif inner in _TENSORS_OF_ATTRIBUTE:
                total += Outline(0, _tensor_bytes(value))
    return total


def _tensor_bytes(data: memoryview) -> int:
    dims: list[int] = []
    bits = 0
    for number, value in _fields(data):
        if number == _DIMS:
            dims += [value] if isinstance(value, int) else _packed(value)
        elif number == _DATA_TYPE and isinstance(value, int):
            bits = _BITS.get(value, 0)
    return math.ceil(math.prod(dims) * bits / 8)


def _parts(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """The fields that hold messages, bytes or text."""
    return ((number, value) for number, value in _fields(data) if isinstance(value, memoryview))


def _fields(data: memoryview) -> Iterator[Field]:
    """The fields of a message in order: their numbers and what they hold."""
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, position = _varint(data, position)
            yield number, value
            continue
        if kind == _LENGTH:
            size, position = _varint(data, position)
        elif kind in (_FIXED32, _FIXED64):
            size = 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"a field of kind {kind}")
        if position + size > len(data):
            raise ValueError("a field beyond the end")
        yield number, data[position : position + size]
        position += size


def _packed(data: memoryview) -> list[int]:
    values, position = [], 0
    while position < len(data):
        value, position = _varint(data, position)
        values.append(value)
    return values


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    """A number of seven bits a byte, and the position behind it."""
    value = shift = 0
    while position < len(data):
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise ValueError("a number that does not end")
