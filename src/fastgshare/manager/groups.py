"""Groups: which trust group every cell of a device belongs to. Those of different groups take turns."""

from __future__ import annotations

from fastgshare.domain.devices import Device


class Groups:
    """Trust groups of one device, numbered. Where processes of different groups may run at once, all are of one."""

    def __init__(self, device: Device) -> None:
        self._apart = device.takes_turns
        self._numbers: dict[str, int] = {}
        self._of_cell: dict[int, int] = {}

    def number(self, group: str) -> int:
        """The number of a group, by its name."""
        return self._numbers.setdefault(group, len(self._numbers)) if self._apart else 0

    def enter(self, index: int, group: str) -> None:
        """A process of that group has a cell from now on, until another has it."""
        self._of_cell[index] = self.number(group)

    def strangers(self, group: str, cells: int) -> int:
        """Of a mask of cells, those of other groups. One of which nothing is known may be of any."""
        if not self._apart:
            return 0
        own = self.number(group)
        return sum(1 << i for i in range(cells.bit_length()) if cells >> i & 1 and self._of_cell.get(i) != own)
