"""The ledger: entitled and received time of every instance in every window, kept in memory and as a file."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from pathlib import Path
from typing import Final

from fastgshare.domain.ledger import LedgerEntry
from fastgshare.manager.layout import Hold

COLUMNS: Final = tuple(field.name for field in fields(LedgerEntry))
_columns: Final = attrgetter(*COLUMNS)
LARGEST_FILE_BYTES: Final = 16 * 2**20
KEPT_ENTRIES: Final = 16_384


@dataclass(slots=True)
class Totals:
    """Sums of one instance since it registered, in seconds."""

    sm_partition: float
    windows_s: float = 0.0
    entitled_s: float = 0.0
    received_s: float = 0.0
    loan_s: float = 0.0
    demand_s: float = 0.0
    cpu_s: float = 0.0

    def add(self, entry: LedgerEntry) -> None:
        """Add one window."""
        self.sm_partition = entry.sm_partition
        self.windows_s += entry.window_s
        self.entitled_s += entry.entitled_s
        self.received_s += entry.received_s
        self.loan_s += entry.loan_s
        self.demand_s += entry.demand_s
        self.cpu_s += entry.cpu_s


def received_in(holds: Iterable[Hold], start_ns: int, end_ns: int) -> tuple[int, int]:
    """Nanoseconds held within [start_ns, end_ns), and how many of them were loans."""
    held = lent = 0
    for hold in holds:
        inside = min(hold.end_ns, end_ns) - max(hold.start_ns, start_ns)
        if inside > 0:
            held += inside
            lent += inside if hold.loan else 0
    return held, lent


class Books:
    """Appends entries; totals per instance, the last windows, and a CSV file of bounded size (two generations)."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._recent: deque[LedgerEntry] = deque(maxlen=KEPT_ENTRIES)
        self._totals: dict[str, Totals] = {}
        self._unwritten: list[LedgerEntry] = []
        self.problem = ""

    def add(self, entry: LedgerEntry) -> None:
        """Book one instance's window."""
        self._recent.append(entry)
        self._totals.setdefault(entry.instance_id, Totals(entry.sm_partition)).add(entry)
        self._unwritten.append(entry)

    def forget(self, instance_id: str) -> None:
        """Drop the totals of an instance that has gone; its windows stay."""
        self._totals.pop(instance_id, None)

    def totals(self) -> list[LedgerEntry]:
        """One entry per instance with the sums since it registered: window_index -1, window_s the time observed."""
        return [
            LedgerEntry(
                *(-1, 0.0, t.windows_s, name, t.sm_partition),
                *(t.entitled_s, t.received_s, t.loan_s, t.demand_s, t.cpu_s),
            )
            for name, t in self._totals.items()
        ]

    def recent(self, windows: int) -> Sequence[LedgerEntry]:
        """Entries of the last `windows` windows, oldest first."""
        indices = sorted({entry.window_index for entry in self._recent})[-windows:] if windows > 0 else []
        return [entry for entry in self._recent if indices and entry.window_index >= indices[0]]

    def flush(self) -> None:
        """Write what was booked since the last call. A full disk costs the file, not the device: see `problem`."""
        if self._path is None or not self._unwritten:
            return
        rows, self._unwritten = self._unwritten, []
        try:
            self._write(self._path, rows)
            self.problem = ""
        except OSError as error:
            self.problem = f"ledger file {self._path.name}: {error.strerror}; {len(rows)} entries not written"

    @staticmethod
    def _write(path: Path, rows: Sequence[LedgerEntry]) -> None:
        if path.exists() and path.stat().st_size > LARGEST_FILE_BYTES:
            path.replace(path.with_suffix(".1.csv"))
        fresh = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.writer(file)
            if fresh:
                writer.writerow(COLUMNS)
            writer.writerows(map(_columns, rows))
