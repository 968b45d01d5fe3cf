"""Sites: one device as the daemon keeps it: its timetable, memory, journal and ledger, and when they are due."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from fastgshare.domain.devices import Device
from fastgshare.domain.errors import FastGShareError, WireError
from fastgshare.manager.books import Books
from fastgshare.manager.journals import Journal, read_journal
from fastgshare.manager.memory import DeviceMemory
from fastgshare.manager.timetable import LEND_VALID_NS, Timetable

MEMORY_NAME: Final = "memory.jsonl"
MEMORY_FILES: Final = "memory*.jsonl"
"""The journals of all devices."""

SHORTEST_GAP_NS: Final = 1_000_000
"""Plans are made at most this often, however many instances knock; and at most a fifth of the time goes into them."""

Complain = Callable[[str], None]


class Site:
    """One device. number: which of the daemon's, from 0; the files of those after the first carry it.

    Without a journal of a predecessor it begins at once; with one, it waits for an instance to bring that one's memory,
    until `begin_anew`.
    """

    def __init__(self, device: Device, directory: Path, number: int, window_ns: int | None, complain: Complain) -> None:
        self.device = device
        self.books = Books(directory / _numbered("ledger.csv", number))
        self.refit_due = False
        self._memory_path = directory / _numbered(MEMORY_NAME, number)
        self._journal = Journal(self._memory_path)
        self._window_ns = window_ns
        self._complain = complain
        self._table: Timetable | None = None
        self._look_due = False
        self._next_look_ns = self._next_tick_ns = 0
        if not self._was_left():
            self.begin_anew()

    @property
    def is_ready(self) -> bool:
        """Whether the predecessor's memory, if there was one, is awaited no longer."""
        return self._table is not None

    @property
    def table(self) -> Timetable:
        """The device's timetable. Raises `FastGShareError` while the predecessor's memory is awaited."""
        if self._table is None:
            raise FastGShareError("the daemon is taking over from its predecessor")
        return self._table

    @property
    def is_empty(self) -> bool:
        """Whether nobody is admitted, and none of a predecessor's is awaited."""
        return self._table is not None and not self._table.seats

    # --- memory ------------------------------------------------------------------------------------------------------

    def begin_anew(self) -> None:
        """Start with fresh memory, if none has been brought back."""
        if self._table is None:
            memory = DeviceMemory.create(LEND_VALID_NS)
            self._table = Timetable(self.device, memory, self.books, self._window_ns, time.monotonic_ns())
            self._begin_journal(self._table)

    def take_over(self, fds: Sequence[int]) -> None:
        """Go on with the predecessor's memory. Raises `WireError` if these descriptors are not of it."""
        try:
            known, cells = read_journal(self._memory_path)
            memory = DeviceMemory.take_back(fds, known)
        except (ValueError, OSError) as error:
            raise WireError(f"{error}") from error
        now_ns = time.monotonic_ns()
        self._table = Timetable(self.device, memory, self.books, self._window_ns, now_ns, cells=cells)
        self._begin_journal(self._table)

    def _was_left(self) -> bool:
        """Whether a predecessor's instances may be on the device."""
        try:
            return bool(read_journal(self._memory_path)[1])
        except FileNotFoundError:
            return False
        except (WireError, OSError):
            return True

    def _begin_journal(self, table: Timetable) -> None:
        try:
            self._journal.begin(table.memory.identities, table.cells)
        except OSError as error:
            self._complain(f"a successor could not take over: {error}")

    def remove_files(self) -> None:
        """Leave nothing for a successor: the daemon ends in order."""
        self._memory_path.unlink(missing_ok=True)

    # --- what is due -------------------------------------------------------------------------------------------------

    def look_soon(self) -> None:
        """Somebody on the device says that there is something to look at."""
        self._look_due = True

    def due_ns(self) -> int | None:
        """When something is due next; None while memory is awaited."""
        if self._table is None:
            return None
        return min(self._next_tick_ns, self._next_look_ns) if self._look_due else self._next_tick_ns

    def refit(self, now_ns: int) -> None:
        """Publish what has changed since the last time, if anything has, and keep on disk who has which cell."""
        if not self.refit_due or self._table is None:
            return
        self.refit_due = False
        self._table.refit(now_ns)
        try:
            self._journal.note(self._table.cells)  # before anybody may work: a successor has to know
        except OSError as error:
            self._complain(f"a successor could not take over: {error}")

    def on_time(self, now_ns: int) -> None:
        """Do what is due."""
        if self._table is None:
            return
        if self._look_due and now_ns >= self._next_look_ns:
            self._look_due = False
            self._table.look(now_ns)
            took_ns = time.monotonic_ns() - now_ns
            self._next_look_ns = now_ns + max(SHORTEST_GAP_NS, 5 * took_ns)
        if now_ns >= self._next_tick_ns:
            self._table.tick(now_ns)
        self._next_tick_ns = self._table.next_tick_ns(now_ns)


def _numbered(name: str, number: int) -> str:
    stem, dot, suffix = name.partition(".")
    return name if number == 0 else f"{stem}-{number}{dot}{suffix}"
