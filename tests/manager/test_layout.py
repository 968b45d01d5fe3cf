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
    cell = [4, 56, layout.CELL_HEAD.size]  # flags, sm_offset, loans
    # word, hold_start_ns, owed_ns, hold_count, burst_start_ns, held_ns, holds
    page = [16, 32, 104, 128, 40, 64, layout.PAGE_HEAD.size]
    messages = [layout.HELLO.size, layout.ANSWER.size]
    assert list(values[:count]) == numbers + sizes + board + cell + page + messages


def test_a_cell_carries_its_loans() -> None:
    timing = layout.Timing(1, 40, 2, 6, 30, 5, 10_000, 50_000)
    cell = timing.pack(layout.ALIVE, [Loan(7, 9, 11, 20_000, 0b101)])
    head = layout.CELL_HEAD.unpack_from(cell)
    assert head == (0, layout.ALIVE, 1, 40, 2, 6, 30, 5, 10_000, 50_000, 1, 0)
    assert layout.LOAN.unpack_from(cell, layout.CELL_HEAD.size) == (7, 9, 11, 0b101, 20_000, 0)
    assert len(cell) == layout.CELL_SIZE
