"""The memory cap (M7) of an instance, all its processes together: the gate's own counting, through ctypes."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from fastgshare.manager import layout
from fastgshare.manager.memory import DeviceMemory
from fastgshare.testing.virtual import library, open_gate

CAP = 1000
OK, OVER = 0, 3


class Siblings:
    """Gates of two processes of one instance on one board."""

    def __init__(self, cap_bytes: int = CAP) -> None:
        self.memory = DeviceMemory.create(10**9)
        self.memory.close()  # nobody else maps it
        self.gates = [open_gate(self.memory, index) for index in (0, 1)]
        self.publish(cap_bytes, (0, 1))

    def publish(self, cap_bytes: int, alive: Iterable[int], *, siblings: int = 0b11) -> None:
        for index in (0, 1):
            cell = layout.Timing(0, 10**9, 0, 0, 0, 0, 0, 1000).pack(layout.ALIVE, (), cap_bytes, siblings)
            self.memory.publish(index, cell)
        self.memory.announce(0, sum(1 << index for index in alive), 0, False)

    def charge(self, index: int, size: int) -> int:
        return int(library().fg_charge_memory(self.gates[index], size))

    def used_and_cap(self, index: int) -> tuple[int, int]:
        used, cap = ctypes.c_uint64(), ctypes.c_uint64()
        library().fg_memory(self.gates[index], ctypes.byref(used), ctypes.byref(cap))
        return used.value, cap.value

    def pages(self) -> list[tuple[int, int]]:
        heads = [self.memory.page(index) for index in (0, 1)]
        return [(head.mem_bytes, head.mem_peak_bytes) for head in heads if head is not None]


@given(st.lists(st.tuples(st.sampled_from([0, 1]), st.integers(-CAP, CAP + 1)), max_size=30))
def test_what_is_counted_is_what_was_allowed_and_never_above_the_cap(calls: list[tuple[int, int]]) -> None:
    siblings = Siblings()
    used, peaks = [0, 0], [0, 0]
    for index, size in calls:
        allowed = size < 0 or sum(used) + size <= CAP
        assert siblings.charge(index, size) == (OK if allowed else OVER)
        if allowed:
            used[index] = max(0, used[index] + size)
            peaks[index] = max(peaks[index], used[index])
        assert siblings.used_and_cap(0) == siblings.used_and_cap(1) == (sum(used), CAP)
        assert siblings.pages() == list(zip(used, peaks, strict=True))


def test_without_a_cap_memory_is_only_counted() -> None:
    siblings = Siblings(cap_bytes=0)
    assert siblings.charge(0, 2**40) == siblings.charge(1, 2**41) == OK
    assert siblings.used_and_cap(0) == (2**40 + 2**41, 0)
    assert siblings.charge(0, 2**63 - 1) == OK  # nothing that a device could have, and nothing that overflows
    assert siblings.charge(0, 2**63 - 1) == OVER


def test_a_cap_that_is_lowered_takes_nothing_away() -> None:
    """M8: what an instance holds beyond its new cap stays; it gets no more until it is below."""
    siblings = Siblings()
    assert siblings.charge(0, 600) == siblings.charge(1, 300) == OK
    siblings.publish(500, (0, 1))
    assert siblings.used_and_cap(1) == (900, 500)
    assert siblings.charge(0, 1) == siblings.charge(1, 1) == OVER
    assert siblings.charge(0, -450) == OK
    assert siblings.charge(1, 50) == OK
    assert siblings.charge(1, 1) == OVER
    siblings.publish(501, (0, 1))
    assert siblings.charge(1, 1) == OK


def test_memory_of_a_process_that_has_ended_is_free_again() -> None:
    siblings = Siblings()
    assert siblings.charge(0, 700) == OK
    assert siblings.charge(1, 400) == OVER
    siblings.publish(CAP, (1,))  # its cell may stay known for the sake of its account, but counts no more
    assert siblings.charge(1, CAP) == OK
    siblings.publish(CAP, (0, 1), siblings=0)
    assert siblings.used_and_cap(1) == (CAP, CAP)


def test_siblings_that_ask_at_once_never_exceed_the_cap_together() -> None:
    """Real threads, calls in parallel. Whoever was let in gives back, so that there is always a last free byte."""
    siblings = Siblings(cap_bytes=3)
    exceeded: list[int] = []

    def ask(index: int) -> None:
        for _ in range(20_000):
            if siblings.charge(index, 1) == OK:
                if siblings.used_and_cap(index)[0] > 4:  # 3, and one that was claimed and not yet refused
                    exceeded.append(index)
                siblings.charge(index, -1)

    held = [siblings.charge(index, 1) for index in (0, 1)]
    threads = [threading.Thread(target=ask, args=(index,)) for index in (0, 1, 0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert held == [OK, OK] and not exceeded
    assert siblings.used_and_cap(0) == (2, 3)


def test_of_two_that_want_the_last_byte_at_most_one_gets_it() -> None:
    siblings = Siblings(cap_bytes=1)
    barrier = threading.Barrier(2)
    results: dict[tuple[int, int], int] = {}

    def ask(index: int) -> None:
        for turn in range(500):
            barrier.wait()
            results[index, turn] = siblings.charge(index, 1)
            barrier.wait()
            if results[index, turn] == OK:
                siblings.charge(index, -1)

    threads = [threading.Thread(target=ask, args=(index,)) for index in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all([results[0, turn], results[1, turn]].count(OK) <= 1 for turn in range(500))
