"""Control groups that this process is in: what they bound, and whether more of them can be made. Versions 1 and 2."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MOUNT: Final = Path("/sys/fs/cgroup")
MEMBERSHIP: Final = Path("/proc/self/cgroup")
CONTROLLERS: Final = ("cpu", "memory", "cpuset")
_V1_UNLIMITED: Final = 2**62
"""Version 1 writes "no limit" as the largest multiple of a page."""


@dataclass(frozen=True, slots=True)
class Cgroups:
    """The groups of one process.

    version: 1 or 2; 0 if there are none to be seen.
    folders: for every controller that is there, this process's group and all above it, innermost first.
    """

    version: int
    folders: dict[str, tuple[Path, ...]]

    @classmethod
    def of_this_process(cls, *, mount: Path = MOUNT, membership: Path = MEMBERSHIP) -> Cgroups:
        """What can be seen below `mount`. Groups outside of it (another namespace's) are left out."""
        rows = [line.split(":", 2) for line in _read(membership).splitlines() if line.count(":") >= 2]
        if (mount / "cgroup.controllers").is_file():
            path = next((row[2] for row in rows if row[0] == "0"), "")
            own = _upwards(mount, path) if path else ()
            here = _read(own[0] / "cgroup.controllers").split() if own else []
            # Bounds of groups above hold even where the controller is not handed down to this one.
            return cls(2, {name: own for name in CONTROLLERS if own and (name in here or _bounded(own, name))})
        found = {
            name: _upwards(mount / name, row[2]) for row in rows for name in row[1].split(",") if name in CONTROLLERS
        }
        present = {name: folders for name, folders in found.items() if folders}
        return cls(1 if present else 0, present)

    def cpu_quota(self) -> float | None:
        """Cores' worth of time that this process may use; None if nothing bounds it."""
        return min((q for folder in self.folders.get("cpu", ()) if (q := _quota(folder)) is not None), default=None)

    def memory_bytes(self) -> int | None:
        """Memory that this process may use; None if nothing bounds it."""
        names = ("memory.max", "memory.limit_in_bytes")
        texts = [_read(folder / name).strip() for folder in self.folders.get("memory", ()) for name in names]
        limits = [int(text) for text in texts if text.isdecimal() and int(text) < _V1_UNLIMITED]
        return min(limits, default=None)

    def writable(self, controller: str) -> bool:
        """Whether groups with this controller can be made below this process's own."""
        folders = self.folders.get(controller, ())
        if not folders or not os.access(folders[0], os.W_OK):
            return False
        return self.version == 1 or controller in _read(folders[0] / "cgroup.controllers").split()


def _upwards(mount: Path, relative: str) -> tuple[Path, ...]:
    inner = Path(os.path.normpath(mount / relative.lstrip("/")))
    folders = (inner, *inner.parents)
    if mount not in folders or not inner.is_dir():
        return ()
    return folders[: folders.index(mount) + 1]


def _bounded(folders: tuple[Path, ...], controller: str) -> bool:
    return any((folder / f"{controller}.max").is_file() for folder in folders)


def _quota(folder: Path) -> float | None:
    """Cores that one group may use at once."""
    words = _read(folder / "cpu.max").split()
    if not words:
        words = [_read(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
    if len(words) != 2 or not all(word.isdecimal() for word in words) or int(words[1]) == 0:
        return None
    return int(words[0]) / int(words[1])


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
