"""Attributions: what of a device's use is each instance's, from its readings and the ledger at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from fastgshare.domain.errors import FastGShareError
from fastgshare.domain.instances import InstanceStatus
from fastgshare.domain.ledger import LedgerEntry
from fastgshare.domain.ports import Ledger
from fastgshare.domain.readings import Part, Reading, attribute, growth


class Attributions:
    """Looks at the ledger whenever a device has been read, and divides what the device says by what it grew by.

    ledger: its sums. observe: the instances and where they are.
    """

    def __init__(self, ledger: Ledger, observe: Callable[[], Sequence[InstanceStatus]]) -> None:
        self._ledger = ledger
        self._observe = observe
        self._news: dict[str, Reading] = {}
        self._changed = asyncio.Event()
        self._before: dict[str, Sequence[LedgerEntry]] = {}
        self._parts: dict[str, Mapping[str, Part]] = {}

    def note(self, device_id: str, reading: Reading) -> None:
        """A device has been read. What only tells of an XID repeats older figures, and is not counted."""
        if not reading.xids:
            self._news[device_id] = reading
            self._changed.set()

    def parts(self) -> Mapping[str, Part]:
        """By instance, its part of what its device last said; who was there for less than a reading has none yet."""
        return {name: part for parts in self._parts.values() for name, part in parts.items()}

    async def run(self) -> None:
        """Attribute for as long as it is not cancelled."""
        while True:
            await self._changed.wait()
            await self.settle()

    async def settle(self) -> None:
        """Attribute what has been noted. While the ledger cannot be read there are no parts."""
        self._changed.clear()
        news, self._news = self._news, {}
        try:
            totals = await self._ledger.totals()
        except FastGShareError:
            self._before.clear()
            self._parts.clear()
            return
        places = {status.id: status.placement.device_id for status in self._observe()}
        for device_id, reading in news.items():
            mine = [entry for entry in totals if places.get(entry.instance_id) == device_id]
            if (before := self._before.get(device_id)) is not None:
                self._parts[device_id] = attribute(reading, growth(before, mine))
            self._before[device_id] = mine
