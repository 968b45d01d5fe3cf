import ctypes

from fastgshare.manager import layout
from fastgshare.manager.gate import library
from fastgshare.manager.tokens import MAX_LOANS, Loan


def test_python_and_native_agree_on_the_shared_memory() -> None:
    values = (ctypes.c_uint32 * 64)()
    count = library().fg_layout(values, len(values))
    numbers = [layout.VERSION, layout.CELLS, MAX_LOANS, layout.HOLDS]
    sizes = [layout.BOARD_SIZE, layout.CELL_SIZE, layout.LOAN.size, layout.PAGE_SIZE]
    board = [8, 24, 32, 40, layout.BOARD_HEAD.size]  # heartbeat_ns, alive, wanting, hungry, cell
    tail = layout.CELL_TAIL_OFFSET
    cell = [4, 56, layout.CELL_HEAD.size, tail, tail + 8, tail + 16]  # ..., mem_bytes, siblings, strangers
    # word, hold_start_ns, owed_ns, hold_count, burst_start_ns, held_ns, fault, mem_bytes, its peak, account, holds
    page = [16, 32, 104, 128, 40, 64, 156, 160, 168, layout.STAMP_OFFSET, layout.PAGE_HEAD.size]
    messages = [layout.HELLO.size, layout.ANSWER.size]
    assert list(values[:count]) == numbers + sizes + board + cell + page + messages


def test_a_cell_carries_its_loans() -> None:
    timing = layout.Timing(1, 40, 2, 6, 30, 5, 10_000, 50_000)
    cell = timing.pack(layout.ALIVE, [Loan(7, 9, 11, 20_000, 0b101)], 2**33, 0b110, 0b1000)
    head = layout.CELL_HEAD.unpack_from(cell)
    assert head == (0, layout.ALIVE, 1, 40, 2, 6, 30, 5, 10_000, 50_000, 1, 0)
    assert layout.LOAN.unpack_from(cell, layout.CELL_HEAD.size) == (7, 9, 11, 0b101, 20_000, 0)
    assert layout.CELL_TAIL.unpack_from(cell, layout.CELL_TAIL_OFFSET) == (2**33, 0b110, 0b1000)
    assert len(cell) == layout.CELL_SIZE


def test_a_page_is_read_as_it_is_written() -> None:
    words = (0, 0, 0, 0, 0, 2 | 5 << 8 | 9 << 32, -1, 1, *range(30, 45), 700, 2**31, 2**32)
    head = layout.PageHead.parse(layout.PAGE_HEAD.pack(*words))
    assert (head.state, head.sm_lo, head.sm_hi, head.waiting_for, head.demand) == (2, 5, 9, -1, True)
    assert (head.hold_start_ns, head.owed_ns, head.hold_count, head.passed_until_ns) == (30, 39, 42, 44)
    assert (head.fault, head.mem_bytes, head.mem_peak_bytes) == (700, 2**31, 2**32)
