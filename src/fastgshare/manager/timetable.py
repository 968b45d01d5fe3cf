"""The timetable of one device: seats, their slots, and who borrows what. Publishes it in the device's memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.errors import InvalidValue, NoPlacement, NotFound
from fastgshare.domain.rects import Rect
from fastgshare.domain.shares import Share
from fastgshare.manager import bookkeeping, conduct, layout
from fastgshare.manager.affinity import pin
from fastgshare.manager.books import Books
from fastgshare.manager.memory import DeviceMemory
from fastgshare.manager.seats import Seat, Seen
from fastgshare.manager.tokens import plan_loans, window_for

BASE_WINDOW_NS: Final = 40_000_000
TURN_WINDOWS: Final = 4
"""Windows after which another borrower chooses first."""

BURST_GROWTH: Final = 1.25
"""How much longer than known a burst must be to move the timetable."""

LEND_VALID_NS: Final = 200_000_000
"""Borrowers stop when there has been no sign of life for so long."""

SIGN_OF_LIFE_NS: Final = LEND_VALID_NS // 4
VERDICTS_KEPT: Final = 100
LEAVE_NS: Final = 1_000_000_000
"""How long the range of an instance that was taken off the device counts, if it does not return it."""

Heads = list[tuple[Seat, layout.PageHead | None]]


class Timetable:
    """All seats of one device. Every method takes `now_ns`; nothing here waits.

    cells: who had which cell under a predecessor whose memory this is.
    """

    def __init__(
        self,
        device: Device,
        memory: DeviceMemory,
        books: Books,
        window_ns: int | None,
        now_ns: int,
        *,
        cells: Mapping[str, int] | None = None,
    ) -> None:
        self.device = device
        self.memory = memory
        self.books = books
        self.seats: dict[str, Seat] = {}
        self.window_ns = window_ns or BASE_WINDOW_NS
        self.epoch_ns = self._booked_ns = now_ns
        self._fixed_window = window_ns
        self._past_windows = 0
        self._hungry = False
        self._turn = 0
        self._announced_ns = 0
        self._inherited = dict(cells or {})
        self._leaving: dict[int, int] = {}
        self._used: list[int] = []
        self._verdicts: dict[str, str] = {}
        for index in self._inherited.values():
            self._go_on_with_windows_of(memory.cell(index), now_ns)

    # --- who is there ------------------------------------------------------------------------------------------------

    def admit(self, seat: Seat, now_ns: int) -> None:
        """Let an instance in, or take a known one's share anew (after its owner repeats itself).

        Raises `InvalidValue` for a process that is not there, cannot be moved to its cores, or is not the known one.
        """
        known = self.seats.get(seat.instance_id)
        if known is not None and known.pid != seat.pid:
            raise InvalidValue("pid", seat.pid, f"{known.pid}, the process of instance {seat.instance_id}")
        self._pin(seat)
        if known is not None:
            known.share, known.rect, known.declared = seat.share, seat.rect, seat.declared
            known.burst_ns = seat.burst_ns if seat.declared else max(seat.burst_ns, known.burst_ns)
        else:
            seat.open_process()
            self.seats[seat.instance_id] = seat
            if seat.instance_id in self._inherited:
                seat.index = self._inherited.pop(seat.instance_id)
                self._open(seat, now_ns)
        self.refit(now_ns)

    def check_fits(self, changes: Mapping[str, tuple[Share, Rect | None]]) -> None:
        """Raise `NoPlacement` unless these rects and memory caps fit the device beside those of the others.

        `InvalidValue` for a share that the device could not have at all.
        """
        others = {name: (s.share, s.rect) for name, s in self.seats.items() if name not in changes}
        for name, (share, rect) in changes.items():
            self.device.check(share)
            rivals = others | {other: shared for other, shared in changes.items() if other != name}
            taken = [other for other, (_, theirs) in rivals.items() if rect and theirs and rect.overlaps(theirs)]
            if taken:
                raise NoPlacement(f"the rect of {name} overlaps that of {', '.join(sorted(taken))}")
            mem_bytes = share.mem_bytes + sum(theirs.mem_bytes for theirs, _ in rivals.values())
            if self.device.mem_bytes and mem_bytes > self.device.mem_bytes:
                raise NoPlacement(
                    f"with {name} the memory caps on device {self.device.id} sum to {mem_bytes} bytes "
                    f"of {self.device.mem_bytes}"
                )

    def place(self, changes: Mapping[str, tuple[Share, Rect | None]], now_ns: int) -> None:
        """Give instances other shares and rects, at once: all or none. Raises `NotFound` or `InvalidValue`."""
        for instance_id in changes:
            self.seat(instance_id)
        self._book_until(now_ns, now_ns)
        for instance_id, (share, rect) in changes.items():
            seat = self.seats[instance_id]
            seat.share, seat.rect = share, rect
            self._pin(seat)
        self.refit(now_ns)

    def set_burst(self, instance_id: str, burst_ns: int, now_ns: int) -> None:
        """Note an instance's longest burst. Raises `NotFound`."""
        self.seat(instance_id).burst_ns = burst_ns
        self.refit(now_ns)

    def remove(self, instance_id: str, now_ns: int) -> Seat | None:
        """Take an instance off the device; None if it is not there. The caller closes its descriptors.

        If its process lives on, its range counts until it has returned it.
        """
        seat = self.seats.pop(instance_id, None)
        if seat is None:
            return None
        if seat.fenced:
            self._verdicts = {**dict(list(self._verdicts.items())[-VERDICTS_KEPT:]), instance_id: seat.fenced}
        self._book_last(seat, now_ns)
        if seat.index >= 0:
            self._vacate(seat.index, now_ns, alive=not seat.has_ended())
        self.books.forget(instance_id)
        self.refit(now_ns)
        return seat

    def seat(self, instance_id: str) -> Seat:
        """The seat of an instance. Raises `NotFound`."""
        seat = self.seats.get(instance_id)
        if seat is None:
            raise NotFound("instance", instance_id)
        return seat

    def verdict(self, instance_id: str) -> str:
        """Why an instance was ended; "" if it was not."""
        seat = self.seats.get(instance_id)
        return seat.fenced if seat is not None else self._verdicts.get(instance_id, "")

    def take_cell(self, seat: Seat, now_ns: int) -> int:
        """Give a seat a cell: the one that has been out of use for longest. Raises `NoPlacement` if all are taken.

        A process that registers again gets another, since it may have written to the first.
        """
        taken = {s.index for s in self.seats.values()} | {*self._inherited.values(), *self._leaving}
        free = [i for i in range(layout.CELLS) if i not in taken]
        if not free:
            raise NoPlacement(f"device {self.device.id} has room for {layout.CELLS} instances")
        if seat.index >= 0:
            self._vacate(seat.index, now_ns, alive=True)
        seat.index = min(free, key=lambda i: self._used.index(i) if i in self._used else -1)
        self._used = [*(i for i in self._used if i != seat.index), seat.index]
        self.memory.clear_page(seat.index)
        self._open(seat, now_ns)
        self.refit(now_ns)
        return seat.index

    def drop_inherited(self, now_ns: int) -> None:
        """Take the cells of a predecessor's instances that nobody has admitted again off the device."""
        for index in self._inherited.values():
            self._vacate(index, now_ns, alive=True)
        self._inherited.clear()
        self.refit(now_ns)

    @property
    def cells(self) -> dict[str, int]:
        """Who has which cell, for a successor."""
        return {s.instance_id: s.index for s in self._seated()} | self._inherited

    def _open(self, seat: Seat, now_ns: int) -> None:
        seat.published, seat.seen = b"", Seen()
        bookkeeping.open_account(seat, self.memory.page(seat.index), now_ns)

    def _vacate(self, index: int, now_ns: int, *, alive: bool) -> None:
        self.memory.publish(index, layout.EVICTED_CELL)
        if alive and not self.memory.word(index).idle:
            self._leaving[index] = now_ns

    def _seated(self) -> list[Seat]:
        return [s for s in self.seats.values() if s.index >= 0]

    def _pin(self, seat: Seat) -> None:
        if self.device.kind is not DeviceKind.CPU or seat.rect is None:
            return
        try:
            pin(seat.pid, self.device.sms_of(seat.rect.sm_offset, seat.rect.sm))
        except (OSError, IndexError, OverflowError) as error:
            raise InvalidValue("rect", seat.rect, f"cores that process {seat.pid} may run on ({error})") from error

    # --- what they get -----------------------------------------------------------------------------------------------

    def refit(self, now_ns: int) -> None:
        """Choose the window for the bursts at hand, and publish everything.

        While instances of a predecessor have yet to be admitted again, they follow its windows, so all do.
        """
        needs = [(s.burst_ns, s.share.quota_request) for s in self.seats.values() if s.rect]
        wanted = self._fixed_window or window_for(needs, BASE_WINDOW_NS)
        if wanted != self.window_ns and not self._inherited:
            self._book_until(now_ns, now_ns)
            self._past_windows += self._window_at(now_ns) + 1
            self.window_ns, self.epoch_ns = wanted, now_ns
        self.replan(now_ns)

    def replan(self, now_ns: int) -> None:
        """Lend what is idle to those with work, by what their pages say now, and publish what changed."""
        seated = self._seated()
        for seat in seated:
            head = self.memory.page(seat.index)
            seat.wanting = head is not None and head.demand
            seat.timing = seat.timing_in(self.epoch_ns, self.window_ns)
        pinned = self.device.kind is DeviceKind.CPU
        loans, self._hungry = plan_loans([s.entry() for s in seated], self.window_ns, pinned=pinned, turn=self._turn)
        for seat in seated:
            seat.loans = loans.get(seat.index, ())
            flags = layout.ALIVE | (layout.CERTIFIED if seat.rect else 0)
            cell = seat.timing.pack(flags, seat.loans)
            if cell != seat.published:
                seat.published = cell
                self.memory.publish(seat.index, cell)
        self.announce(now_ns)

    def announce(self, now_ns: int) -> None:
        """Give a sign of life, and say who counts and who has work."""
        seated = self._seated()
        counting = {*(s.index for s in seated), *self._inherited.values(), *self._leaving}
        wanting = sum(1 << s.index for s in seated if s.wanting)
        self.memory.announce(now_ns, sum(1 << index for index in counting), wanting, self._hungry)
        self._announced_ns = now_ns

    # --- what is seen ------------------------------------------------------------------------------------------------

    def look(self, now_ns: int) -> None:
        """React to what instances say: plan anew if the set of those with work has changed, fence who misbehaves."""
        self._look_at(self._heads(), now_ns)

    def tick(self, now_ns: int) -> None:
        """Now and then, once a window at least: sign of life, a look at everybody, the ledger, whose turn it is."""
        self.announce(now_ns)
        heads = self._heads()
        window = self._window_at(now_ns)
        if self.epoch_ns + window * self.window_ns > self._booked_ns:
            self._book(heads, self.epoch_ns + window * self.window_ns, now_ns)
            if self._hungry and window % TURN_WINDOWS == 0:
                self._turn += 1
                self.replan(now_ns)
        self._look_at(heads, now_ns)
        for seat, head in heads:
            if head is not None:
                conduct.compare_cpu(seat, head, self.device, now_ns)
        for index, since_ns in list(self._leaving.items()):
            if self.memory.word(index).idle or now_ns - since_ns > LEAVE_NS:
                del self._leaving[index]

    def next_tick_ns(self, now_ns: int) -> int:
        """When `tick` is due next: at the end of the window, sooner for a sign of life or for who is suspect."""
        end_ns = self.epoch_ns + (self._window_at(now_ns) + 1) * self.window_ns
        odd = (conduct.next_look_ns(seat, now_ns) for seat in self._seated())
        return min([end_ns, self._announced_ns + SIGN_OF_LIFE_NS, *(at for at in odd if at is not None)])

    def _heads(self) -> Heads:
        return [(seat, self.memory.page(seat.index)) for seat in self._seated()]

    def _look_at(self, heads: Heads, now_ns: int) -> None:
        for seat, head in heads:
            word = self.memory.word(seat.index)
            others = (other for other in heads if other[0] is not seat)
            blocks = not word.idle and any(
                conduct.blocks_owner(seat, word, owner, page, now_ns) for owner, page in others
            )
            conduct.watch(seat, word, head, blocks, now_ns)
        read = [(seat, head) for seat, head in heads if head is not None]
        learnt = [self._learn_burst(seat, head) for seat, head in read]
        if any(learnt):
            self.refit(now_ns)
        elif any(head.demand != seat.wanting for seat, head in read):
            self.replan(now_ns)

    @staticmethod
    def _learn_burst(seat: Seat, head: layout.PageHead) -> bool:
        """Bursts that were measured may turn out longer; one that was declared is a promise."""
        burst_ns = min(head.longest_burst_ns, seat.longest_learnt_ns)
        longer = not seat.declared and burst_ns > BURST_GROWTH * seat.burst_ns
        if longer:
            seat.burst_ns = burst_ns
        return longer

    # --- the ledger --------------------------------------------------------------------------------------------------

    def _window_at(self, now_ns: int) -> int:
        return (now_ns - self.epoch_ns) // self.window_ns

    def _to_book(self, until_ns: int) -> tuple[int, int, int]:
        """(index, start, end) of what has not been booked: the present window up to a time, or all since, as one."""
        return self._past_windows + self._window_at(self._booked_ns), self._booked_ns, until_ns

    def _book(self, heads: Heads, until_ns: int, now_ns: int) -> None:
        window = self._to_book(until_ns)
        for seat, head in heads:
            if head is not None:
                bookkeeping.book(self.books, self.memory, seat, head, window, now_ns)
        self._booked_ns = max(self._booked_ns, until_ns)

    def _book_until(self, until_ns: int, now_ns: int) -> None:
        self._book(self._heads(), until_ns, now_ns)

    def _book_last(self, seat: Seat, now_ns: int) -> None:
        head = self.memory.page(seat.index) if seat.index >= 0 else None
        if head is not None:
            bookkeeping.book(self.books, self.memory, seat, head, self._to_book(now_ns), now_ns)

    def _go_on_with_windows_of(self, cell: bytes, now_ns: int) -> None:
        """Go on with a predecessor's windows, as one of its cells has them."""
        _, flags, epoch_ns, window_ns, *_ = layout.CELL_HEAD.unpack_from(cell)
        if flags & layout.ALIVE and window_ns:
            self.epoch_ns, self.window_ns = epoch_ns, window_ns
            self._booked_ns = epoch_ns + self._window_at(now_ns) * window_ns
