"""What the verbs about programs on shares have in common: their devices, and how programs are written down."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from fastgshare.spec.devices import DeviceRequest, parse_device

if TYPE_CHECKING:
    from fastgshare.cluster.guests import Guest
    from fastgshare.cluster.homes import Home
    from fastgshare.cluster.residents import Resident


def read_device(context: click.Context, parameter: click.Parameter, text: str | None) -> DeviceRequest | None:
    """The device of a `--device` option, None if it was not given."""
    return None if text is None else parse_device(text)


def homes(device: DeviceRequest | None) -> list[Home]:
    """The home of a device; of all, if none is named."""
    from fastgshare.cluster.devices import find_device
    from fastgshare.cluster.homes import Home

    return Home.all(os.environ) if device is None else [Home.of(find_device(device, os.environ), os.environ)]


def described(guest: Guest) -> dict[str, Any]:
    """A program and its place, for JSON."""
    share, rect = guest.share, guest.rect
    return {
        "name": guest.name,
        "pid": guest.pid,
        "command": list(guest.command),
        "trust_group": guest.group,
        "share": {
            "sm": share.sm_partition,
            "request": share.quota_request,
            "limit": share.quota_limit,
            "mem_bytes": share.mem_bytes,
        },
        "place": {
            "sm_offset": rect.sm_offset,
            "sm": rect.sm,
            "quota_offset": rect.quota_offset,
            "quota": rect.quota,
        },
    }


def document(resident: Resident) -> dict[str, Any]:
    """A program, its place and what it has had, for JSON."""
    figures = resident.figures
    return {
        **described(resident.guest),
        "device": resident.device.id,
        "mem_used_bytes": figures.mem_bytes,
        "mem_peak_bytes": figures.mem_peak_bytes,
        "observed_s": round(figures.observed_s, 6),
        "entitled_s": round(figures.entitled_s, 6),
        "received_s": round(figures.received_s, 6),
        "loan_s": round(figures.loan_s, 6),
    }
