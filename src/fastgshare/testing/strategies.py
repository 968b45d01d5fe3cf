"""Hypothesis strategies for devices, shares, rects, demands and functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from hypothesis import strategies as st

from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.functions import Batching, Function, Replicas
from fastgshare.domain.rects import Rect
from fastgshare.domain.shares import Share
from fastgshare.scheduler.packing import Demand

MILLE: Final = 1000
ABSTRACT: Final = Device("abstract", DeviceKind.ABSTRACT, 100)


def cpu(cores: int, mem_bytes: int = 0) -> Device:
    """A CPU device."""
    return Device("cpu", DeviceKind.CPU, cores, mem_bytes, tuple(range(cores)))


def gpu(sms: int = 132, mem_bytes: int = 0) -> Device:
    """A GPU."""
    return Device("gpu", DeviceKind.GPU, sms, mem_bytes)


def devices() -> st.SearchStrategy[Device]:
    """CPUs of 1 to 16 cores, GPUs, and the abstract device of 100 units."""
    return st.integers(1, 16).map(cpu) | st.sampled_from([80, 132]).map(gpu) | st.just(ABSTRACT)


def _percent(device: Device, sms: int) -> float:
    return sms * 100 / device.sm_steps


@st.composite
def shares(draw: st.DrawFn, device: Device = ABSTRACT) -> Share:
    """Shares on a device's grid, quotas in thousandths, without a memory cap."""
    request = draw(st.integers(1, MILLE // 4) | st.integers(1, MILLE))
    limit = draw(st.integers(request, MILLE))
    return Share(_percent(device, draw(st.integers(1, device.sm_steps))), request / MILLE, limit / MILLE)


@st.composite
def rects(draw: st.DrawFn, device: Device = ABSTRACT) -> Rect:
    """Rects on a device's grid, inside it, times in thousandths of a window."""
    left = draw(st.integers(0, device.sm_steps - 1))
    right = draw(st.integers(left + 1, device.sm_steps))
    start = draw(st.integers(0, MILLE - 1))
    end = draw(st.integers(start + 1, MILLE))
    return _rect(device, left, start, right, end)


def _rect(device: Device, left: int, start: int, right: int, end: int) -> Rect:
    return Rect(_percent(device, left), start / MILLE, _percent(device, right - left), (end - start) / MILLE)


def demands(device: Device = ABSTRACT, max_size: int = 12) -> st.SearchStrategy[list[Demand]]:
    """Lists of demands that may or may not fit; some have their SM range pinned."""
    pieces = st.lists(st.tuples(shares(device), st.booleans(), st.integers(0, device.sm_steps)), max_size=max_size)
    return pieces.map(lambda drawn: [_demand(device, i, *piece) for i, piece in enumerate(drawn)])


def _demand(device: Device, index: int, share: Share, pinned: bool, wish: int) -> Demand:
    room = device.sm_steps - round(share.sm_partition / device.sm_step)
    offset = _percent(device, min(wish, room)) if pinned else None
    return Demand(f"i-{index}", share.sm_partition, share.quota_request, offset)


@st.composite
def cut_rects(draw: st.DrawFn, device: Device = ABSTRACT, max_pieces: int = 8) -> Sequence[Rect]:
    """A whole device cut into rects by guillotine cuts, nothing left over."""
    pieces = [(0, 0, device.sm_steps, MILLE)]
    for _ in range(draw(st.integers(0, max_pieces - 1))):
        left, start, right, end = pieces.pop(draw(st.integers(0, len(pieces) - 1)))
        if draw(st.booleans()) and right - left > 1:
            cut = draw(st.integers(left + 1, right - 1))
            pieces += [(left, start, cut, end), (cut, start, right, end)]
        elif end - start > 1:
            cut = draw(st.integers(start + 1, end - 1))
            pieces += [(left, start, right, cut), (left, cut, right, end)]
        else:
            pieces.append((left, start, right, end))
    return [_rect(device, *piece) for piece in pieces]


@st.composite
def banded_rects(draw: st.DrawFn, device: Device = ABSTRACT) -> list[tuple[str, Rect]]:
    """Rects of two trust groups on a whole device: each group's share a part of the window that is its own."""
    cut = draw(st.integers(300, 700)) / MILLE
    bands = (("a", 0.0, cut), ("b", cut, 1 - cut))
    return [
        (group, Rect(rect.sm_offset, start + rect.quota_offset * length, rect.sm, rect.quota * length))
        for group, start, length in bands
        for rect in draw(cut_rects(device, max_pieces=4))
    ]


@st.composite
def functions(draw: st.DrawFn, device: Device = ABSTRACT, name: str | None = None) -> Function:
    """Functions with a share on a device's grid, and small bounds for their replicas."""
    minimum = draw(st.integers(0, 2))
    return Function(
        name or draw(st.from_regex(r"[a-z]([-a-z0-9]{0,8}[a-z0-9])?", fullmatch=True)),
        draw(shares(device)),
        model=draw(st.sampled_from(["a.onnx", "b.onnx"])),
        batch=Batching(draw(st.integers(1, 8))),
        replicas=Replicas(minimum, draw(st.integers(max(1, minimum), 3))),
        queue_size=draw(st.integers(1, 9)),
        env=draw(st.dictionaries(st.sampled_from(["A", "B"]), st.sampled_from(["1", "2"]), max_size=1)),
    )
