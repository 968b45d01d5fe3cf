"""The shared memory of a device in Python: mirrors native/gate/layout.h, and a test compares the two."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from fastgshare.manager.tokens import MAX_LOANS, Loan

VERSION: Final = 3
CELLS: Final = 64
HOLDS: Final = 256
BOARD_MAGIC: Final = 0x44424746
HELLO_MAGIC: Final = 0x494C4746

# Native alignment ("@") makes struct copy whole words, so that a reader in another process sees no half of one.
BOARD_HEAD: Final = struct.Struct("@IHHQQQQII16x")
CELL_HEAD: Final = struct.Struct("@IIQQQQQQIIII")
LOAN: Final = struct.Struct("@QQQQII")
CELL_TAIL: Final = struct.Struct("@QQQ")
CELL_TAIL_OFFSET: Final = CELL_HEAD.size + MAX_LOANS * LOAN.size
CELL_SIZE: Final = 448
BOARD_SIZE: Final = BOARD_HEAD.size + CELLS * CELL_SIZE
PAGE_HEAD: Final = struct.Struct("@IHHIIQiIQQQQQQQQQqQQQQQ4xIQQ80x")
PAGE_SIZE: Final = PAGE_HEAD.size + HOLDS * 16
HOLD: Final = struct.Struct("@QQ")
HELLO: Final = struct.Struct("@IHHII112s")
ANSWER: Final = struct.Struct("@IHHII112s")

ALIVE: Final = 1
CERTIFIED: Final = 2
EVICTED: Final = 4

REGISTER: Final = 1
READOPT: Final = 2
WELCOME: Final = 1
ADOPTED: Final = 2
REFUSED: Final = 4

STATE_HOLD: Final = 2
WORD_OFFSET: Final = 16
STAMP_OFFSET: Final = 176
STAMP: Final = struct.Struct("@Q")
_WORD: Final = struct.Struct("@Q")


@dataclass(frozen=True, slots=True)
class Timing:
    """What one instance is granted: all times in nanoseconds, SMs in milli-percent. See `Cell` in layout.h."""

    epoch_ns: int
    window_ns: int
    slot_start_ns: int
    slot_end_ns: int
    limit_ns: int
    burst_ns: int
    sm_offset: int
    sm: int

    def pack(
        self, flags: int, loans: Sequence[Loan], mem_bytes: int = 0, siblings: int = 0, strangers: int = 0
    ) -> bytes:
        """The cell's bytes.

        mem_bytes: cap on device memory, 0: none. siblings: mask of its instance's cells. strangers: mask of those of
        other trust groups.
        """
        head = CELL_HEAD.pack(
            *(0, flags, self.epoch_ns, self.window_ns, self.slot_start_ns, self.slot_end_ns, self.limit_ns),
            *(self.burst_ns, self.sm_offset, self.sm, len(loans), 0),
        )
        body = b"".join(LOAN.pack(x.start_ns, x.end_ns, x.until_ns, x.lenders, x.sm_offset, 0) for x in loans)
        cell = (head + body).ljust(CELL_TAIL_OFFSET, b"\0") + CELL_TAIL.pack(mem_bytes, siblings, strangers)
        return cell.ljust(CELL_SIZE, b"\0")


EVICTED_CELL: Final = Timing(0, 1_000_000_000, 0, 0, 0, 0, 0, 0).pack(EVICTED, ())
"""For an instance that is no longer on the device: it gets no token, and is told so."""

assert CELL_TAIL_OFFSET + CELL_TAIL.size <= CELL_SIZE


@dataclass(frozen=True, slots=True)
class Word:
    """State and SM range that an instance holds or is about to take, in milli-percent."""

    state: int
    sm_lo: int
    sm_hi: int

    @property
    def idle(self) -> bool:
        """Whether it neither holds nor takes anything."""
        return self.state == 0


def parse_word(data: bytes | memoryview) -> Word:
    """Read the eight bytes of a page's word."""
    (word,) = _WORD.unpack(data)
    return Word(word & 0xFF, word >> 8 & 0xFFFFFF, word >> 32 & 0xFFFFFF)


@dataclass(frozen=True, slots=True)
class PageHead:
    """What one process says of itself. See `Page` in layout.h."""

    state: int
    sm_lo: int
    sm_hi: int
    waiting_for: int
    demand: bool
    hold_start_ns: int
    burst_start_ns: int
    charged_ns: int
    demand_since_ns: int
    held_ns: int
    loan_ns: int
    demand_ns: int
    grants: int
    longest_burst_ns: int
    owed_ns: int
    hold_count: int
    hold_is_loan: bool
    passed_until_ns: int
    fault: int
    mem_bytes: int
    mem_peak_bytes: int

    @classmethod
    def parse(cls, data: bytes | bytearray) -> PageHead:
        """Read the head of a page."""
        fields = PAGE_HEAD.unpack_from(data)
        word, waiting_for, demand = fields[5:8]
        hold_start, burst_start, charged, demand_since, held, loan, demand_ns, grants, longest, owed = fields[8:18]
        return cls(
            *(word & 0xFF, word >> 8 & 0xFFFFFF, word >> 32 & 0xFFFFFF, waiting_for, bool(demand)),
            *(hold_start, burst_start, charged, demand_since, held, loan, demand_ns, grants, longest, owed),
            *(fields[20], bool(fields[21]), *fields[22:26]),
        )

    @property
    def holding(self) -> bool:
        """Whether it holds a token."""
        return self.state == STATE_HOLD

    def held_at(self, now_ns: int) -> int:
        """Time held so far, the present hold included."""
        return self.held_ns + (max(0, now_ns - self.charged_ns) if self.holding else 0)

    def demand_at(self, now_ns: int) -> int:
        """Time in which it had work so far."""
        return self.demand_ns + (max(0, now_ns - self.demand_since_ns) if self.demand_since_ns else 0)


@dataclass(frozen=True, slots=True, order=True)
class Hold:
    """One stretch of time in which a process held a token. They sort by when they began."""

    start_ns: int
    end_ns: int
    loan: bool


def parse_hold(entry: bytes) -> Hold:
    """Read one entry of a page's ring."""
    start_ns, end_ns = HOLD.unpack(entry)
    return Hold(start_ns, end_ns, bool(end_ns & 1))
