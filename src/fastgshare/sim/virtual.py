"""A device in virtual time: the real gate (C++), the real timetable and token policy, and a clock that jumps.

Instances are driven from one thread: what takes seconds on a device takes milliseconds here and is the same each time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from fastgshare.domain.devices import Device
from fastgshare.domain.rects import Rect
from fastgshare.domain.shares import Share
from fastgshare.domain.units import ns
from fastgshare.manager.members import Member
from fastgshare.manager.seats import Seat
from fastgshare.sim.daemons import ABSTRACT, VirtualDaemon

_IDLE_NS: Final = 2_000_000  # how often an instance without work looks for some


@dataclass(slots=True)
class VirtualInstance:
    """One process of an instance and its load. work: is there work then? burst_ns: how long the next unit takes.

    holds: [start_ns, end_ns, sm_lo, sm_hi] of every token held. look_ns: when it looks next whether it may work; no
    other look in the queue counts.
    """

    seat: Seat
    member: Member
    gate: int
    burst_ns: Callable[[], int]
    declared_ns: int
    work: Callable[[int], bool]
    holds: list[tuple[int, int, int, int]] = field(default_factory=list)
    look_ns: int | None = None
    requested_ns: int = 0
    holding_since_ns: int = 0
    working: bool = False
    dead: bool = False

    def held(self, start_ns: int, end_ns: int) -> int:
        """Nanoseconds held within [start_ns, end_ns), which may not lie in the future."""
        finished = sum(max(0, min(b, end_ns) - max(a, start_ns)) for a, b, _, _ in self.holds)
        return finished + (max(0, end_ns - max(start_ns, self.holding_since_ns)) if self.working else 0)


class VirtualDevice(VirtualDaemon):
    """Runs instances on one device until a time. Deterministic: equal inputs, equal holds."""

    def __init__(self, window_s: float = 0.04, *, device: Device = ABSTRACT, daemon_latency_s: float = 0.0001) -> None:
        super().__init__(window_s, device=device, daemon_latency_s=daemon_latency_s)
        self.instances: list[VirtualInstance] = []

    def add(
        self,
        share: Share,
        rect: Rect | None,
        *,
        burst_s: float = 0.0,
        burst_ns: Callable[[], int] | None = None,
        work: Callable[[int], bool] = lambda _: True,
        group: str = "",
    ) -> VirtualInstance:
        """Admit an instance of a trust group.

        burst_s: what it declares; burst_ns(): what its next unit takes (default: the same).
        """
        return self.add_member(self._admit(share, rect, ns(burst_s), group), burst_ns=burst_ns, work=work)

    def add_member(
        self, seat: Seat, *, burst_ns: Callable[[], int] | None = None, work: Callable[[int], bool] = lambda _: True
    ) -> VirtualInstance:
        """Let a (further) process of an instance onto the device, with a load of its own."""
        declared = seat.burst_ns
        member, gate = self._join(seat)
        instance = VirtualInstance(seat, member, gate, burst_ns or (lambda: declared), declared, work)
        self.instances.append(instance)
        self._look_at(instance, self.now_ns)
        return instance

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end_ns = self.now_ns + ns(seconds)
        while self._next_ns() <= end_ns:
            self._do_next()
        self._set_now(end_ns)

    def report_burst(self, instance: VirtualInstance, burst_s: float) -> None:
        """A process has measured how long its longest unit of work is."""
        self._lib.fg_report_burst(instance.gate, ns(burst_s))

    def kill(self, instance: VirtualInstance) -> None:
        """The process is gone, in the middle of whatever it did; the daemon hears of it. Its instance stays."""
        self._finish_hold(instance)
        instance.working, instance.dead = False, True
        self._at(self.now_ns + self._latency_ns, 1, lambda: self._bury(instance))

    # --- events ------------------------------------------------------------------------------------------------------

    def _bury(self, instance: VirtualInstance) -> None:
        self.table.leave(instance.member, self.now_ns)
        self.table.refit(self.now_ns)
        self._wake_all()

    def _wake_all(self) -> None:
        for instance in self.instances:
            if not instance.working and not instance.dead:
                self._look_at(instance, self.now_ns)

    def _look_at(self, instance: VirtualInstance, when_ns: int) -> None:
        """Have an instance look then, unless it looks earlier anyway."""
        if instance.look_ns is None or when_ns < instance.look_ns:
            instance.look_ns = when_ns
            self._at(when_ns, 2, lambda: self._step(instance, when_ns))

    def _step(self, instance: VirtualInstance, when_ns: int) -> None:
        """An instance looks whether it may work."""
        if instance.look_ns != when_ns:
            return  # another look has taken this one's place
        instance.look_ns = None
        if instance.working or instance.dead:
            return
        if not instance.requested_ns and not instance.work(self.now_ns):
            self._look_at(instance, self.now_ns + _IDLE_NS)
            return
        instance.requested_ns = instance.requested_ns or self.now_ns
        again_ns = self._try_acquire(instance.gate, instance.declared_ns, instance.requested_ns)
        if again_ns:
            self._look_at(instance, again_ns)
        else:
            instance.holding_since_ns = self.now_ns
            self._work(instance)
        if self._lib.fg_virtual_wakes():
            self._wake_all()

    def _work(self, instance: VirtualInstance) -> None:
        instance.working = True
        length = instance.burst_ns()
        end = self.now_ns + length if length else max(self.now_ns + 1, self._expiry(instance))
        self._at(end, 0, lambda: self._burst_ended(instance))

    def _expiry(self, instance: VirtualInstance) -> int:
        return int(self._lib.fg_expiry_ns(instance.gate))

    def _burst_ended(self, instance: VirtualInstance) -> None:
        if instance.dead:
            return
        more = instance.work(self.now_ns)
        if more and self._lib.fg_continue(instance.gate, instance.declared_ns) == 0:
            self._work(instance)
            return
        self._finish_hold(instance)
        instance.working = False
        instance.requested_ns = self.now_ns if more else 0
        self._lib.fg_release(instance.gate, int(more))
        self._wake_all()

    def _finish_hold(self, instance: VirtualInstance) -> None:
        head = self.memory.page(instance.member.index)
        if instance.working and head is not None:
            instance.holds.append((instance.holding_since_ns, self.now_ns, head.sm_lo, head.sm_hi))


def peak_sm(instances: Iterable[VirtualInstance]) -> int:
    """Largest sum of milli-percent held at once."""
    edges = sorted(
        edge
        for i in instances
        for start, end, lo, hi in i.holds
        if start < end
        for edge in ((start, hi - lo), (end, lo - hi))
    )
    total = peak = 0
    for _, change in edges:
        total += change
        peak = max(peak, total)
    return peak


def rows(sm: float, quotas: Sequence[float], *, sm_offset: float = 0.0) -> list[Rect]:
    """Rects one after the other in the window, on the same SMs."""
    offsets = [sum(quotas[:i]) for i in range(len(quotas))]
    return [Rect(sm_offset, offset, sm, quota) for offset, quota in zip(offsets, quotas, strict=True)]
