"""The daemon's end of a device's shared memory: sealed memfds, handed to instances over the socket.

Identity of the descriptors is checked by inode, so that a restarted daemon takes back its predecessor's memory from
any instance without having to trust it.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
from collections.abc import Sequence

from fastgshare.domain.errors import WireError
from fastgshare.manager import layout
from fastgshare.manager.gate import library

_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class DeviceMemory:
    """One board and a page per cell. Owns its descriptors: `fds` is the board's, then one a page."""

    def __init__(self, fds: Sequence[int]) -> None:
        self.fds = list(fds)
        self._lib = library()
        self._board = mmap.mmap(self.fds[0], layout.BOARD_SIZE)
        self.board_address = _address(self._board)
        self._maps = [mmap.mmap(fd, layout.PAGE_SIZE) for fd in self.fds[1:]]
        self.page_addresses = [_address(page) for page in self._maps]
        self._head = ctypes.create_string_buffer(layout.PAGE_HEAD.size)
        self._read_only = [os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC) for fd in self.fds]

    @classmethod
    def create(cls, lend_valid_ns: int) -> DeviceMemory:
        """Fresh memory for a device."""
        fds = [_memfd("board", layout.BOARD_SIZE), *(_memfd("page", layout.PAGE_SIZE) for _ in range(layout.CELLS))]
        memory = cls(fds)
        head = (layout.BOARD_MAGIC, layout.VERSION, layout.CELLS, 0, lend_valid_ns, 0, 0, 0, 0)
        memory._board[: layout.BOARD_HEAD.size] = layout.BOARD_HEAD.pack(*head)
        return memory

    @classmethod
    def take_back(cls, received: Sequence[int], known: Sequence[Sequence[int]]) -> DeviceMemory:
        """Memory of a predecessor, from the descriptors an instance holds (board, its own page, all pages).

        Raises `WireError` unless they are sealed and the ones with these identities.
        """
        offered = [received[0], *received[2:]]
        if identities(offered) != [list(identity) for identity in known]:
            raise WireError("the pages offered are not those of this device")
        if any(fcntl.fcntl(fd, fcntl.F_GET_SEALS) != _SEALS for fd in offered):
            raise WireError("the pages offered are not sealed")
        return cls([os.open(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_CLOEXEC) for fd in offered])

    @property
    def identities(self) -> list[list[int]]:
        """What the descriptors are known by: device and inode of each."""
        return identities(self.fds)

    def is_page_of(self, fd: int, index: int) -> bool:
        """Whether a descriptor is the writable one of the page in cell `index`."""
        writable = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR
        return writable and identities([fd]) == identities([self.fds[1 + index]])

    def descriptors_for(self, index: int) -> list[int]:
        """Descriptors for the process in cell `index`: board and all pages read-only, its own page writable.

        They are this memory's own, to be sent and not to be closed.
        """
        return [self._read_only[0], self.fds[1 + index], *self._read_only[1:]]

    def clear_page(self, index: int) -> None:
        """Make a page ready for its next instance."""
        self._maps[index][:] = bytes(layout.PAGE_SIZE)

    def publish(self, index: int, cell: bytes) -> None:
        """Write a cell and wake its instance."""
        self._lib.fg_publish(self.board_address, index, cell)

    def announce(self, heartbeat_ns: int, alive: int, wanting: int, hungry: bool) -> None:
        """Give a sign of life and the masks of cells that count and that have work."""
        self._lib.fg_announce(self.board_address, heartbeat_ns, alive, wanting, int(hungry))

    def cell(self, index: int) -> bytes:
        """A cell's bytes as they are."""
        start = layout.BOARD_HEAD.size + index * layout.CELL_SIZE
        return self._board[start : start + layout.CELL_SIZE]

    @property
    def alive(self) -> int:
        """Mask of cells that count, as last announced."""
        return int(layout.BOARD_HEAD.unpack_from(self._board)[5])

    def word(self, index: int) -> layout.Word:
        """State and range of an instance, in one piece whatever its writer does."""
        return layout.parse_word(self._maps[index][layout.WORD_OFFSET : layout.WORD_OFFSET + 8])

    def page(self, index: int) -> layout.PageHead | None:
        """What an instance says of itself; None if it died in the middle of a word."""
        if not self._lib.fg_read_page(self.page_addresses[index], self._head):
            return None
        return layout.PageHead.parse(self._head.raw)

    def account_stamp(self, index: int) -> int:
        """When a process last wrote its instance's account; 0: never."""
        (stamp,) = layout.STAMP.unpack_from(self._maps[index], layout.STAMP_OFFSET)
        return int(stamp)

    def holds(self, index: int, head: layout.PageHead, since_ns: int) -> list[layout.Hold]:
        """Holds of an instance that ended after `since_ns` (at most the ring's last), oldest first."""
        found = []
        for count in range(head.hold_count - 1, max(-1, head.hold_count - layout.HOLDS), -1):
            at = layout.PAGE_HEAD.size + count % layout.HOLDS * layout.HOLD.size
            hold = layout.parse_hold(self._maps[index][at : at + layout.HOLD.size])
            if hold.end_ns <= since_ns:
                break
            found.append(hold)
        return found[::-1]

    def close(self) -> None:
        """Let go of the descriptors; the mappings go with the process."""
        for fd in (*self.fds, *self._read_only):
            os.close(fd)
        self.fds.clear()
        self._read_only.clear()


def identities(fds: Sequence[int]) -> list[list[int]]:
    """Device and inode of descriptors."""
    return [[status.st_dev, status.st_ino] for status in map(os.fstat, fds)]


def _memfd(name: str, size: int) -> int:
    fd = os.memfd_create(f"fastgshare-{name}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.fchmod(fd, 0o600)  # another user who gets it read-only cannot open it again for writing
    os.ftruncate(fd, size)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    return fd


def _address(mapped: mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(mapped))
