"""Trust groups that are kept from a device, and let in again whatever becomes of their recovery."""

from __future__ import annotations

import asyncio

from fastgshare.cluster.berths import Berth
from fastgshare.cluster.quarantines import Quarantine
from fastgshare.domain.devices import Device, DeviceKind

DEVICE = Device("standin", DeviceKind.STANDIN, 8, 2**30)


async def test_a_recovery_that_is_called_off_before_it_begins_holds_nobody_up() -> None:
    async with asyncio.TaskGroup() as tasks:
        quarantine, berth = Quarantine(tasks), Berth(DEVICE)
        quarantine.begin(berth, "group", ())
        quarantine.close()
        async with asyncio.timeout(10):
            await quarantine.entry(berth, "group")
        assert not quarantine.holds(berth, "group")


async def test_who_comes_while_a_group_recovers_waits_for_the_end_of_that() -> None:
    async with asyncio.TaskGroup() as tasks:
        quarantine, berth, ended = Quarantine(tasks), Berth(DEVICE), asyncio.Event()
        quarantine.begin(berth, "group", [ended])
        entry = tasks.create_task(quarantine.entry(berth, "group"))
        await quarantine.entry(berth, "other")
        assert quarantine.holds(berth, "group")
        assert not entry.done()
        ended.set()
        await entry
        assert not quarantine.holds(berth, "group")
