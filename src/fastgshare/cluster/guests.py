"""Guests: programs that were started by hand on shares of a device, as the device's directory records them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastgshare.domain.functions import DEFAULT_GROUP
from fastgshare.domain.rects import Rect
from fastgshare.domain.shares import Share
from fastgshare.manager.messages import parse_share, share_document


@dataclass(frozen=True, slots=True)
class Guest:
    """One program. started: what tells its process from a later one with the same pid.

    root: the process that waits for it; descendants of either are the program's. refuses: what is to happen where its
    share cannot be enforced. group: its trust group.
    """

    name: str
    pid: int
    started: int
    root: int
    share: Share
    rect: Rect
    command: tuple[str, ...]
    refuses: bool = True
    group: str = DEFAULT_GROUP

    @property
    def is_here(self) -> bool:
        """Whether its process has not ended."""
        return started(self.pid) == self.started

    @property
    def present_root(self) -> int:
        """Its root, as long as that waits for it; 0 once it has ended."""
        return self.root if _parent(self.pid) == self.root else 0

    def document(self) -> dict[str, object]:
        """As JSON."""
        who = {"name": self.name, "pid": self.pid, "started": self.started, "root": self.root}
        what = {"command": self.command, "refuses": self.refuses, "group": self.group}
        return who | what | share_document(self.share, self.rect)


def parse_guest(document: Mapping[str, Any]) -> Guest:
    """Read what `Guest.document` wrote. Raises ValueError, KeyError or TypeError for anything else."""
    share, rect = parse_share(document)
    if rect is None:
        raise ValueError("a guest has a rect")
    pid, begun, root = (int(document[field]) for field in ("pid", "started", "root"))
    command = tuple(map(str, document["command"]))
    refuses, group = bool(document["refuses"]), str(document["group"])
    return Guest(str(document["name"]), pid, begun, root, share, rect, command, refuses, group)


def started(pid: int) -> int:
    """When a process was started, in ticks since the machine was; 0 if it has ended, reaped or not."""
    fields = _fields(pid)
    return 0 if not fields or fields[0] in (b"Z", b"X") else int(fields[19])


def _parent(pid: int) -> int:
    fields = _fields(pid)
    return int(fields[1]) if fields else 0


def _fields(pid: int) -> list[bytes]:
    """What the kernel says of a process, from its state on; nothing once it has gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2].split()
    except OSError:
        return []
