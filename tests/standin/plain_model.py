"""The stand-in's model once more, as plainly as it can be said: what the timeline is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil, inf

from fastgshare.sim.standin import Work, WorkKind


@dataclass(slots=True)
class PlainQueue:
    """pieces: (work, positions of other queues that it follows). ends_ns: of those that are finished."""

    process: int
    pieces: list[tuple[Work, list[tuple[int, int]]]] = field(default_factory=list)
    ends_ns: list[int] = field(default_factory=list)
    left_ns: float = 0.0
    running: bool = False

    @property
    def work(self) -> Work:
        return self.pieces[len(self.ends_ns)][0]


@dataclass(slots=True)
class PlainDevice:
    """sms: of the device. caps: SMs that every process may use. turns, turn_loss: as StandinDevice has them.

    groups: of every process; "": all are of one.
    """

    sms: int
    caps: list[int]
    queues: list[PlainQueue]
    turns: bool = False
    turn_loss: float = 0.0
    groups: Sequence[int] = ()
    now_ns: float = 0
    sm_ns: float = 0.0

    def run(self, until_ns: float) -> None:
        """Let time pass."""
        self._start()
        while True:
            rates = self._rates()
            ends = {q: round(self.now_ns + queue.left_ns / rates[q]) for q, queue in self._running()}
            then = min([until_ns, *ends.values()])
            if then == inf:
                return
            self._pass(then, rates)
            over = [q for q, end in ends.items() if end == then]
            for q in over:
                self.queues[q].running = False
                self.queues[q].ends_ns.append(int(then))
            if not over:
                return
            self._start()

    def _pass(self, then: float, rates: dict[int, float]) -> None:
        shares, turn = self._shares()
        for q, queue in self._running():
            queue.left_ns = max(0.0, queue.left_ns - (then - self.now_ns) * rates[q])
            self.sm_ns += (then - self.now_ns) * self._occupied(queue) * shares[queue.process] * turn
        self.now_ns = then

    def _running(self) -> list[tuple[int, PlainQueue]]:
        return [(q, queue) for q, queue in enumerate(self.queues) if queue.running]

    def _start(self) -> None:
        again = True
        while again:
            again = False
            for queue in self.queues:
                if queue.running or len(queue.ends_ns) == len(queue.pieces):
                    continue
                _, follows = queue.pieces[len(queue.ends_ns)]
                if any(len(self.queues[other].ends_ns) < position for other, position in follows):
                    continue
                again = True
                if queue.work.kind is WorkKind.MARK or queue.work.full_ns == 0:
                    queue.ends_ns.append(int(self.now_ns))
                else:
                    queue.running, queue.left_ns = True, queue.work.full_ns

    def _occupied(self, queue: PlainQueue) -> float:
        work = queue.work
        if work.kind is not WorkKind.KERNEL:
            return 0
        return min(self.caps[queue.process], ceil(work.blocks / work.blocks_per_sm))

    def _shares(self) -> tuple[list[float], float]:
        """What part of the SMs that they would occupy the processes get, and of the time."""
        wanted = [0.0 for _ in self.caps]
        for _, queue in self._running():
            wanted[queue.process] += self._occupied(queue)
        shares = [min(1, cap / w) if w else 0.0 for cap, w in zip(self.caps, wanted, strict=True)]
        totals: dict[int, float] = {}
        for process, (cap, w) in enumerate(zip(self.caps, wanted, strict=True)):
            if w:
                group = self._group(process)
                totals[group] = totals.get(group, 0.0) + min(cap, w)
        turn = (1 - self.turn_loss) / len(totals) if len(totals) > 1 else 1
        crowding = [min(1, self.sms / totals.get(self._group(p), self.sms)) for p in range(len(self.caps))]
        return [share * crowd for share, crowd in zip(shares, crowding, strict=True)], turn

    def _group(self, process: int) -> int:
        if self.turns:
            return process
        return self.groups[process] if self.groups else 0

    def _rates(self) -> dict[int, float]:
        """Nanoseconds of work that every running piece gets done in one."""
        shares, turn = self._shares()
        speeds, demands = {}, {}
        for q, queue in self._running():
            work = queue.work
            speeds[q] = 1.0
            if work.kind is WorkKind.KERNEL:
                full = ceil(work.blocks / work.blocks_per_sm / self.sms)
                speeds[q] = full / ceil(work.blocks / work.blocks_per_sm / self.caps[queue.process])
                speeds[q] *= shares[queue.process]
            demands[q] = speeds[q] * work.bandwidth / 1000
        rates = {}
        for q, queue in self._running():
            rates[q] = speeds[q] * (turn if queue.work.kind is WorkKind.KERNEL else 1)
            if demands[q]:
                rates[q] /= 1 + sum(
                    self._seen(queue, other, turn) * demands[o] for o, other in self._running() if o != q
                )
        return rates

    def _seen(self, queue: PlainQueue, other: PlainQueue, turn: float) -> float:
        """In what part of the time that `queue` runs `other` stands in its way."""
        if other.work.kind is not WorkKind.KERNEL:
            return 1
        if queue.work.kind is not WorkKind.KERNEL:
            return turn
        return 1 if self._group(queue.process) == self._group(other.process) else 0
