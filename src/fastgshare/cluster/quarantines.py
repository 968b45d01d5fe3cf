"""Quarantines: trust groups whose work on a device has failed, until the device takes processes of them again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from fastgshare.cluster.berths import Berth
from fastgshare.domain.errors import FastGShareError, PartitionerUnavailable

_WATCHED_S: Final = 2.5
"""By when whoever watches a device has noticed that it is gone."""
RETRY_S: Final = 5.0
"""How long to wait before a group that was not let in is tried again."""
_LOGGER: Final = logging.getLogger(__name__)


class Quarantine:
    """Keeps starts of a trust group waiting from a fault on until what divides the device's SMs has recovered."""

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self._tasks = tasks
        self._under_way: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._failed: set[tuple[str, str]] = set()

    def holds(self, berth: Berth, group: str) -> bool:
        """Whether a recovery of that group is under way."""
        return (berth.device.id, group) in self._under_way

    def begin(self, berth: Berth, group: str, ends: Sequence[asyncio.Event], *, may_be_lost: bool = False) -> None:
        """Recover a group once its processes have ended, as `ends` will say, unless that is under way.

        may_be_lost: whoever watches the device is given time to say that it is gone.
        """
        key = (berth.device.id, group)
        if key not in self._under_way:
            name = f"recovery of trust group {group} on device {berth.device.id}"
            task = self._tasks.create_task(self._recover(berth, group, ends, may_be_lost), name=name)
            self._under_way[key] = task
            task.add_done_callback(lambda _: self._under_way.pop(key))  # also of one that is called off unbegun

    async def entry(self, berth: Berth, group: str) -> None:
        """Return once processes of a group can start on a device. Raises `PartitionerUnavailable`."""
        key = (berth.device.id, group)
        if key in self._failed:
            self._failed.discard(key)
            self.begin(berth, group, ())  # what did not recover then may now
        while True:
            while (recovery := self._under_way.get(key)) is not None:
                await asyncio.wait([recovery])
            if key in self._failed:
                raise PartitionerUnavailable(f"trust group {group} on device {berth.device.id} has not recovered")
            try:
                if berth.partitioner is not None:
                    await berth.partitioner.open(group)
                return
            except PartitionerUnavailable:
                if key not in self._under_way:  # else it was found to have failed just now
                    raise

    def close(self) -> None:
        """Give up what is under way."""
        for task in self._under_way.values():
            task.cancel()

    async def _recover(self, berth: Berth, group: str, ends: Sequence[asyncio.Event], may_be_lost: bool) -> None:
        key = (berth.device.id, group)
        try:
            for end in ends:
                await end.wait()
            if may_be_lost:
                with suppress(TimeoutError):
                    await asyncio.wait_for(berth.lost.wait(), _WATCHED_S)
            if berth.partitioner is not None and not berth.closed:
                await berth.partitioner.recover(group)
        except FastGShareError as error:
            self._failed.add(key)
            _LOGGER.warning("trust group %s on device %s did not recover: %s", group, berth.device.id, error)
