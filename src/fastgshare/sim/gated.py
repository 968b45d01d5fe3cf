"""Replays under our own tokens, in virtual time: the real timetable and gate, and what the hook does around them.

As the hook (native/hook/pace.cpp): a launch passes while the token is valid, if the work on the device and it will have
ended before the token does, and while there is not too much work on the device; a token goes back when its work has
ended, and when there has been none for a while. What a launch takes is what it took when it was seen last.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from fastgshare.domain.devices import Device
from fastgshare.domain.rects import Rect
from fastgshare.domain.shares import Share
from fastgshare.sim.daemons import VirtualDaemon
from fastgshare.sim.replays import EventKind, Stage
from fastgshare.sim.traces import Trace

DEPTH_NS: Final = 3_000_000
"""So much work may be left on the device of one stream before launches wait; as in the hook."""

IDLE_NS: Final = 500_000
"""A token goes back when there was no work for so long; as in the hook."""


@dataclass(slots=True)
class _Holder:
    """A replay and its gate. wanted_ns: how long the launch takes that it waits with; 0: it waits with none."""

    number: int
    share: Share
    gate: int
    held: bool = False
    wanted_ns: int = 0
    requested_ns: int = 0
    look_ns: int = 0
    closing: bool = False


class GatedReplays(VirtualDaemon):
    """One device with replays on shares of it, held to them by our tokens. Deterministic. Use as `Stage`, and close it.

    device: its SMs are those of the stage. peak_sm: largest sum of percent held at once, until work had ended.
    """

    def __init__(self, device: Device, window_s: float = 0.04) -> None:
        super().__init__(window_s, device=device)
        self.stage = Stage(device.sm_count)
        self.peak_sm = 0.0
        self._holders: list[_Holder] = []

    def add(self, trace: Trace, share: Share, rect: Rect, *, seed: int) -> int:
        """Admit an instance that plays a trace over and over; its number."""
        longest_ns = max(kernel.full_ns for kernel in trace.kernels)
        _, gate = self._join(self._admit(share, rect, longest_ns))
        number = self.stage.add(trace, share.sm_partition, seed=seed)
        self.stage.watch(number, IDLE_NS)
        self._holders.append(_Holder(number, share, gate))
        return number

    def run(self, seconds: float, done: Callable[[int], None] = lambda _: None) -> None:
        """Let time pass; `done` is told the time now and then."""
        end_ns = self.now_ns + round(seconds * 1e9)
        while self.now_ns < end_ns:
            event = self.stage.run(min(end_ns, self._next_ns()))
            self._set_now(event.at_ns)
            if event.kind is EventKind.WANTS:
                self._wants(self._holders[event.replay], event.burst_ns)
            elif event.kind is EventKind.IDLE:
                self._idle(self._holders[event.replay])
            self._settle()
            while self._next_ns() <= self.now_ns:
                self._do_next()
                self._settle()

    def _settle(self) -> None:
        """What an instance said may have concerned the daemon, or others."""
        self._hear()
        if self._lib.fg_virtual_wakes():
            self._wake_all()

    # --- one replay --------------------------------------------------------------------------------------------------

    def _wants(self, holder: _Holder, burst_ns: int) -> None:
        holder.wanted_ns = max(1, burst_ns)
        holder.requested_ns = self.now_ns
        if not holder.held:
            self._look_at(holder, self.now_ns)
        elif not self.stage.busy(holder.number):
            self._go_on_or_release(holder)

    def _idle(self, holder: _Holder) -> None:
        """Its work has ended: at its gate, or a while ago."""
        if holder.held:
            self._go_on_or_release(holder)

    def _go_on_or_release(self, holder: _Holder) -> None:
        wanted = holder.wanted_ns
        if (wanted or holder.closing) and self._lib.fg_continue(holder.gate, wanted) == 0:
            self._open(holder)
            return
        self._lib.fg_release(holder.gate, int(wanted != 0))
        holder.held = False
        self.stage.permit(holder.number, 0)
        if wanted:
            self._look_at(holder, self.now_ns)
        self._wake_all()

    def _open(self, holder: _Holder) -> None:
        holder.held, holder.closing, holder.wanted_ns = True, False, 0
        expiry_ns = int(self._lib.fg_expiry_ns(holder.gate))
        self.stage.watch(holder.number, IDLE_NS)
        self.stage.permit(holder.number, expiry_ns, depth_ns=DEPTH_NS)
        self._at(max(expiry_ns, self.now_ns + 1), 0, lambda: self._expire(holder, expiry_ns))
        held = sum(h.share.sm_partition for h in self._holders if h.held)
        self.peak_sm = max(self.peak_sm, held)

    def _expire(self, holder: _Holder, expiry_ns: int) -> None:
        """The token ends: it is returned when the work behind it has ended, or goes on if it may."""
        if not holder.held or int(self._lib.fg_expiry_ns(holder.gate)) != expiry_ns:
            return
        holder.closing = True
        if self.stage.busy(holder.number):
            self.stage.watch(holder.number, 0)
        else:
            self._go_on_or_release(holder)

    # --- looking for a token -----------------------------------------------------------------------------------------

    def _wake_all(self) -> None:
        for holder in self._holders:
            if holder.held and not self._lib.fg_valid(holder.gate):
                self._expire(holder, int(self._lib.fg_expiry_ns(holder.gate)))
            elif holder.wanted_ns and not holder.held:
                self._look_at(holder, self.now_ns)

    def _look_at(self, holder: _Holder, when_ns: int) -> None:
        """Have a replay that waits look then, unless it looks earlier anyway."""
        if not self.now_ns <= holder.look_ns <= when_ns:
            holder.look_ns = when_ns
            self._at(when_ns, 2, lambda: self._look_for_token(holder, when_ns))

    def _look_for_token(self, holder: _Holder, when_ns: int) -> None:
        if holder.look_ns != when_ns or holder.held or not holder.wanted_ns:
            return
        holder.look_ns = 0
        again_ns = self._try_acquire(holder.gate, holder.wanted_ns, holder.requested_ns)
        if again_ns:
            self._look_at(holder, again_ns)
        else:
            self._open(holder)

    def close(self) -> None:
        """Give the device's memory back."""
        self.stage.close()
