"""Cells: which of them are out of use, and which still count although nobody on the device has them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from fastgshare.manager import layout
from fastgshare.manager.memory import DeviceMemory

LEAVE_NS: Final = 1_000_000_000
"""How long the range of a process that was taken off the device counts, if it does not return it."""

CellsByInstance = Mapping[str, Sequence[tuple[int, int]]]
"""(pid, cell) of every process, by instance id."""


class Cells:
    """The cells of one device's memory. inherited: who had which under a predecessor, until admitted again."""

    def __init__(self, memory: DeviceMemory, inherited: CellsByInstance) -> None:
        self.inherited = {name: list(cells) for name, cells in inherited.items()}
        self._memory = memory
        self._leaving: dict[int, int] = {}
        self._unused = list(range(layout.CELLS))  # by when they were given away last

    @property
    def counting(self) -> set[int]:
        """Cells that count although nobody on the device has them (any more, or yet)."""
        return {*self._leaving, *self._inherited_cells()}

    def choose(self, taken: Iterable[int], kept: Iterable[int]) -> int | None:
        """A fresh one: that has been out of use for longest, preferably not one that is kept; None if all are taken."""
        taken = {*taken, *self.counting}
        avoided = taken | set(kept)
        index = next((i for i in self._unused if i not in avoided), None)
        if index is None:
            index = next((i for i in self._unused if i not in taken), None)
        if index is not None:
            self._unused.remove(index)
            self._unused.append(index)
            self._memory.clear_page(index)
        return index

    def vacate(self, index: int, now_ns: int, *, alive: bool) -> None:
        """Take it off the device. If its process lives on, its range counts until it has returned it."""
        self._memory.publish(index, layout.EVICTED_CELL)
        if alive and not self._memory.word(index).idle:
            self._leaving[index] = now_ns

    def forget_left(self, now_ns: int) -> None:
        """Stop counting those whose processes have returned their ranges, or never will."""
        for index, since_ns in list(self._leaving.items()):
            if self._memory.word(index).idle or now_ns - since_ns > LEAVE_NS:
                del self._leaving[index]

    def drop_inherited(self, now_ns: int) -> None:
        """Take those of instances that nobody has admitted again off the device."""
        indices = self._inherited_cells()
        self.inherited.clear()
        for index in indices:
            self.vacate(index, now_ns, alive=True)

    def _inherited_cells(self) -> list[int]:
        return [index for cells in self.inherited.values() for _, index in cells]
