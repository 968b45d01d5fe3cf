"""The timetable of one device: seats, their slots, and who borrows what. Publishes it in the device's memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.errors import InvalidValue, NoPlacement, NotFound
from fastgshare.domain.ledger import LedgerEntry
from fastgshare.domain.rects import Rect
from fastgshare.domain.shares import Share
from fastgshare.domain.units import seconds
from fastgshare.manager import layout
from fastgshare.manager.affinity import pin
from fastgshare.manager.books import Books, received_in
from fastgshare.manager.memory import DeviceMemory
from fastgshare.manager.seats import Checked, Seat, outside
from fastgshare.manager.tokens import plan_loans, window_for

BASE_WINDOW_NS: Final = 40_000_000
TURN_WINDOWS: Final = 4
"""Windows after which another borrower chooses first."""

BURST_GROWTH: Final = 1.25
"""How much longer than known a burst must be to move the timetable."""

STARVED_WINDOWS: Final = 50
"""Windows after which an instance that gets no CPU is ended like one that hangs."""

CPU_CHECK_NS: Final = 500_000_000
CPU_TOLERANCE: Final = 0.5
"""Cores that an instance may use outside its tokens: its server, reading and writing requests."""


class Timetable:
    """All seats of one device. Every method takes `now_ns`; nothing here waits."""

    def __init__(self, device: Device, memory: DeviceMemory, books: Books, window_ns: int | None, now_ns: int) -> None:
        self.device = device
        self.memory = memory
        self.books = books
        self.seats: dict[str, Seat] = {}
        self.window_ns = window_ns or BASE_WINDOW_NS
        self.epoch_ns = now_ns
        self._fixed_window = window_ns
        self._hungry = False
        self._turn = 0
        self._booked_window = 0
        self._inherited = memory.alive
        self._used: list[int] = []

    # --- who is there ------------------------------------------------------------------------------------------------

    def admit(self, seat: Seat, now_ns: int) -> None:
        """Let an instance in, or take a known one's share anew (after this daemon was restarted)."""
        known = self.seats.get(seat.instance_id)
        if known is None:
            seat.open_process()
            self.seats[seat.instance_id] = seat
        elif known.pid != seat.pid:
            raise InvalidValue("pid", seat.pid, f"{known.pid}, the process of instance {seat.instance_id}")
        else:
            known.share, known.rect = seat.share, seat.rect
            known.burst_ns, known.declared = seat.burst_ns, seat.declared
        self._pin(self.seats[seat.instance_id])
        self.refit(now_ns)

    def place(self, changes: Mapping[str, tuple[Share, Rect | None]], now_ns: int) -> None:
        """Give instances other shares and rects, at once. Unknown ids change nothing. Raises `NotFound`."""
        for instance_id in changes:
            self.seat(instance_id)
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
        """Take an instance off the device; None if it is not there. The caller closes its descriptors."""
        seat = self.seats.pop(instance_id, None)
        if seat is not None:
            if seat.index >= 0:
                self.memory.publish(seat.index, layout.EMPTY_CELL)
            self.books.forget(instance_id)
            self.refit(now_ns)
        return seat

    def seat(self, instance_id: str) -> Seat:
        """The seat of an instance. Raises `NotFound`."""
        seat = self.seats.get(instance_id)
        if seat is None:
            raise NotFound("instance", instance_id)
        return seat

    def take_cell(self, seat: Seat, now_ns: int) -> int:
        """Give a seat a cell: the one that has been out of use for longest. Raises `NoPlacement` if all are taken."""
        taken = {s.index for s in self.seats.values()} | {i for i in range(layout.CELLS) if self._inherited >> i & 1}
        free = [i for i in range(layout.CELLS) if i not in taken]
        if not free:
            raise NoPlacement(f"device {self.device.id} has room for {layout.CELLS} instances")
        seat.index = min(free, key=lambda i: self._used.index(i) if i in self._used else -1)
        self._used = [*(i for i in self._used if i != seat.index), seat.index]
        self.memory.clear_page(seat.index)
        self.occupy(seat, now_ns)
        return seat.index

    def occupy(self, seat: Seat, now_ns: int) -> None:
        """A seat has got its cell: start its books where its page stands, and publish."""
        head = self.memory.page(seat.index)
        if head is not None:
            seat.booked_demand_ns = head.demand_at(now_ns)
        seat.booked_cpu_ns = seat.cpu_ns()
        seat.checked = Checked()
        self._inherited &= ~(1 << seat.index)
        self.refit(now_ns)

    def drop_inherited(self, now_ns: int) -> None:
        """Forget the cells of a predecessor whose instances did not come back."""
        self._inherited = 0
        self.announce(now_ns)

    # --- what they get -----------------------------------------------------------------------------------------------

    def refit(self, now_ns: int) -> None:
        """Choose the window for the bursts at hand, and publish everything."""
        needs = [(s.burst_ns, s.share.quota_request) for s in self.seats.values() if s.rect]
        wanted = self._fixed_window or window_for(needs, BASE_WINDOW_NS)
        if wanted != self.window_ns:
            self._book(self._heads(), now_ns, now_ns)
            self.window_ns, self.epoch_ns, self._booked_window = wanted, now_ns, 0
        self.replan(now_ns)

    def replan(self, now_ns: int) -> None:
        """Lend what is idle to those with work, by what their pages say now, and publish what changed."""
        seated = self._seated()
        for seat in seated:
            head = self.memory.page(seat.index)
            seat.wanting = head is not None and head.demand
            seat.timing = seat.timing_in(self.epoch_ns, self.window_ns)
        pinned = self.device.kind is DeviceKind.CPU
        entries = [s.entry() for s in seated]
        loans, self._hungry = plan_loans(entries, self.window_ns, pinned=pinned, turn=self._turn)
        for seat in seated:
            seat.loans = loans.get(seat.index, ())
            flags = layout.ALIVE | (layout.CERTIFIED if seat.rect else 0)
            cell = seat.timing.pack(flags, seat.loans)
            if cell != seat.published:
                seat.published = cell
                self.memory.publish(seat.index, cell)
        self.announce(now_ns)

    def _seated(self) -> list[Seat]:
        return [s for s in self.seats.values() if s.index >= 0]

    def announce(self, now_ns: int) -> None:
        """Give a sign of life."""
        seated = self._seated()
        alive = sum(1 << s.index for s in seated) | self._inherited
        wanting = sum(1 << s.index for s in seated if s.wanting)
        self.memory.announce(now_ns, alive, wanting, self._hungry)

    # --- what is seen ------------------------------------------------------------------------------------------------

    def look(self, now_ns: int) -> None:
        """React to what instances say: plan anew if the set of those with work has changed, suspect who overruns."""
        self._judge(self._heads(), now_ns)

    def tick(self, now_ns: int) -> None:
        """Once a window: sign of life, ledger, whose turn it is, who computes without a token."""
        window = (now_ns - self.epoch_ns) // self.window_ns
        self.announce(now_ns)
        heads = self._heads()
        if window > self._booked_window:
            self._book(heads, self.epoch_ns + window * self.window_ns, now_ns)
            self._booked_window = window
            if self._hungry and window % TURN_WINDOWS == 0:
                self._turn += 1
                self.replan(now_ns)
        self._judge(heads, now_ns)
        if self.device.kind is DeviceKind.CPU:
            for seat, head in heads:
                self._compare_cpu(seat, head, now_ns)

    def _heads(self) -> list[tuple[Seat, layout.PageHead]]:
        read = ((seat, self.memory.page(seat.index)) for seat in self._seated())
        return [(seat, head) for seat, head in read if head is not None]

    def _judge(self, heads: Sequence[tuple[Seat, layout.PageHead]], now_ns: int) -> None:
        for seat, head in heads:
            self._suspect(seat, head, now_ns)
        learnt = [self._learn_burst(seat, head) for seat, head in heads]
        if any(learnt):
            self.refit(now_ns)
        elif any(head.demand != seat.wanting for seat, head in heads):
            self.replan(now_ns)

    def next_tick_ns(self, now_ns: int) -> int:
        """When `tick` is due next: at the end of the window."""
        return self.epoch_ns + ((now_ns - self.epoch_ns) // self.window_ns + 1) * self.window_ns

    @property
    def suspicious(self) -> bool:
        """Whether somebody is under suspicion, so that looking more often is worth it."""
        return any(s.suspect_since_ns and not s.fenced for s in self.seats.values())

    def adopt_window(self, cell: bytes) -> None:
        """Go on with a predecessor's windows, as one of its cells has them."""
        if not self.seats:
            _, _, self.epoch_ns, self.window_ns, *_ = layout.CELL_HEAD.unpack_from(cell)

    def _book(self, heads: Sequence[tuple[Seat, layout.PageHead]], end_ns: int, now_ns: int) -> None:
        """Book what has passed since the last booking, up to `end_ns`."""
        start_ns = self.epoch_ns + self._booked_window * self.window_ns
        if end_ns > start_ns:
            for seat, head in heads:
                self._book_seat(seat, head, start_ns, end_ns, now_ns)

    def _book_seat(self, seat: Seat, head: layout.PageHead, start_ns: int, end_ns: int, now_ns: int) -> None:
        holds = self.memory.holds(seat.index, head, start_ns)
        if head.holding:
            holds.append(layout.Hold(head.hold_start_ns, now_ns, head.hold_is_loan))
        held, lent = received_in(holds, start_ns, end_ns)
        span_ns, cpu_ns = end_ns - start_ns, seat.cpu_ns()
        demand_ns = min(span_ns, head.demand_at(now_ns) - seat.booked_demand_ns)  # what is more belongs to the next
        entry = LedgerEntry(
            *(self._booked_window, seconds(start_ns), seconds(span_ns), seat.instance_id, seat.share.sm_partition),
            *(seat.share.quota_request * seconds(span_ns), seconds(held), seconds(lent)),
            *(seconds(demand_ns), seconds(cpu_ns - seat.booked_cpu_ns)),
        )
        seat.booked_demand_ns += demand_ns
        seat.booked_cpu_ns = cpu_ns
        self.books.add(entry)

    @staticmethod
    def _learn_burst(seat: Seat, head: layout.PageHead) -> bool:
        """Bursts that were measured may turn out longer; one that was declared is a promise."""
        longer = not seat.declared and head.longest_burst_ns > BURST_GROWTH * seat.burst_ns
        if longer:
            seat.burst_ns = head.longest_burst_ns
        return longer

    def _suspect(self, seat: Seat, head: layout.PageHead, now_ns: int) -> None:
        if seat.fenced or not outside(seat, now_ns):
            return
        if not head.holding:
            seat.suspect_since_ns = 0
        elif not seat.suspect_since_ns:
            seat.suspect_since_ns, seat.suspect_cpu_ns = now_ns, seat.cpu_ns()
        elif now_ns - seat.suspect_since_ns >= self.window_ns and not self._is_starved(seat, now_ns):
            seat.kill("at work for more than a window beyond its time and its longest burst")

    def _is_starved(self, seat: Seat, now_ns: int) -> bool:
        """Whether it could not stop because the machine is too busy to run it: for a while that is not its fault."""
        ran_ns = seat.cpu_ns() - seat.suspect_cpu_ns
        long_ago = now_ns - seat.suspect_since_ns > STARVED_WINDOWS * self.window_ns
        return not long_ago and ran_ns < self.window_ns // 2 and seat.wants_cpu()

    def _compare_cpu(self, seat: Seat, head: layout.PageHead, now_ns: int) -> None:
        """Fence who computes without a token: twice in a row, more CPU time than its tokens and its server explain."""
        last = seat.checked
        if seat.fenced or head.grants == 0 or now_ns - last.at_ns < CPU_CHECK_NS:
            return  # without a grant yet it is still loading
        held, cpu = head.held_at(now_ns), seat.cpu_ns()
        seat.checked = Checked(now_ns, cpu, held)
        if not last.at_ns:
            return
        cores = max(1, round(seat.share.sm_partition / self.device.sm_step))
        explained = (held - last.held_ns) * cores + CPU_TOLERANCE * (now_ns - last.at_ns)
        strikes = last.strikes + 1 if cpu - last.cpu_ns > explained else 0
        seat.checked = replace(seat.checked, strikes=strikes)
        if strikes >= 2:
            seat.kill("computes without holding a token")

    def _pin(self, seat: Seat) -> None:
        if self.device.kind is DeviceKind.CPU and seat.rect is not None:
            pin(seat.pid, self.device.sms_of(seat.rect.sm_offset, seat.rect.sm))
