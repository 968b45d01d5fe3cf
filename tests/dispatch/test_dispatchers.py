from __future__ import annotations

import math

import pytest

from fastgshare.dispatch.dispatchers import MAX_BATCH_BYTES, Dispatcher
from fastgshare.dispatch.outcomes import (
    Accepted,
    Assignment,
    IllegalTransition,
    Outcome,
    Refusal,
    Refused,
    Unserved,
)
from fastgshare.domain.functions import Batching
from fastgshare.domain.requests import Request


def request(id: int, *, at: float = 0.0, timeout_s: float = 60.0, body: bytes = b"") -> Request:
    return Request(id=id, function_name="f", body=body, arrived_s=at, deadline_s=at + timeout_s)


def dispatcher(*instances: str, queue_size: int = 100, max_size: int = 1, max_wait_s: float = 0.0) -> Dispatcher:
    made = Dispatcher(queue_size=queue_size, batching=Batching(max_size, max_wait_s))
    for instance in instances:
        made.instance_ready(instance)
    return made


def offer(to: Dispatcher, *ids: int, at: float = 0.0, timeout_s: float = 60.0) -> None:
    for id in ids:
        assert to.offer(request(id, at=at, timeout_s=timeout_s), at) == Accepted()


def batches(actions: list[Assignment | Unserved]) -> list[tuple[str, list[int]]]:
    return [(a.instance_id, [r.id for r in a.requests]) for a in actions if isinstance(a, Assignment)]


def endings(actions: list[Assignment | Unserved]) -> list[tuple[int, Outcome]]:
    return [(a.request.id, a.outcome) for a in actions if isinstance(a, Unserved)]


def only(actions: list[Assignment | Unserved]) -> Assignment:
    (action,) = actions
    assert isinstance(action, Assignment)
    return action


def test_a_lone_request_on_an_idle_instance_goes_at_once() -> None:
    d = dispatcher("a", max_size=8)
    offer(d, 1)
    assert batches(d.poll(0.0)) == [("a", [1])]
    assert d.poll(0.0) == []


def test_a_batch_waits_for_company_no_longer_than_it_may() -> None:
    d = dispatcher("a", max_size=3, max_wait_s=0.01)
    offer(d, 1, at=0.0)
    offer(d, 2, at=0.005)
    assert d.poll(0.005) == []
    assert d.next_wakeup_s() == 0.01
    assert batches(d.poll(0.01)) == [("a", [1, 2])]


def test_a_full_batch_does_not_wait() -> None:
    d = dispatcher("a", max_size=2, max_wait_s=5.0)
    offer(d, 1, 2, 3)
    assert batches(d.poll(0.0)) == [("a", [1, 2])]
    assert d.next_wakeup_s() == 5.0


def test_who_has_no_time_to_wait_for_company_does_not_wait() -> None:
    d = dispatcher("a", max_size=4, max_wait_s=5.0)
    offer(d, 1, timeout_s=1.0)
    assert batches(d.poll(0.0)) == [("a", [1])]


def test_the_longest_waiting_decides_when_a_batch_is_due_whoever_is_first_in_line() -> None:
    d = dispatcher("a", max_size=3, max_wait_s=0.1)
    offer(d, 1, at=0.0)
    offer(d, 2, at=0.09, timeout_s=0.2)
    assert d.next_wakeup_s() == 0.1
    assert batches(d.poll(0.1)) == [("a", [2, 1])]


def test_at_most_two_batches_an_instance() -> None:
    d = dispatcher("a")
    offer(d, 1, 2, 3)
    first, second = d.poll(0.0)
    assert batches([first, second]) == [("a", [1]), ("a", [2])]
    assert isinstance(first, Assignment)
    assert [r.id for r in d.done(first.batch_id, 1.0)] == [1]
    assert batches(d.poll(1.0)) == [("a", [3])]


def test_the_least_loaded_instance_is_next_and_equals_take_turns() -> None:
    d = dispatcher("a", "b", max_size=2)
    offer(d, 1, 2, 3)
    assert batches(d.poll(0.0)) == [("a", [1, 2]), ("b", [3])]
    offer(d, 4)
    assert batches(d.poll(0.0)) == [("b", [4])]
    d = dispatcher("a", "b")
    seen = []
    for id in range(4):
        offer(d, id)
        assignment = only(d.poll(0.0))
        seen.append(assignment.instance_id)
        d.done(assignment.batch_id, 0.0)
    assert seen == ["a", "b", "a", "b"]


def test_earlier_deadlines_overtake_but_only_within_the_patience() -> None:
    d = Dispatcher(queue_size=9, batching=Batching(max_size=9), patience_s=1.0)
    d.expect(True)
    offer(d, 1, at=0.0, timeout_s=60)
    offer(d, 2, at=0.2, timeout_s=0.5)
    offer(d, 3, at=0.4, timeout_s=0.5)
    offer(d, 4, at=0.6, timeout_s=0.5)
    d.instance_ready("a")
    assert batches(d.poll(0.6)) == [("a", [2, 3, 1, 4])]


def test_a_batch_stays_within_its_bytes_and_a_larger_request_travels_alone() -> None:
    d = dispatcher("a", "b", max_size=8)
    half = bytes(MAX_BATCH_BYTES // 2)
    for id, body in enumerate([half, half, half, half + half + b"x", b"small"]):
        d.offer(request(id, body=body), 0.0)
    assert [b for _, b in batches(d.poll(0.0))] == [[0, 1], [2], [3], [4]]


def test_beyond_the_queue_a_request_is_refused_with_the_time_the_queue_takes() -> None:
    d = dispatcher("a", queue_size=2)
    offer(d, 1, 2)
    first, second = d.poll(0.0)
    assert isinstance(first, Assignment) and isinstance(second, Assignment)
    offer(d, 3, 4)
    refused = d.offer(request(5), 0.0)
    assert refused == Refused(Refusal.QUEUE_FULL, 1.0)
    d.done(first.batch_id, 0.5)
    d.poll(0.5)
    d.done(second.batch_id, 1.0)
    d.poll(1.0)
    offer(d, 5, 6)
    refused = d.offer(request(7), 1.0)
    assert isinstance(refused, Refused)
    assert refused.retry_after_s == pytest.approx(1.0, rel=0.1)


def test_the_deadline_ends_a_request_in_the_queue_and_at_an_instance() -> None:
    d = dispatcher("a", queue_size=9)
    offer(d, 1, 2, 3, timeout_s=1.0)
    assert len(batches(d.poll(0.0))) == 2
    assert d.next_wakeup_s() == 1.0
    assert sorted(endings(d.poll(1.0))) == [(1, Outcome.EXPIRED), (2, Outcome.EXPIRED), (3, Outcome.EXPIRED)]
    assert d.done(1, 1.5) == ()
    assert d.next_wakeup_s() is None


def test_without_an_instance_it_is_refused_unless_one_is_coming() -> None:
    d = dispatcher()
    assert d.offer(request(1), 0.0) == Refused(Refusal.NO_INSTANCE, 1.0)
    d.expect(True)
    offer(d, 1, 2)
    assert d.poll(0.0) == []
    d.instance_ready("a")
    assert batches(d.poll(0.1)) == [("a", [1]), ("a", [2])]


def test_who_waits_for_an_instance_is_told_when_none_is_coming_any_more() -> None:
    d = dispatcher()
    d.expect(True)
    offer(d, 1)
    assert d.next_wakeup_s() == 60.0
    d.expect(False)
    assert d.next_wakeup_s() == -math.inf
    assert endings(d.poll(0.1)) == [(1, Outcome.NO_INSTANCE)]


def test_a_lost_batch_is_retried_at_the_head_one_by_one_and_then_given_up() -> None:
    d = dispatcher("a", max_size=2)
    d.expect(True)
    offer(d, 1, 2)
    only(d.poll(0.0))
    offer(d, 3)
    d.instance_gone("a", 0.1)
    d.instance_ready("b")
    assert batches(d.poll(0.1)) == [("b", [1]), ("b", [2])]
    assert d.snapshot(0.1).retried == 2
    d.instance_gone("b", 0.2)
    assert endings(d.poll(0.2)) == [(1, Outcome.LOST)]
    d.instance_ready("c")
    assert batches(d.poll(0.2)) == [("c", [2]), ("c", [3])]


def test_a_batch_behind_the_lost_one_had_not_begun() -> None:
    d = dispatcher("a", max_size=2)
    d.expect(True)
    offer(d, 1, 2, 3, 4)
    assert len(d.poll(0.0)) == 2
    d.instance_gone("a", 0.0)
    d.instance_ready("b")
    d.instance_ready("c")
    assert batches(d.poll(0.0)) == [("b", [1]), ("c", [2]), ("b", [3, 4])]


def test_what_was_lost_once_joins_no_batch_of_others() -> None:
    d = dispatcher("a", max_size=3)
    d.expect(True)
    offer(d, 1)
    d.poll(0.0)
    offer(d, 2, 3, 4)
    d.poll(0.0)
    d.instance_gone("a", 0.0)
    offer(d, 5)
    d.instance_ready("b")
    assert batches(d.poll(0.0)) == [("b", [1]), ("b", [2, 3, 4])]
    d.instance_gone("b", 0.0)
    assert endings(d.poll(0.0)) == [(1, Outcome.LOST)]
    d.instance_ready("c")
    offer(d, 6)
    (first, second) = d.poll(0.0)
    assert batches([first, second]) == [("c", [2, 3, 4]), ("c", [5, 6])]
    d.instance_gone("c", 0.0)
    d.instance_ready("d")
    assert batches(d.poll(0.0)) == [("d", [2]), ("d", [3])]


def test_an_innocent_batch_ends_before_one_that_was_lost() -> None:
    d = dispatcher("a", "b", max_size=3)
    d.expect(True)
    for id in (1, 2, 3, 4):
        offer(d, id)
        d.poll(0.0)
    d.instance_gone("a", 0.0)
    d.instance_gone("b", 0.0)
    d.instance_ready("c")
    assert batches(d.poll(0.0)) == [("c", [1]), ("c", [3])]
    d.done(5, 0.0)
    assert batches(d.poll(0.0)) == [("c", [2])]


def test_before_a_poll_the_wakeup_says_now() -> None:
    d = dispatcher("a", max_size=2, max_wait_s=5.0)
    offer(d, 1, 2)
    assert d.next_wakeup_s() == -math.inf


def test_a_batch_that_was_never_begun_comes_back_without_blame() -> None:
    d = dispatcher("a", max_size=2)
    d.expect(True)
    offer(d, 1, 2, 3)
    first, second = d.poll(0.0)
    assert isinstance(first, Assignment) and isinstance(second, Assignment)
    d.returned(second.batch_id, 0.0, begun=False)
    d.instance_ready("b")
    assert batches(d.poll(0.0)) == [("b", [3])]
    assert [r.id for r in d.done(first.batch_id, 0.0)] == [1, 2]
    assert not d.knows("a")
    assert d.snapshot(0.0).retried == 0


def test_a_draining_instance_gets_nothing_more_and_leaves_when_it_has_answered() -> None:
    d = dispatcher("a")
    offer(d, 1)
    assignment = only(d.poll(0.0))
    d.instance_draining("a")
    assert d.offer(request(2), 0.0) == Refused(Refusal.NO_INSTANCE, 1.0)
    assert d.knows("a")
    assert [r.id for r in d.done(assignment.batch_id, 0.1)] == [1]
    assert not d.knows("a")
    d.instance_ready("a")
    d.instance_draining("a")
    assert not d.knows("a")


def test_what_is_withdrawn_is_not_sent_and_not_answered() -> None:
    d = dispatcher("a", queue_size=1)
    offer(d, 1)
    assignment = only(d.poll(0.0))
    offer(d, 2)
    d.withdraw(2)
    d.withdraw(1)
    assert d.done(assignment.batch_id, 0.1) == ()
    assert d.poll(0.1) == []
    assert d.snapshot(0.1).in_flight == 0


def test_hopeless_requests_are_refused_only_on_demand() -> None:
    d = Dispatcher(queue_size=100, refuse_hopeless=True)
    d.instance_ready("a")
    offer(d, 0, at=0.0)
    d.done(only(d.poll(0.0)).batch_id, 1.0)
    offer(d, *range(1, 9), at=1.0)
    d.poll(1.0)
    refused = d.offer(request(10, at=1.0, timeout_s=3.0), 1.0)
    assert isinstance(refused, Refused) and refused.reason is Refusal.HOPELESS
    assert d.offer(request(10, at=1.0, timeout_s=30.0), 1.0) == Accepted()


def test_new_bounds_hold_from_then_on_and_lose_nothing() -> None:
    d = dispatcher(queue_size=5)
    d.expect(True)
    offer(d, 1, 2, 3)
    d.configure(queue_size=1, batching=Batching(max_size=3))
    assert isinstance(d.offer(request(4), 0.0), Refused)
    d.instance_ready("a")
    assert batches(d.poll(0.0)) == [("a", [1, 2, 3])]


def test_a_snapshot_tells_what_is_where() -> None:
    d = dispatcher("a", "b", max_size=2)
    offer(d, 1, 2, 3)
    d.poll(0.0)
    d.instance_draining("b")
    s = d.snapshot(0.0)
    assert (s.waiting, s.in_flight, s.instances_coming, s.completed_per_s) == (0, 3, False, None)
    assert (s.instances["a"].batches, s.instances["a"].requests, s.instances["a"].draining) == (1, 2, False)
    assert (s.instances["b"].requests, s.instances["b"].draining) == (1, True)


def test_what_cannot_be_raises_and_changes_nothing() -> None:
    d = dispatcher("a")
    offer(d, 1)
    assignment = only(d.poll(0.0))
    before = d.snapshot(0.0)
    for impossible in (
        lambda: d.offer(request(1), 0.0),
        lambda: d.withdraw(7),
        lambda: d.instance_ready("a"),
        lambda: d.instance_draining("z"),
        lambda: d.instance_gone("z", 0.0),
        lambda: d.done(assignment.batch_id + 1, 0.0),
        lambda: d.returned(assignment.batch_id + 1, 0.0, begun=True),
    ):
        with pytest.raises(IllegalTransition):
            impossible()
    assert d.snapshot(0.0) == before
    d.instance_draining("a")
    with pytest.raises(IllegalTransition):
        d.instance_draining("a")
    d.done(assignment.batch_id, 0.0)
    with pytest.raises(IllegalTransition):
        d.done(assignment.batch_id, 0.0)
