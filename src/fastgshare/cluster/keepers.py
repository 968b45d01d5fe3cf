"""Keepers: the node daemon of a device that nobody owns, started by whoever comes first."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Final

from fastgshare.cluster.guests import Guest
from fastgshare.cluster.homes import Home
from fastgshare.domain.devices import Device
from fastgshare.domain.errors import DaemonUnavailable, FastGShareError
from fastgshare.manager.daemon import MEMORY_NAME
from fastgshare.manager.environments import without_share
from fastgshare.manager.visits import Visit

UNTIL_EMPTY_S: Final = 5.0
"""How long a daemon waits for the next program once the last has gone."""

_START_S: Final = 15.0
_RETRY_S: Final = 0.05


def attend(home: Home, device: Device, guests: Sequence[Guest], env: Mapping[str, str]) -> int:
    """Bring the device's daemon in line with who is on the device, starting it if it does not run; its process id.

    To be called under the home's lock, with what it has recorded: that is what holds, whatever a daemon or its
    successor knows. Raises `DaemonUnavailable` if none can be had, `FastGShareError` if it refuses one of them.
    """
    give_up_s = time.monotonic() + _START_S
    while True:
        try:
            with Visit(home.socket_path) as visit:
                if visit.device() == device:
                    _bring_in_line(visit, guests)
                    return int(visit.status()["pid"])
                _end(visit)  # it waits for somebody, on what the last who were here could use: other cores, say
        except DaemonUnavailable:
            if time.monotonic() > give_up_s:
                raise
        if not guests:  # nobody brings a predecessor's memory back: none is worth waiting for
            (home.path / MEMORY_NAME).unlink(missing_ok=True)
        if not _start(home, device, env):
            time.sleep(_RETRY_S)  # one that is ending keeps its directory until it has


def _end(visit: Visit) -> None:
    """End the daemon that is visited, and wait until it has ended."""
    pid = int(visit.status()["pid"])
    with suppress(ProcessLookupError):
        ended = os.pidfd_open(pid)
        try:
            os.kill(pid, signal.SIGTERM)
            select.select([ended], [], [], _START_S)
        finally:
            os.close(ended)


def _bring_in_line(visit: Visit, guests: Sequence[Guest]) -> None:
    present, wanted = visit.present(), {guest.name: (guest.share, guest.rect) for guest in guests}
    for name in present.keys() - wanted.keys():
        visit.remove(name)
    if changes := {name: wanted[name] for name in present.keys() & wanted.keys() if present[name] != wanted[name]}:
        visit.place(changes)
    for guest in guests:
        if guest.name not in present:
            _admit(visit, guest)


def _admit(visit: Visit, guest: Guest) -> None:
    try:
        visit.admit(*(guest.name, guest.pid, guest.share, guest.rect), root=guest.present_root, group=guest.group)
    except DaemonUnavailable:
        raise
    except FastGShareError:
        if guest.is_here:  # else it has ended meanwhile
            raise


def _start(home: Home, device: Device, env: Mapping[str, str]) -> bool:
    """Start a daemon; whether it serves. It outlives this process."""
    command = [sys.executable, "-P", "-m", "fastgshare.manager.daemon", "--detached"]
    command += ["--directory", str(home.path), "--device", json.dumps(asdict(device))]
    command += ["--until-empty-s", str(UNTIL_EMPTY_S)]
    log = os.open(home.log_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        process = subprocess.Popen(
            command,
            env=without_share(env),
            cwd=home.path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
    finally:
        os.close(log)
    assert process.stdout is not None
    with process.stdout as output:
        serves = bool(select.select([output], [], [], _START_S)[0]) and b"ready" in output.readline()
    if not serves:
        process.kill()
        with suppress(ChildProcessError):
            process.wait()
    return serves
