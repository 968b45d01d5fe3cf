"""Kernel traces: what one request of a network does, on the host and on the device. Pure, but for reading its files.

A trace is text, so that its shape can be seen; ``native/probes/replay.cpp`` reads the same text. A line is one of:

- ``title TEXT``; ``spread FRACTION``: by how much host times vary from request to request, up and down;
- ``scale KEY=FACTOR ...``: what was fitted: ``device`` (kernel times), ``blocks``, ``bandwidth``, ``launch`` (gaps
  before launches) and ``host`` (host work);
- ``kernel NAME blocks=B per_sm=M us=T gap_us=G bandwidth=F``: B thread blocks, M of them on an SM at once, T
  microseconds when alone on the whole device, G of host time before each launch, a fraction F of the memory's bandwidth
  when alone on the whole device;
- a step of a request: ``NAME`` (a launch), ``host US`` (host work), ``sync`` (the host waits for the device), or
  ``repeat N`` ... ``end`` around steps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from importlib.resources import files
from pathlib import Path
from typing import Final

from fastgshare.domain.errors import InvalidValue, NotFound

SUFFIX: Final = ".trace"
MOST_STEPS: Final = 100_000
"""Of one request, repeats written out."""


class StepKind(IntEnum):
    """What a step does; as in native/standin/replays/replays.h."""

    HOST = 0
    LAUNCH = 1
    SYNC = 2


@dataclass(frozen=True, slots=True)
class Kernel:
    """One kernel. full_ns, bandwidth (0 to 1): alone on the whole device. gap_ns: host time before a launch."""

    name: str
    blocks: int
    blocks_per_sm: int
    full_ns: int
    gap_ns: int
    bandwidth: float


@dataclass(frozen=True, slots=True)
class Step:
    """One step; kernel: index of what is launched, -1 for none; host_ns: host time that the step takes first."""

    kind: StepKind
    host_ns: int = 0
    kernel: int = -1


@dataclass(frozen=True, slots=True)
class Scales:
    """Factors on what a trace says: the few numbers of it that are fitted."""

    device: float = 1.0
    blocks: float = 1.0
    bandwidth: float = 1.0
    launch: float = 1.0
    host: float = 1.0


@dataclass(frozen=True, slots=True)
class Trace:
    """What one request does, scales applied. spread: of host times from request to request, as a fraction."""

    name: str
    title: str
    kernels: tuple[Kernel, ...]
    steps: tuple[Step, ...]
    spread: float
    scales: Scales

    @property
    def launches(self) -> int:
        """Kernels of one request."""
        return sum(step.kind is StepKind.LAUNCH for step in self.steps)

    @property
    def host_ns(self) -> int:
        """Host time of one request, waiting not included."""
        return sum(step.host_ns for step in self.steps)

    @property
    def device_ns(self) -> int:
        """Sum of its kernels' times, each alone on the whole device."""
        return sum(self.kernels[step.kernel].full_ns for step in self.steps if step.kind is StepKind.LAUNCH)


def names() -> list[str]:
    """The traces that are shipped."""
    return sorted(p.name.removesuffix(SUFFIX) for p in _folder().iterdir() if p.name.endswith(SUFFIX))


def shipped(name: str) -> Path:
    """File of a shipped trace. Raises `NotFound` naming those that there are."""
    if name not in names():
        raise NotFound("trace", f"{name} (shipped: {', '.join(names())})")
    return _folder() / (name + SUFFIX)


def load(name: str, scales: Scales | None = None) -> Trace:
    """A shipped trace by name, or one by the path of its file; scales: instead of its own.

    Raises `NotFound`, or `InvalidValue` naming line and field.
    """
    path = Path(name) if "/" in name or name.endswith(SUFFIX) else shipped(name)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise NotFound("trace", f"{path} ({error})") from None
    return parse(text, path.name.removesuffix(SUFFIX), scales)


def parse(text: str, name: str, scales: Scales | None = None) -> Trace:
    """A trace from its text. Raises `InvalidValue` naming line and field."""
    reader = _Reader()
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if words:
            reader.read(f"line {number}", words)
    return reader.finish(name, scales)


def _folder() -> Path:
    return Path(str(files("fastgshare.sim").joinpath("traces")))


class _Reader:
    """Gathers what the lines say. blocks: the steps outside, and of every repeat that is open."""

    def __init__(self) -> None:
        self._title = ""
        self._spread = 0.0
        self._scales = Scales()
        self._kernels: dict[str, Kernel] = {}
        self._blocks: list[list[Step]] = [[]]
        self._repeats: list[int] = []

    def read(self, where: str, words: Sequence[str]) -> None:
        match words:
            case ["title", *rest]:
                self._title = " ".join(rest)
            case ["spread", value]:
                self._spread = _number(where, "spread", value, below=1)
            case ["scale", *pairs]:
                self._scales = Scales(**{k: _number(where, k, v) for k, v in _pairs(where, pairs, _SCALES).items()})
            case ["kernel", kernel, *pairs]:
                self._add_kernel(where, kernel, _pairs(where, pairs, _KERNEL))
            case ["repeat", count]:
                self._repeats.append(_whole(where, "repeat", count))
                self._blocks.append([])
            case ["end"] if self._repeats:
                self._add(where, self._blocks.pop() * self._repeats.pop())
            case ["host", duration]:
                self._add(where, [Step(StepKind.HOST, _ns(where, "host", duration))])
            case ["sync"]:
                self._add(where, [Step(StepKind.SYNC)])
            case [kernel] if kernel in self._kernels:
                index = list(self._kernels).index(kernel)
                self._add(where, [Step(StepKind.LAUNCH, self._kernels[kernel].gap_ns, index)])
            case _:
                raise InvalidValue(where, " ".join(words), f"a line of a trace; kernels: {', '.join(self._kernels)}")

    def finish(self, name: str, scales: Scales | None) -> Trace:
        if self._repeats:
            raise InvalidValue(name, "repeat", "an end for every repeat")
        steps = self._blocks[0]
        if not any(step.kind is StepKind.LAUNCH for step in steps):
            raise InvalidValue(name, f"{len(steps)} steps", "at least one launch")
        if steps[-1].kind is StepKind.LAUNCH:
            steps.append(Step(StepKind.SYNC))  # a request is over when its work is
        used = scales or self._scales
        kernels = tuple(_scaled(kernel, used) for kernel in self._kernels.values())
        scaled = tuple(_scaled_step(step, used) for step in steps)
        return Trace(name, self._title, kernels, scaled, self._spread, used)

    def _add(self, where: str, steps: Sequence[Step]) -> None:
        block = self._blocks[-1]
        if len(block) + len(steps) > MOST_STEPS:
            raise InvalidValue(where, len(block) + len(steps), f"at most {MOST_STEPS} steps in a request")
        block.extend(steps)

    def _add_kernel(self, where: str, name: str, fields: Mapping[str, str]) -> None:
        missing = [key for key in ("blocks", "us") if key not in fields]
        if missing or name in _WORDS:
            raise InvalidValue(where, f"kernel {name}", f"blocks and us, and a name other than {', '.join(_WORDS)}")
        self._kernels[name] = Kernel(
            name,
            _whole(where, "blocks", fields["blocks"]),
            _whole(where, "per_sm", fields.get("per_sm", "1")),
            _ns(where, "us", fields["us"]),
            _ns(where, "gap_us", fields.get("gap_us", "0")),
            _number(where, "bandwidth", fields.get("bandwidth", "0"), below=1),
        )


_WORDS: Final = ("title", "spread", "scale", "kernel", "repeat", "end", "host", "sync")
_SCALES: Final = ("device", "blocks", "bandwidth", "launch", "host")
_KERNEL: Final = ("blocks", "per_sm", "us", "gap_us", "bandwidth")


def _pairs(where: str, words: Sequence[str], allowed: Sequence[str]) -> dict[str, str]:
    pairs = dict(_split(words))
    for key in pairs:
        if key not in allowed:
            raise InvalidValue(where, key, f"one of {', '.join(allowed)}")
    return pairs


def _split(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    for word in words:
        key, _, value = word.partition("=")
        yield key, value


def _number(where: str, field: str, text: str, *, below: float = 1e9) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= below:
        raise InvalidValue(f"{where}, {field}", text, f"a number from 0 to {below:g}")
    return value


def _whole(where: str, field: str, text: str) -> int:
    value = _number(where, field, text)
    if value < 1 or value != int(value):
        raise InvalidValue(f"{where}, {field}", text, "a whole number from 1")
    return int(value)


def _ns(where: str, field: str, text: str) -> int:
    return round(1000 * _number(where, field, text))


def _scaled(kernel: Kernel, by: Scales) -> Kernel:
    return replace(
        kernel,
        blocks=max(1, round(kernel.blocks * by.blocks)),
        full_ns=round(kernel.full_ns * by.device),
        gap_ns=round(kernel.gap_ns * by.launch),
        bandwidth=min(1.0, kernel.bandwidth * by.bandwidth),
    )


def _scaled_step(step: Step, by: Scales) -> Step:
    return replace(step, host_ns=round(step.host_ns * (by.launch if step.kind is StepKind.LAUNCH else by.host)))
