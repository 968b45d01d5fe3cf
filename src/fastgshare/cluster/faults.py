"""Faults: work on a device that has failed for good, who shares that fate, and whom it says nothing about."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Final

from fastgshare.cluster.berths import Berth
from fastgshare.cluster.members import Member
from fastgshare.cluster.ports import Daemon
from fastgshare.cluster.quarantines import Quarantine
from fastgshare.domain.errors import DaemonUnavailable, InstanceLost
from fastgshare.manager.conduct import FAULT

FAILURE: Final = 500
"""Status of a request whose work failed."""
_NOTICED_S: Final = 0.1
"""How long a fault may take to be noticed, after the handler that has seen it."""
_UNKNOWN_ERROR: Final = 999
"""Of the driver: among others for whatever is asked of a device that is gone."""
_ERRORS_BY_OTHERS: Final = {719, 805, 806, 810, _UNKNOWN_ERROR}
"""What the driver says of work that failed with another's, or with the MPS server or the device."""


class Faults:
    """Ends the trust groups whose work has failed, and keeps them from a device until that takes them again.

    members: of the cluster, by instance. tasks: for what recovers.
    """

    def __init__(self, members: Mapping[str, Member], tasks: asyncio.TaskGroup) -> None:
        self._members = members
        self._quarantine = Quarantine(tasks)
        self._closed = False

    async def entry(self, berth: Berth, group: str) -> None:
        """Return once processes of a trust group can start on a device. Raises `PartitionerUnavailable`."""
        await self._quarantine.entry(berth, group)

    def holds(self, berth: Berth, group: str) -> bool:
        """Whether the work of a trust group on a device has failed, and it has not recovered yet."""
        return self._quarantine.holds(berth, group)

    def close(self) -> None:
        """Give up what recovers, and begin nothing any more."""
        self._closed = True
        self._quarantine.close()

    def fail(
        self, berth: Berth, group: str, reason: str, *, culprit: Member | None = None, may_be_lost: bool = False
    ) -> None:
        """The work of a trust group on a device has failed: end all of it, and recover.

        culprit: whose fault it is, if that is known. may_be_lost: whoever watches the device is given time to say that
        it is gone.
        """
        if berth.lost.is_set() or self._closed or self._quarantine.holds(berth, group):
            return
        members = [member for member in self._members.values() if member.is_of(berth, group)]
        verdict = f"the work of trust group {group} on device {berth.device.id} has failed: {reason}"
        suspects = [culprit] if culprit is not None else _suspects(members)
        for member in members:
            member.condemn(verdict, blameless=member not in suspects)
        self._quarantine.begin(berth, group, [member.ended for member in members], may_be_lost=may_be_lost)

    async def ask(self, member: Member, daemon: Daemon) -> str:
        """Why the daemon ended one, "" if it did not; a fault may be that of its whole group, which is ended then.

        Raises `DaemonUnavailable`.
        """
        verdict = await daemon.verdict(member.instance.id)
        member.fault = _fault_in(verdict)
        member.blameless = member.blameless and not is_its_own(member)
        if member.fault and not member.verdict:
            culprit = await self._culprit(member, daemon)
            if not member.verdict:  # else the end of another has said it meanwhile
                self._spread(member, verdict, culprit)
        return verdict

    async def _culprit(self, member: Member, daemon: Daemon) -> Member | None:
        """Whose fault has hit one, if the daemon knows already: its own, or that of another of its group."""
        group = member.instance.function.trust_group
        others = [other for other in self._members.values() if other is not member and other.is_of(member.berth, group)]
        for other in [member, *others]:
            with suppress(DaemonUnavailable):
                other.fault = other.fault or _fault_in(await daemon.verdict(other.instance.id))
            if is_its_own(other):
                return other
        return None

    def _spread(self, member: Member, verdict: str, culprit: Member | None) -> None:
        berth, group = member.berth, member.instance.function.trust_group
        if member.fault == _UNKNOWN_ERROR:
            self.fail(berth, group, verdict, may_be_lost=True)
        elif berth.spreads_faults:
            self.fail(berth, group, verdict, culprit=culprit)
        if berth.partitioner is not None and berth.spreads_faults:
            berth.partitioner.fail(group, verdict)


def _suspects(members: Iterable[Member]) -> list[Member]:
    """Those of a group of which a fault can be; all, if it can be nobody's."""
    return [member for member in members if member.is_suspect] or list(members)


def _fault_in(verdict: str) -> int:
    """The driver's error in a daemon's verdict on a fault; 0 if it is on something else."""
    number = verdict.partition(FAULT)[2].split()
    return int(number[0]) if number and number[0].isdecimal() else 0


def is_its_own(member: Member) -> bool:
    """Whether one's own work has failed, as far as the driver's error tells."""
    return member.fault != 0 and member.fault not in _ERRORS_BY_OTHERS


async def doubt(member: Member) -> None:
    """Raise `InstanceLost` if a failure that a handler has answered with is that of others, of whom it suffers."""
    if await member.ends_within(_NOTICED_S):
        await member.ended.wait()
        if not is_its_own(member):
            raise InstanceLost(member.instance.id, member.life.status.reason or "it has ended")
