"""Conduct: does an instance keep to its time? Who does not is fenced.

Evidence is what the daemon sees by itself. What an instance's page says can only clear or accuse that instance.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.manager import layout
from fastgshare.manager.members import Member
from fastgshare.manager.tokens import Loan

LATE_NS: Final = 1_000_000
"""How late a sleeper may wake up without being suspected."""

STARVED_WINDOWS: Final = 50
"""Windows after which an instance that gets no CPU is ended like one that hangs."""

CPU_CHECK_NS: Final = 500_000_000
CPU_TOLERANCE: Final = 0.5
"""Cores that an instance may use outside its tokens: its server, reading and writing requests."""

LOOKS_PER_WINDOW: Final = 8
FAULT: Final = "its work on the device has failed for good, by the driver's error"
"""How the verdict on a fault begins; the error's number follows."""

_HANGS: Final = "one burst is at work for more than a window beyond its time and its longest burst; declare burst_ms"


def watch(member: Member, word: layout.Word, head: layout.PageHead | None, blocks: bool, now_ns: int) -> None:
    """Look at an instance once, and fence it if it hangs, lies about its range, or keeps others from their slots.

    word: its state and range, read by itself; head: the rest of its page, None if it cannot be read as a whole.
    blocks: see `blocks_owner`.
    """
    if member.fenced:
        return
    seen, window_ns = member.seen, member.seat.timing.window_ns
    seen.granted |= head is not None and head.grants > 0
    if head is not None:
        seen.unreadable_ns = 0
    elif not seen.unreadable_ns:
        _begin(member, "unreadable_ns", now_ns)
    if word.idle:
        seen.unchanged_ns = seen.blocks_ns = 0
    else:
        _watch_work(member, head, blocks, now_ns)
    if word.sm_hi - word.sm_lo > member.seat.timing.sm + 1:
        member.kill(f"claims {word.sm_hi - word.sm_lo} milli-percent of the SMs, more than its share")
    elif seen.unreadable_ns and now_ns - seen.unreadable_ns > window_ns + LATE_NS and not _starved(member, now_ns):
        member.kill("its page has been unreadable for a window")
    elif seen.unchanged_ns and now_ns >= _due(member) and not _starved(member, now_ns):
        member.kill(_HANGS)
    elif blocks and now_ns - seen.blocks_ns >= window_ns and not _starved(member, now_ns):
        member.kill("has kept others from their slots for a window")


def end_faulted(member: Member, head: layout.PageHead | None) -> None:
    """Fence who says that its work on the device has failed for good, if that is what its owner wants."""
    if head is not None and head.fault and member.seat.fatal_faults and not member.fenced:
        member.kill(f"{FAULT} {head.fault}")


def next_look_ns(member: Member, now_ns: int) -> int | None:
    """When to look at an instance again if something is odd about it; None: at the next tick."""
    seen = member.seen
    if member.fenced:
        return None
    if seen.blocks_ns or seen.unreadable_ns:
        return now_ns + member.seat.timing.window_ns // LOOKS_PER_WINDOW
    return max(_due(member), now_ns + LATE_NS) if seen.unchanged_ns else None


def blocks_owner(
    member: Member,
    word: layout.Word,
    owner: Member,
    owner_head: layout.PageHead | None,
    now_ns: int,
    *,
    strangers: bool = False,
) -> bool:
    """Whether `member` is at work on SMs whose slot is another's, who has work and has waited longer than it must.

    strangers: they are of different trust groups, so that any SMs are in the owner's way. Outside of that an instance
    may well be at work beyond its slot: in what nobody needs.
    """
    slot = owner.seat.timing
    apart = not strangers and (word.sm_hi <= slot.sm_offset or slot.sm_offset + slot.sm <= word.sm_lo)
    if word.idle or apart or owner_head is None or not owner_head.demand or owner_head.passed_until_ns > now_ns:
        return False
    open_ns = (now_ns - slot.epoch_ns - slot.slot_start_ns) % slot.window_ns
    return member.seat.hang_ns + LATE_NS < open_ns < slot.slot_end_ns - slot.slot_start_ns


def _watch_work(member: Member, head: layout.PageHead | None, blocks: bool, now_ns: int) -> None:
    """It is at work: since when on the same burst, and does it keep an owner waiting?"""
    seen = member.seen
    burst = (head.grants, head.burst_start_ns) if head else seen.burst
    if burst != seen.burst or not seen.unchanged_ns:
        seen.burst = burst
        began_ns = head.burst_start_ns if head else now_ns
        _begin(member, "unchanged_ns", min(now_ns, max(began_ns, now_ns - member.seat.timing.window_ns)))
    if blocks:
        if not seen.blocks_ns:
            _begin(member, "blocks_ns", now_ns)
        seen.blocks_last_ns = now_ns
    elif now_ns - seen.blocks_last_ns > 2 * member.seat.timing.window_ns:
        seen.blocks_ns = 0


def _begin(member: Member, since: str, now_ns: int) -> None:
    setattr(member.seen, since, now_ns)
    member.seen.cpu_ns = member.cpu_ns()


def _due(member: Member) -> int:
    """By when a burst that was seen to begin has to have changed: its longest time, its overrun, and a window."""
    longest = max((end - start for start, end in _intervals(member.seat.loans, member.seat.timing)), default=0)
    return member.seen.unchanged_ns + longest + member.seat.hang_ns + member.seat.timing.window_ns


def _intervals(loans: Iterable[Loan], timing: layout.Timing) -> list[tuple[int, int]]:
    return [(timing.slot_start_ns, timing.slot_end_ns), *((x.start_ns, x.until_ns) for x in loans)]


def _starved(member: Member, now_ns: int) -> bool:
    """Whether it could not stop because the machine is too busy to run it: for a while that is not its fault."""
    seen, window_ns = member.seen, member.seat.timing.window_ns
    since = min(t for t in (seen.unchanged_ns, seen.blocks_ns, seen.unreadable_ns, now_ns) if t)
    long_ago = now_ns - since > STARVED_WINDOWS * window_ns + member.seat.hang_ns
    return not long_ago and member.cpu_ns() - seen.cpu_ns < window_ns // 2 and member.process.wants_cpu()


def compare_cpu(member: Member, head: layout.PageHead, device: Device, now_ns: int) -> None:
    """On the CPU: fence who computes without a token, twice in a row more than its tokens and its server explain."""
    seen = member.seen
    due = now_ns - seen.checked_ns >= CPU_CHECK_NS
    if device.kind is not DeviceKind.CPU or member.fenced or not seen.granted or not due:
        return  # without a grant yet it is still loading
    held, cpu = head.held_at(now_ns), member.cpu_ns()
    elapsed, first = now_ns - seen.checked_ns, not seen.checked_ns
    could_hold = round(elapsed * member.seat.share.quota_limit) + member.seat.hang_ns
    cores = max(1, round(member.seat.share.sm_partition / device.sm_step))
    explained = min(held - seen.checked_held_ns, could_hold) * cores
    excess = cpu - seen.checked_cpu_ns - explained - CPU_TOLERANCE * elapsed
    seen.checked_ns, seen.checked_cpu_ns, seen.checked_held_ns = now_ns, cpu, held
    if first:
        return
    seen.strikes = seen.strikes + 1 if excess > 0 else 0
    if seen.strikes >= 2:
        member.kill("computes without holding a token")
