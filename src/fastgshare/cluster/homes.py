"""Homes: the directory that a device has on this machine, where the programs of one user on it meet."""

from __future__ import annotations

import fcntl
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from fastgshare.cluster.guests import Guest, parse_guest
from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.errors import FastGShareError, InvalidValue
from fastgshare.manager.daemon import SOCKET_NAME
from fastgshare.state.errors import StateUnavailable

_GUESTS: Final = "guests.json"
_SOCKET_PATH_BYTES: Final = 107
"""The longest path of a socket that the kernel takes."""


def runtime_directory(env: Mapping[str, str]) -> Path:
    """Where this user's devices have their directories, made if need be: nobody else may write there.

    Raises `StateUnavailable` if it belongs to somebody else or others may look into it.
    """
    given = env.get("XDG_RUNTIME_DIR", "")
    path = Path(given) / "fastgshare" if given and Path(given).is_dir() else Path(f"/tmp/fastgshare-{os.getuid()}")
    try:
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
        found = path.lstat()
    except OSError as error:
        raise StateUnavailable(path, f"it cannot be made ({error.strerror})") from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise StateUnavailable(path, f"it is not a directory of user {os.getuid()} alone (mode 0700)")
    return path


@dataclass(frozen=True, slots=True)
class Division:
    """How a device's SMs are divided between the programs on it.

    partitioner: its name, "" if nobody has been there. groups: trust groups for which something runs that lets them in.
    """

    partitioner: str = ""
    groups: tuple[str, ...] = ()


class Home:
    """The directory of one device: its daemon's socket, its lock, who is on it, a stand-in's state.

    Raises `StateUnavailable` or `InvalidValue` if it cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.socket_path = path / SOCKET_NAME
        self.state_path = path / "standin.state"
        self.log_path = path / "daemon.log"
        excess = len(bytes(self.socket_path)) - _SOCKET_PATH_BYTES
        if excess > 0:
            allowed = f"a directory whose path is {excess} bytes shorter"
            raise InvalidValue("XDG_RUNTIME_DIR", str(path.parent.parent), allowed)
        try:
            path.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise StateUnavailable(path, f"it cannot be made ({error.strerror})") from None

    @classmethod
    def of(cls, device: Device, env: Mapping[str, str]) -> Home:
        """The home of a device; another one for every other device, stand-ins of other sizes included."""
        return cls(runtime_directory(env) / re.sub(r"[^A-Za-z0-9.]+", "-", device.id))

    @classmethod
    def all(cls, env: Mapping[str, str]) -> list[Home]:
        """The homes that there are, by name."""
        return [cls(path) for path in sorted(runtime_directory(env).iterdir()) if path.is_dir()]

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else changes who is on the device while entered. Not to be entered twice."""
        try:
            lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StateUnavailable(self.path, f"it cannot be locked ({error.strerror})") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def guests(self) -> list[Guest]:
        """Who is on the device; those that have ended are not."""
        document = self._document()
        with suppress(FastGShareError, ValueError, KeyError, TypeError):
            return [guest for guest in map(parse_guest, document["guests"]) if guest.is_here]
        return []

    def device(self) -> Device | None:
        """The device as the first of those who are on it found it; None while nobody is."""
        if not self.guests():
            return None
        fields = self._document()["device"]
        return Device(**{**fields, "kind": DeviceKind(fields["kind"]), "sm_ids": tuple(fields["sm_ids"])})

    def division(self) -> Division:
        """How the device was divided last; whether for anybody who is there, is another question."""
        with suppress(KeyError, TypeError):
            found = self._document()["division"]
            return Division(str(found["partitioner"]), tuple(map(str, found["groups"])))
        return Division()

    def keep(self, device: Device, guests: Sequence[Guest], division: Division | None = None) -> None:
        """Record who is on the device, and how that is divided now (None: as before).

        Once nobody is on it, nothing of a stand-in stays. Raises `StateUnavailable`.
        """
        document = {
            "device": asdict(device),
            "guests": [guest.document() for guest in guests],
            "division": asdict(division or self.division()),
        }
        draft = self.path / f"{_GUESTS}.new"
        try:
            draft.write_text(json.dumps(document))
            draft.replace(self.path / _GUESTS)
            if not guests:
                self.state_path.unlink(missing_ok=True)
        except OSError as error:
            raise StateUnavailable(self.path, f"it cannot be written ({error.strerror})") from None

    def _document(self) -> dict[str, Any]:
        try:
            document = json.loads((self.path / _GUESTS).read_text())
        except (OSError, ValueError):
            return {}
        return document if isinstance(document, dict) else {}
