"""Members: the instances of a local cluster, each a process that is spoken to over a link."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from fastgshare.cluster.berths import Berth
from fastgshare.cluster.links import Link
from fastgshare.cluster.lives import Life
from fastgshare.cluster.processes import Process
from fastgshare.domain.instances import Instance, InstanceState

GRACE_S: Final = 2.0
"""How long a process may take from its last word, or from SIGTERM, to its end."""
_SUSPECT_S: Final = 2.0
"""Longer than it takes until a fault is noticed: who had nothing to do for so long has no part in it."""


@dataclass(slots=True, eq=False)
class Member:
    """An instance that is here.

    verdict: why this cluster ended it, if it did; blameless: for what others did. ended: set when all is over.
    fault: the driver's error by which its work on the device failed for good; 0: none that is known.
    """

    life: Life
    process: Process
    link: Link
    berth: Berth
    ended: asyncio.Event
    verdict: str = ""
    blameless: bool = False
    fault: int = 0

    @property
    def instance(self) -> Instance:
        """What it is an instance of, and where."""
        return self.life.instance

    @property
    def is_suspect(self) -> bool:
        """Whether a fault that was noticed just now can be its own: it starts, or has had work just before."""
        return self.life.state is InstanceState.STARTING or self.link.idle_s <= _SUSPECT_S

    def is_of(self, berth: Berth, group: str) -> bool:
        """Whether it shares a fault with the others of that trust group on that device."""
        return self.berth is berth and self.instance.function.trust_group == group

    def condemn(self, verdict: str, *, blameless: bool = False) -> None:
        """End it at once, for the first reason there was."""
        if not self.verdict:
            self.verdict, self.blameless = verdict, blameless
        if not self.process.exited.done():  # else its number may be another's by now
            self.process.kill()

    async def ends_within(self, wait_s: float) -> bool:
        """Whether its process ends in that time."""
        await asyncio.wait((self.process.exited,), timeout=wait_s)
        return self.process.exited.done()

    async def insist(self, drain_s: float) -> None:
        """Wait for it to end, as it was asked to, then demand it, then end it."""
        for wait_s, demand in ((drain_s, self.process.terminate), (GRACE_S, self.process.kill)):
            if await self.ends_within(wait_s):
                return
            demand()

    async def readiness(self) -> float | None:
        """Its longest burst once it is ready, in seconds; None if its link ends or it refuses before."""
        ready = self.link.ready
        await asyncio.wait((ready, self.link.lost), return_when=asyncio.FIRST_COMPLETED)
        if ready.cancelled() or not ready.done() or ready.exception() is not None:
            return None
        return ready.result()
