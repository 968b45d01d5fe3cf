"""Random programs for the stand-in's device, and how to run them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, inf

from hypothesis import strategies as st
from tests.standin.plain_model import PlainDevice, PlainQueue

from fastgshare.sim.standin import NEVER_NS, StandinDevice, Work, WorkKind

START_NS = 1  # at 0 nothing can be seen to end


@dataclass(frozen=True, slots=True)
class Submit:
    """After gap_ns, append `work` to a queue."""

    gap_ns: int
    queue: int
    work: Work


@dataclass(frozen=True, slots=True)
class Follow:
    """After gap_ns, let a queue follow what `other` has been given until then, less `back` pieces."""

    gap_ns: int
    queue: int
    other: int
    back: int


@dataclass(frozen=True, slots=True)
class Program:
    """partitions: percent of the SMs of every process, each with two queues; groups: which it is of."""

    sms: int
    partitions: tuple[float, ...]
    turns: bool
    turn_loss: float
    steps: tuple[Submit | Follow, ...]
    groups: tuple[int, ...]


@st.composite
def works(draw: st.DrawFn) -> Work:
    """Kernels, large and small; copies; marks."""
    kind = draw(st.sampled_from([WorkKind.KERNEL] * 4 + [WorkKind.COPY, WorkKind.MARK]))
    blocks, per_sm = draw(st.sampled_from([1, 3, 20, 81, 160, 1000])), draw(st.sampled_from([1, 2, 7]))
    bandwidth, full_ns = draw(st.sampled_from([0, 100, 300, 1000])), draw(st.sampled_from([0, 1, 700, 5000, 33_333]))
    return Work(full_ns, blocks, per_sm, bandwidth, kind)


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """One to four processes, up to 40 steps."""
    partitions = draw(st.lists(st.sampled_from([1.0, 6.0, 12.5, 24.0, 60.0, 100.0]), min_size=1, max_size=4))
    queue = st.integers(0, 2 * len(partitions) - 1)
    gap = st.sampled_from([0, 0, 0, 1, 500, 7000])
    submits = st.builds(Submit, gap, queue, works())
    follows = st.builds(Follow, gap, queue, queue, st.integers(0, 3))
    steps = draw(st.lists(st.one_of(submits, submits, submits, follows), max_size=40))
    groups = tuple(draw(st.integers(1, 2)) for _ in partitions)
    sms, turns = draw(st.sampled_from([1, 8, 80, 132])), draw(st.booleans())
    return Program(sms, tuple(partitions), turns, draw(st.sampled_from([0.0, 0.1])), tuple(steps), groups)


class Run:
    """A program on the timeline. look: called with every step's time before it is taken."""

    def __init__(self, program: Program, look: Callable[[Run, int], None] = lambda run, now: None) -> None:
        self.device = StandinDevice(program.sms, turns=program.turns, turn_loss=program.turn_loss)
        self.processes = [
            self.device.join(i + 1, sm_partition=p, group=group)
            for i, (p, group) in enumerate(zip(program.partitions, program.groups, strict=True))
        ]
        self.queues = [self.device.open_queue(p) for p in self.processes for _ in range(2)]
        self.submitted = [0 for _ in self.queues]
        self.now_ns = START_NS
        for step in program.steps:
            self._take(step, look)
        self.end_ns = self._finish(look)

    def _take(self, step: Submit | Follow, look: Callable[[Run, int], None]) -> None:
        before, self.now_ns = self.now_ns, self.now_ns + step.gap_ns
        look(self, (before + self.now_ns) // 2)
        queue = self.queues[step.queue]
        if isinstance(step, Submit):
            self.submitted[step.queue] += 1
            assert self.device.submit(queue, step.work, self.now_ns) == self.submitted[step.queue]
        else:
            position = max(0, self.submitted[step.other] - step.back)
            assert self.device.follow(queue, self.queues[step.other], position, self.now_ns)

    def _finish(self, look: Callable[[Run, int], None]) -> int:
        now = self.now_ns
        while (then := self.device.next_end(now)) != NEVER_NS:
            look(self, (now + then) // 2)
            now = then
        return now

    def ends(self) -> list[list[int | None]]:
        """When every piece of every queue ended."""
        later = self.end_ns
        return [
            [self.device.ended(queue, i + 1, later) for i in range(count)]
            for queue, count in zip(self.queues, self.submitted, strict=True)
        ]


def run_plainly(program: Program) -> PlainDevice:
    """The same program in the plain model."""
    caps = [ceil(program.sms * p / 100) for p in program.partitions]
    queues = [PlainQueue(p) for p in range(len(caps)) for _ in range(2)]
    device = PlainDevice(program.sms, caps, queues, program.turns, program.turn_loss, program.groups)
    follows: list[list[tuple[int, int]]] = [[] for _ in queues]
    now = START_NS
    for step in program.steps:
        now += step.gap_ns
        device.run(now)
        if isinstance(step, Submit):
            queues[step.queue].pieces.append((step.work, follows[step.queue]))
            follows[step.queue] = []
        elif step.other != step.queue:
            follows[step.queue].append((step.other, max(0, len(queues[step.other].pieces) - step.back)))
    device.run(inf)
    return device
