"""Lives: the states of one instance, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from fastgshare.domain.errors import FastGShareError
from fastgshare.domain.instances import Instance, InstanceState, InstanceStatus

_S = InstanceState
_NEXT: Final = {
    _S.STARTING: {_S.READY, _S.DRAINING, _S.FAILED},
    _S.READY: {_S.DRAINING, _S.FAILED},
    _S.DRAINING: {_S.GONE, _S.FAILED},
    _S.FAILED: {_S.GONE},
    _S.GONE: frozenset[InstanceState](),
}


class IllegalState(FastGShareError):
    """An instance cannot go from its state to that one."""


class Life:
    """An instance's status over time. Tells `announce` of every state it comes to."""

    def __init__(self, instance: Instance, announce: Callable[[InstanceStatus], None]) -> None:
        self.instance = instance
        self._announce = announce
        self._status = InstanceStatus(instance.id, instance.function.name, _S.STARTING, instance.placement)

    @property
    def status(self) -> InstanceStatus:
        """What is known now."""
        return self._status

    @property
    def state(self) -> InstanceState:
        """The state it is in."""
        return self._status.state

    def begin(self, pid: int) -> None:
        """Its process runs: the first news of it."""
        self._status = replace(self._status, pid=pid)
        self._announce(self._status)

    def go(
        self, state: InstanceState, *, burst_s: float | None = None, reason: str = "", blameless: bool = False
    ) -> None:
        """Come to another state. Raises `IllegalState`, changing nothing, if that cannot follow."""
        if state not in _NEXT[self.state]:
            raise IllegalState(f"instance {self._status.id} cannot go from {self.state} to {state}")
        known_s = self._status.burst_s if burst_s is None else burst_s
        pid = 0 if state in (_S.GONE, _S.FAILED) else self._status.pid
        self._status = replace(self._status, state=state, burst_s=known_s, reason=reason, pid=pid, blameless=blameless)
        self._announce(self._status)

    def move(self, instance: Instance) -> None:
        """It has another share or slot."""
        self.instance = instance
        self._status = replace(self._status, placement=instance.placement)
