"""Journals: who has which cell, kept on disk line by line, for a daemon that takes over from one that was killed."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from fastgshare.domain.errors import WireError
from fastgshare.manager.cells import CellsByInstance

LARGEST_BYTES: Final = 256 * 2**10
"""Beyond it the journal is begun anew with what holds now."""

Identities = Sequence[Sequence[int]]


class Journal:
    """One file: a line of JSON for the memory's identities, then one for every cell that is taken or left.

    A line costs one write and no rename: this happens while a process waits to be let in.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1
        self._identities: Identities = ()
        self._noted: dict[int, tuple[str, int]] = {}
        self._size = 0

    def begin(self, identities: Identities, cells: CellsByInstance) -> None:
        """Start anew, for memory known by these identities. Raises `OSError`."""
        self._identities, self._noted = identities, _by_cell(cells)
        lines = [json.dumps({"identities": self._identities}), *(_taken(at, *who) for at, who in self._noted.items())]
        draft = self._path.with_suffix(".new")
        draft.write_text("".join(f"{line}\n" for line in lines))
        draft.replace(self._path)
        self._close()
        self._fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        self._size = self._path.stat().st_size

    def note(self, cells: CellsByInstance) -> None:
        """Write down what has changed. Raises `OSError`."""
        now = _by_cell(cells)
        lines = [json.dumps({"left": at}) for at in self._noted.keys() - now.keys()]
        lines += [_taken(at, *who) for at, who in now.items() if self._noted.get(at) != who]
        text = "".join(f"{line}\n" for line in lines).encode()
        if self._size + len(text) > LARGEST_BYTES:
            self.begin(self._identities, cells)
        elif text:
            self._size += os.write(self._fd, text)
            self._noted = now

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)


def read_journal(path: Path) -> tuple[Identities, dict[str, list[tuple[int, int]]]]:
    """Identities of the memory and (pid, cell) of every process, by instance. Raises `OSError`, `WireError`.

    A last line that was cut off is left out.
    """
    first, *lines = path.read_text().split("\n")[:-1] or [""]
    noted: dict[int, tuple[str, int]] = {}
    try:
        identities: Identities = json.loads(first)["identities"]
        for line in map(json.loads, lines):
            if "left" in line:
                noted.pop(line["left"], None)
            else:
                noted[int(line["cell"])] = (str(line["id"]), int(line["pid"]))
    except (ValueError, KeyError, TypeError) as error:
        raise WireError(f"{path.name} is not a journal of cells: {error}") from error
    cells: dict[str, list[tuple[int, int]]] = {}
    for at, (name, pid) in noted.items():
        cells.setdefault(name, []).append((pid, at))
    return identities, cells


def _by_cell(cells: CellsByInstance) -> dict[int, tuple[str, int]]:
    return {at: (name, pid) for name, members in cells.items() for pid, at in members}


def _taken(cell: int, name: str, pid: int) -> str:
    return json.dumps({"cell": cell, "id": name, "pid": pid})
