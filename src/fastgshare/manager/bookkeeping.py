"""Bookkeeping: from what instances' pages say to entries of the ledger, window by window."""

from __future__ import annotations

from fastgshare.domain.ledger import LedgerEntry
from fastgshare.domain.units import seconds
from fastgshare.manager import layout
from fastgshare.manager.books import Books, received_in
from fastgshare.manager.memory import DeviceMemory
from fastgshare.manager.seats import Booked, Seat


def open_account(seat: Seat, head: layout.PageHead | None, now_ns: int) -> None:
    """Start counting where an instance's page stands now."""
    seat.booked = Booked(now_ns, head.demand_at(now_ns) if head else 0, seat.cpu_ns())


def book(
    books: Books, memory: DeviceMemory, seat: Seat, head: layout.PageHead, window: tuple[int, int, int], now_ns: int
) -> None:
    """Book one instance for window = (index, start_ns, end_ns), or what of it it was there for."""
    index, start_ns, end_ns = window
    start_ns = max(start_ns, seat.booked.since_ns)
    if end_ns <= start_ns:
        return
    holds = memory.holds(seat.index, head, start_ns)
    if head.holding and (not holds or head.hold_start_ns > holds[-1].start_ns):
        holds.append(layout.Hold(head.hold_start_ns, now_ns, head.hold_is_loan))
    held, lent = received_in(holds, start_ns, end_ns)
    span_ns, cpu_ns = end_ns - start_ns, seat.cpu_ns()
    demand_ns = max(0, min(span_ns, head.demand_at(now_ns) - seat.booked.demand_ns))  # more belongs to the next
    books.add(
        LedgerEntry(
            *(index, seconds(start_ns), seconds(span_ns), seat.instance_id, seat.share.sm_partition),
            *(seat.share.quota_request * seconds(span_ns), seconds(held), seconds(lent)),
            *(seconds(demand_ns), seconds(max(0, cpu_ns - seat.booked.cpu_ns))),
        )
    )
    seat.booked.demand_ns += demand_ns
    seat.booked.cpu_ns = cpu_ns
