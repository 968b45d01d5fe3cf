"""Turns: an instance's time on the device, cut into bursts."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from fastgshare.runtime.bursts import Bursts, Kind, kind_of

_START = "start"


class Gate(Protocol):
    """The token gate, as a turn uses it. All lengths in seconds."""

    def acquire(self, burst_s: float) -> object:
        """Block until a burst of that length may start. Raises `InstanceFailed` if that will never be."""

    def checkpoint(self, burst_s: float) -> None:
        """Between two bursts: keep the token if the next may start now, else return it and wait, as `acquire` does."""

    def release(self, more: bool = False) -> None:
        """Return the token."""

    def report_burst(self, burst_s: float) -> None:
        """Say how long the longest burst is."""

    def close(self) -> None:
        """Leave the daemon."""


class Turn:
    """From taking the token to returning it. A burst reaches from one point where the token may go to the next.

    Without a gate (not shared, or still warming up) nothing waits, but bursts are measured all the same.
    Belongs to the thread that makes it.
    """

    def __init__(self, bursts: Bursts, clock: Callable[[], float]) -> None:
        self.bursts = bursts
        self._clock = clock
        self._gate: Gate | None = None
        self._thread = threading.get_ident()
        self._kind: Kind | None = None
        self._since_s = 0.0
        self._fresh = False
        self._held = False

    def attach(self, gate: Gate | None) -> None:
        """Wait at `gate` from now on."""
        self._gate = gate

    def begin(self, size: int) -> None:
        """Take the token for work on `size` requests."""
        kind = kind_of(_START, size)
        if self._gate is not None:
            self._gate.acquire(self.bursts.estimate(kind))
        self._start(kind, fresh=True)

    def next_request(self) -> None:
        """A request ends here, another begins: the token may go in between."""
        self._pass(kind_of(_START, 1), fresh=True)

    def next_run(self, ref: str, elements: int) -> None:
        """A model runs next: the token may go before, unless it has only just come.

        Raises `RuntimeError` in another thread than the turn's own.
        """
        if threading.get_ident() != self._thread:
            raise RuntimeError("Model.run belongs into the thread that constructed the handler")
        if self._kind is None:
            return
        if self._fresh:
            self._fresh = False
            return
        self._pass(kind_of(ref, elements), fresh=False)

    def end(self, *, more: bool) -> None:
        """Return the token. more: further work waits already."""
        self._finish()
        if self._gate is not None and self._held:
            self._held = False
            self._gate.release(more)

    def _pass(self, kind: Kind, *, fresh: bool) -> None:
        self._finish()
        if self._gate is not None:
            self._held = False  # nor is it, should the checkpoint fail
            self._gate.checkpoint(self.bursts.estimate(kind))
        self._start(kind, fresh=fresh)

    def _start(self, kind: Kind, *, fresh: bool) -> None:
        self._kind = kind
        self._fresh = fresh
        self._held = True
        self._since_s = self._clock()

    def _finish(self) -> None:
        if self._kind is None:
            return
        self.bursts.record(self._kind, self._clock() - self._since_s)
        self._kind = None
        if self._gate is not None and (longest_s := self.bursts.news()) is not None:
            self._gate.report_burst(longest_s)
