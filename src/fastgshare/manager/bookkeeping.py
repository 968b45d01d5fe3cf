"""Bookkeeping: from what processes' pages say to entries of the ledger, one per instance and window."""

from __future__ import annotations

from collections.abc import Sequence

from fastgshare.domain.ledger import LedgerEntry
from fastgshare.domain.units import seconds
from fastgshare.manager import layout
from fastgshare.manager.books import Books, received_in
from fastgshare.manager.members import Booked, Member
from fastgshare.manager.memory import DeviceMemory
from fastgshare.manager.seats import Received, Seat

Heads = Sequence[tuple[Member, layout.PageHead | None]]


def open_account(member: Member, head: layout.PageHead | None, now_ns: int) -> None:
    """Start counting where a process's page stands now."""
    member.booked = Booked(now_ns, head.demand_at(now_ns) if head else 0, member.cpu_ns())


def book(
    books: Books, memory: DeviceMemory, seat: Seat, heads: Heads, window: tuple[int, int, int], now_ns: int
) -> None:
    """Book one instance for window = (index, start_ns, end_ns), or what of it it was there for."""
    index, start_ns, end_ns = window
    start_ns = max(start_ns, seat.since_ns)
    there = [(member, head) for member, head in heads if head is not None]
    if end_ns <= start_ns or (not there and seat.departed is None):
        return
    received, seat.departed = seat.departed or Received(), None
    for member, head in there:
        received.add(receive(memory, member, head, (start_ns, end_ns), now_ns))
    span_ns = end_ns - start_ns
    books.add(
        LedgerEntry(
            *(index, seconds(start_ns), seconds(span_ns), seat.instance_id, seat.share.sm_partition),
            *(seat.share.quota_request * seconds(span_ns), seconds(received.held_ns), seconds(received.lent_ns)),
            *(seconds(min(span_ns, received.demand_ns)), seconds(received.cpu_ns)),
        )
    )


def receive(
    memory: DeviceMemory, member: Member, head: layout.PageHead, span: tuple[int, int], now_ns: int
) -> Received:
    """What a process received within span = (start_ns, end_ns), or what of it it was there for; counts it as booked."""
    start_ns, end_ns = max(span[0], member.booked.since_ns), span[1]
    holds = memory.holds(member.index, head, start_ns)
    if head.holding and (not holds or head.hold_start_ns > holds[-1].start_ns):
        holds.append(layout.Hold(head.hold_start_ns, now_ns, head.hold_is_loan))
    held_ns, lent_ns = received_in(holds, start_ns, end_ns)
    # More than the span belongs to the next.
    demand_ns = max(0, min(end_ns - start_ns, head.demand_at(now_ns) - member.booked.demand_ns))
    cpu_ns = member.cpu_ns()
    received = Received(held_ns, lent_ns, demand_ns, max(0, cpu_ns - member.booked.cpu_ns))
    member.booked.demand_ns += demand_ns
    member.booked.cpu_ns = cpu_ns
    return received
