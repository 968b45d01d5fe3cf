"""Residents: what is known of the programs on this user's devices, and changes to their shares while they run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from fastgshare.cluster.guests import Guest
from fastgshare.cluster.homes import Home
from fastgshare.cluster.keepers import attend
from fastgshare.cluster.programs import check_enforceable
from fastgshare.cluster.rooms import find_room
from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.errors import FastGShareError, InvalidValue, NotFound
from fastgshare.domain.shares import Share
from fastgshare.manager.visits import Visit
from fastgshare.spec.shares import change_share, check_share


@dataclass(frozen=True, slots=True)
class Figures:
    """What a program has had. Device memory in bytes; times in seconds since it first used the device."""

    mem_bytes: int = 0
    mem_peak_bytes: int = 0
    observed_s: float = 0.0
    entitled_s: float = 0.0
    received_s: float = 0.0
    loan_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Resident:
    """A program, the device that it is on, and what it has had."""

    guest: Guest
    device: Device
    figures: Figures


def list_residents(homes: Sequence[Home], env: Mapping[str, str]) -> list[Resident]:
    """All programs in these homes. A daemon that has ended is replaced, as long as there are programs."""
    return [resident for home in homes for resident in _residents(home, env)]


def _residents(home: Home, env: Mapping[str, str]) -> list[Resident]:
    with home.locked():
        guests, device = home.guests(), home.device()
        if device is None:
            return []
        with suppress(FastGShareError):
            attend(home, device, guests, env)
        figures = _figures(home)
    return [Resident(guest, device, figures.get(guest.name, Figures())) for guest in guests]


def _figures(home: Home) -> dict[str, Figures]:
    """By program; empty where no daemon answers."""
    try:
        with Visit(home.socket_path) as visit:
            seats = visit.status()["instances"]
            totals = {entry.instance_id: entry for entry in visit.totals()}
    except FastGShareError:
        return {}
    found = {name: Figures(seat["mem_bytes"], seat["mem_peak_bytes"]) for name, seat in seats.items()}
    for name in found.keys() & totals.keys():
        had = totals[name]
        times = (had.window_s, had.entitled_s, had.received_s, had.loan_s)
        found[name] = Figures(found[name].mem_bytes, found[name].mem_peak_bytes, *times)
    return found


def resize(name: str, text: str, homes: Sequence[Home], env: Mapping[str, str]) -> Resident:
    """Change the parts of a running program's share that `text` names, effective within a window.

    Raises `NotFound`, `InvalidValue` for a part that cannot change or a name on several devices, `NoPlacement`.
    """
    found = [home for home in homes if any(guest.name == name for guest in home.guests())]
    if not found:
        raise NotFound("program", name)
    if len(found) > 1:
        devices = " and ".join(device.id for home in found if (device := home.device()) is not None)
        raise InvalidValue(
            "name", name, f"one that is on one device; this one is on {devices}: say which with --device"
        )
    with found[0].locked():
        return _resize(name, text, found[0], env)


def _resize(name: str, text: str, home: Home, env: Mapping[str, str]) -> Resident:
    guests, device = home.guests(), home.device()
    guest = next((guest for guest in guests if guest.name == name), None)
    if guest is None or device is None:
        raise NotFound("program", name)
    share = change_share(guest.share, text)
    check_share(device, share)
    _check_change(device, guest, share)
    rects = find_room(device, guests, name, share, guest.group, guest.rect)
    changed = replace(guest, share=share)
    after = [replace(g, rect=rects.get(g.name, g.rect)) for g in (changed if g is guest else g for g in guests)]
    home.keep(device, after)
    try:
        attend(home, device, after, env)
    except FastGShareError:
        home.keep(device, guests)
        raise
    settled = next(g for g in after if g.name == name)
    return Resident(settled, device, _figures(home).get(name, Figures()))


def _check_change(device: Device, guest: Guest, share: Share) -> None:
    """Raise `InvalidValue` for what is fixed when a program starts, and for what cannot be enforced."""
    if share.sm_partition != guest.share.sm_partition:
        allowed = f"{guest.share.sm_partition:g}: the SMs of a program are fixed when it starts"
        raise InvalidValue("sm", share.sm_partition, allowed)
    if device.kind is DeviceKind.CPU and share.mem_bytes != guest.share.mem_bytes:
        allowed = f"{guest.share.mem_bytes}: on device cpu, the memory limit of a program is fixed when it starts"
        raise InvalidValue("mem", share.mem_bytes, allowed)
    check_enforceable(device, share, refuses=guest.refuses)
