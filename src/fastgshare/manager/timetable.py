"""The timetable of one device: seats, their slots, and who borrows what. Publishes it in the device's memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.errors import InvalidValue, NoPlacement, NotFound
from fastgshare.domain.rects import Rect
from fastgshare.domain.shares import Share
from fastgshare.manager import bookkeeping, conduct, layout
from fastgshare.manager.affinity import pin
from fastgshare.manager.books import Books
from fastgshare.manager.cells import Cells, CellsByInstance
from fastgshare.manager.fits import Place, check_fits
from fastgshare.manager.groups import Groups
from fastgshare.manager.members import Member, Seen
from fastgshare.manager.memory import DeviceMemory
from fastgshare.manager.processes import Process
from fastgshare.manager.seats import Received, Seat
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

Heads = list[tuple[Member, layout.PageHead | None]]


class Timetable:
    """All seats of one device. Every method takes `now_ns`; nothing here waits.

    Who comes and goes takes effect with the next `refit`: many may do so at once.
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
        cells: CellsByInstance | None = None,
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
        self._cells = Cells(memory, cells or {})
        self._groups = Groups(device)
        self._verdicts: dict[str, str] = {}
        for index in self._cells.counting:
            self._go_on_with_windows_of(memory.cell(index), now_ns)

    # --- who is there ------------------------------------------------------------------------------------------------

    def admit(self, seat: Seat, now_ns: int) -> None:
        """Let an instance in, or take a known one's share anew (after its owner repeats itself). To be `refit`.

        Raises `InvalidValue` for a process that is not there, cannot be moved to its cores, or is not the known one.
        """
        known = self.seats.get(seat.instance_id)
        if known is not None and known.pid != seat.pid:
            raise InvalidValue("pid", seat.pid, f"{known.pid}, the process of instance {seat.instance_id}")
        if known is not None:
            self._pin(known, seat.rect)
            known.share, known.rect, known.declared = seat.share, seat.rect, seat.declared
            known.group, known.fatal_faults = seat.group, seat.fatal_faults
            for member in known.members:
                self._groups.enter(member.index, known.group)
            known.burst_ns = seat.burst_ns if seat.declared else max(seat.burst_ns, known.burst_ns)
        else:
            self._pin(seat, seat.rect)
            seat.open_processes()
            self.seats[seat.instance_id] = seat
            self._take_inherited(seat, now_ns)

    def check_fits(
        self, changes: Mapping[str, tuple[Share, Rect | None]], group_of: Mapping[str, str] | None = None
    ) -> None:
        """Raise as `fits.check_fits` does unless these changes fit. group_of: trust groups of those that are new."""
        there = {name: Place(seat.share, seat.rect, seat.group) for name, seat in self.seats.items()}
        groups = {name: place.group for name, place in there.items()} | dict(group_of or {})
        wanted = {name: Place(*change, groups.get(name, "")) for name, change in changes.items()}
        check_fits(self.device, wanted, {name: place for name, place in there.items() if name not in wanted})

    def place(self, changes: Mapping[str, tuple[Share, Rect | None]], now_ns: int) -> None:
        """Give instances other shares and rects, at once: all or none. Raises `NotFound` or `InvalidValue`."""
        for instance_id in changes:
            self.seat(instance_id)
        self._book_until(now_ns, now_ns)
        for instance_id, (share, rect) in changes.items():
            seat = self.seats[instance_id]
            seat.share, seat.rect = share, rect
            self._pin(seat, rect)
        self.refit(now_ns)

    def set_burst(self, instance_id: str, burst_ns: int, now_ns: int) -> None:
        """Note an instance's longest burst. Raises `NotFound`."""
        self.seat(instance_id).burst_ns = burst_ns
        self.refit(now_ns)

    def remove(self, instance_id: str, now_ns: int) -> Seat | None:
        """Take an instance off the device, with all its processes; None if it is not there. To be `refit`.

        The caller closes the processes.
        The range of a process that lives on counts until it has returned it.
        """
        seat = self.seats.pop(instance_id, None)
        if seat is None:
            return None
        if seat.fenced:
            self._verdicts = {**dict(list(self._verdicts.items())[-VERDICTS_KEPT:]), instance_id: seat.fenced}
        self._book_seat(seat, self._heads_of(seat), now_ns, now_ns)
        for member in seat.members:
            self._cells.vacate(member.index, now_ns, alive=not member.process.has_ended())
        self.books.forget(instance_id)
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

    def join(self, seat: Seat, process: Process, now_ns: int) -> Member:
        """Let a process of an instance onto the device. To be `refit`. Raises `NoPlacement` if all cells are taken."""
        taken = [member.index for other in self.seats.values() for member in other.members]
        index = self._cells.choose(taken, [other.former for other in self.seats.values()])
        if index is None:
            raise NoPlacement(f"device {self.device.id} has room for {layout.CELLS} processes")
        for other in self.seats.values():
            other.former = -1 if other.former == index else other.former
        return self._enter(seat, process, index, now_ns)

    def leave(self, member: Member, now_ns: int) -> None:
        """Take one process off the device; its instance stays. To be `refit`. The caller closes the process."""
        seat = member.seat
        self._book_whole_windows(now_ns)
        head = self.memory.page(member.index)
        if head is not None:
            span = (self._booked_ns, now_ns)
            seat.departed = seat.departed or Received()
            seat.departed.add(bookkeeping.receive(self.memory, member, head, span, now_ns))
        seat.members.remove(member)
        self._keep_account(seat, member.index)
        self._cells.vacate(member.index, now_ns, alive=not member.process.has_ended())

    def drop_inherited(self, now_ns: int) -> None:
        """Take the cells of a predecessor's instances that nobody has admitted again off the device. To be `refit`."""
        self._cells.drop_inherited(now_ns)

    @property
    def cells(self) -> dict[str, list[tuple[int, int]]]:
        """Who has which cells, for a successor: (pid, cell) of every process, by instance."""
        there = {s.instance_id: [(m.process.pid, m.index) for m in s.members] for s in self._seated()}
        return there | self._cells.inherited

    def _enter(self, seat: Seat, process: Process, index: int, now_ns: int) -> Member:
        if not seat.members and seat.departed is None:
            seat.since_ns = now_ns
        member = Member(seat, process, index, seen=Seen())
        self._groups.enter(index, seat.group)
        seat.members.append(member)
        bookkeeping.open_account(member, self.memory.page(index), now_ns)
        return member

    def _take_inherited(self, seat: Seat, now_ns: int) -> None:
        """The processes that the instance had under a predecessor keep their cells, if they are still there."""
        for pid, index in self._cells.inherited.pop(seat.instance_id, ()):
            try:
                process = Process.open(pid)
            except InvalidValue:
                self._cells.vacate(index, now_ns, alive=False)
                continue
            if seat.includes(process):
                self._enter(seat, process, index, now_ns)
            else:
                process.close()
                self._cells.vacate(index, now_ns, alive=True)

    def _keep_account(self, seat: Seat, left: int) -> None:
        """Of a process that leaves, the cell stays known to the others as long as it has the latest account."""
        present = [member.index for member in seat.members]
        latest = max([*present, left, *([seat.former] if seat.former >= 0 else [])], key=self.memory.account_stamp)
        seat.former = latest if latest not in present and self.memory.account_stamp(latest) else -1

    def _seated(self) -> list[Seat]:
        return [s for s in self.seats.values() if s.members]

    def _pin(self, seat: Seat, rect: Rect | None) -> None:
        if self.device.kind is not DeviceKind.CPU or rect is None:
            return
        for pid in {seat.pid, *(member.process.pid for member in seat.members)}:
            try:
                pin(pid, self.device.sms_of(rect.sm_offset, rect.sm))
            except (OSError, IndexError, OverflowError) as error:
                raise InvalidValue("rect", rect, f"cores that process {pid} may run on ({error})") from error

    # --- what they get -----------------------------------------------------------------------------------------------

    def refit(self, now_ns: int) -> None:
        """Choose the window for the bursts at hand, and publish everything.

        While instances of a predecessor have yet to be admitted again, they follow its windows, so all do.
        """
        needs = [(s.burst_ns, s.share.quota_request) for s in self.seats.values() if s.rect]
        wanted = self._fixed_window or window_for(needs, BASE_WINDOW_NS)
        if wanted != self.window_ns and not self._cells.inherited:
            self._book_until(now_ns, now_ns)
            self._past_windows += self._window_at(now_ns) + 1
            self.window_ns, self.epoch_ns = wanted, now_ns
        self.replan(now_ns)

    def replan(self, now_ns: int) -> None:
        """Lend what is idle to those with work, by what their pages say now, and publish what changed."""
        seated = self._seated()
        for seat in seated:
            seat.wanting = _has_work(self._heads_of(seat))
            seat.timing = seat.timing_in(self.epoch_ns, self.window_ns)
        pinned = self.device.kind is DeviceKind.CPU
        entries = [s.entry(self._groups.number(s.group)) for s in seated]
        loans, self._hungry = plan_loans(entries, self.window_ns, pinned=pinned, turn=self._turn)
        cells_of = {s.members[0].index: s.cells for s in seated}
        strangers = {group: self._groups.strangers(group, self._alive) for group in {s.group for s in seated}}
        for seat in seated:
            lent = loans.get(seat.members[0].index, ())
            seat.loans = tuple(replace(x, lenders=_widened(x.lenders, cells_of)) for x in lent)
            self._publish(seat, strangers[seat.group])
        self.announce(now_ns)

    def _publish(self, seat: Seat, strangers: int) -> None:
        """All processes of an instance are granted the same: who of them holds the token is theirs to settle."""
        flags = layout.ALIVE | (layout.CERTIFIED if seat.rect else 0)
        cell = seat.timing.pack(flags, seat.loans, seat.share.mem_bytes, seat.siblings, strangers)
        for member in seat.members:
            if cell != member.published:
                member.published = cell
                self.memory.publish(member.index, cell)

    def announce(self, now_ns: int) -> None:
        """Give a sign of life, and say who counts and who has work."""
        seated = self._seated()
        self.memory.announce(now_ns, self._alive, sum(s.cells for s in seated if s.wanting), self._hungry)
        self._announced_ns = now_ns

    # --- what is seen ------------------------------------------------------------------------------------------------

    @property
    def _alive(self) -> int:
        """Mask of the cells that count."""
        return sum(s.cells for s in self._seated()) | sum(1 << index for index in self._cells.counting)

    def look(self, now_ns: int) -> None:
        """React to what instances say: plan anew if the set of those with work has changed, fence who misbehaves."""
        self._look_at(self._heads(), now_ns)

    def tick(self, now_ns: int) -> None:
        """Now and then, once a window at least: sign of life, a look at everybody, the ledger, whose turn it is."""
        self.announce(now_ns)
        if self._book_whole_windows(now_ns) and self._hungry and self._window_at(now_ns) % TURN_WINDOWS == 0:
            self._turn += 1
            self.replan(now_ns)
        heads = self._heads()
        self._look_at(heads, now_ns)
        for member, head in heads:
            if head is not None:
                conduct.compare_cpu(member, head, self.device, now_ns)
        self._cells.forget_left(now_ns)

    def next_tick_ns(self, now_ns: int) -> int:
        """When `tick` is due next: at the end of the window, sooner for a sign of life or for who is suspect."""
        end_ns = self.epoch_ns + (self._window_at(now_ns) + 1) * self.window_ns
        odd = (conduct.next_look_ns(member, now_ns) for seat in self._seated() for member in seat.members)
        return min([end_ns, self._announced_ns + SIGN_OF_LIFE_NS, *(at for at in odd if at is not None)])

    def _heads_of(self, seat: Seat) -> Heads:
        return [(member, self.memory.page(member.index)) for member in seat.members]

    def _heads(self) -> Heads:
        return [pair for seat in self._seated() for pair in self._heads_of(seat)]

    def _look_at(self, heads: Heads, now_ns: int) -> None:
        for member, head in heads:
            word = self.memory.word(member.index)
            others = (other for other in heads if other[0].seat is not member.seat)
            blocks = not word.idle and any(
                conduct.blocks_owner(
                    *(member, word, owner, page, now_ns),
                    strangers=self._groups.number(owner.seat.group) != self._groups.number(member.seat.group),
                )
                for owner, page in others
            )
            conduct.watch(member, word, head, blocks, now_ns)
            conduct.end_faulted(member, head)
        learnt = [self._learn_burst(member.seat, head) for member, head in heads if head is not None]
        if any(learnt):
            self.refit(now_ns)
        elif any(_has_work(pages) != seat.wanting for seat, pages in _by_seat(heads)):
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

    def _book_whole_windows(self, now_ns: int) -> bool:
        """Book what has passed of whole windows; whether there was any."""
        end_ns = self.epoch_ns + self._window_at(now_ns) * self.window_ns
        due = end_ns > self._booked_ns
        if due:
            self._book_until(end_ns, now_ns)
        return due

    def _book_until(self, until_ns: int, now_ns: int) -> None:
        for seat in self.seats.values():
            self._book_seat(seat, self._heads_of(seat), until_ns, now_ns)
        self._booked_ns = max(self._booked_ns, until_ns)

    def _book_seat(self, seat: Seat, heads: Heads, until_ns: int, now_ns: int) -> None:
        bookkeeping.book(self.books, self.memory, seat, heads, self._to_book(until_ns), now_ns)

    def _go_on_with_windows_of(self, cell: bytes, now_ns: int) -> None:
        """Go on with a predecessor's windows, as one of its cells has them."""
        _, flags, epoch_ns, window_ns, *_ = layout.CELL_HEAD.unpack_from(cell)
        if flags & layout.ALIVE and window_ns:
            self.epoch_ns, self.window_ns = epoch_ns, window_ns
            self._booked_ns = epoch_ns + self._window_at(now_ns) * window_ns


def _has_work(heads: Iterable[tuple[Member, layout.PageHead | None]]) -> bool:
    return any(head is not None and head.demand for _, head in heads)


def _by_seat(heads: Heads) -> Sequence[tuple[Seat, Heads]]:
    seats = {id(member.seat): member.seat for member, _ in heads}
    return [(seat, [pair for pair in heads if pair[0].seat is seat]) for seat in seats.values()]


def _widened(mask: int, cells_of: Mapping[int, int]) -> int:
    """Of a mask with one cell per instance, the mask of all their processes' cells."""
    return sum(cells for first, cells in cells_of.items() if mask >> first & 1)
