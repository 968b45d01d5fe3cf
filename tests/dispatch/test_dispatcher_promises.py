from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from fastgshare.dispatch.dispatchers import Dispatcher
from fastgshare.dispatch.outcomes import Accepted, Assignment, Outcome, Refusal
from fastgshare.domain.functions import Batching
from fastgshare.domain.requests import Request

DEPTH = 2
PATIENCE_S = 1.0
TIMEOUTS_S = (0.1, 0.5, 3.0, 20.0)


class DispatcherPromises(RuleBasedStateMachine):
    """Whatever happens, in whatever order: one answer each, and every bound holds."""

    instances = Bundle("instances")

    @initialize(
        queue_size=st.integers(1, 6),
        max_size=st.integers(1, 3),
        max_wait_s=st.sampled_from([0.0, 0.05, 1.0]),
        coming=st.booleans(),
    )
    def begin(self, queue_size: int, max_size: int, max_wait_s: float, coming: bool) -> None:
        self.now_s = 100.0
        self.queue_size, self.max_size, self.max_wait_s = queue_size, max_size, max_wait_s
        self.dispatcher = Dispatcher(
            queue_size=queue_size, batching=Batching(max_size, max_wait_s), depth=DEPTH, patience_s=PATIENCE_S
        )
        self.coming = coming
        self.dispatcher.expect(coming)
        self.accepted: dict[int, Request] = {}
        self.answers: dict[int, str] = {}
        self.losses: dict[int, int] = {}
        self.touched: set[int] = set()
        self.blamed: set[str] = set()
        self.ready: dict[str, list[Assignment]] = {}
        self.draining: dict[str, list[Assignment]] = {}
        self.next_id = 0
        self.next_instance = 0

    def answer(self, id: int, how: str) -> None:
        assert id in self.accepted and id not in self.answers
        self.answers[id] = how

    def waiting(self) -> list[int]:
        given = {r.id for held in (*self.ready.values(), *self.draining.values()) for a in held for r in a.requests}
        return [id for id in self.accepted if id not in self.answers and id not in given]

    def poll(self) -> None:
        for action in self.dispatcher.poll(self.now_s):
            if isinstance(action, Assignment):
                self.take(action)
            else:
                self.check_ending(action.request, action.outcome)

    def take(self, assignment: Assignment) -> None:
        assert 1 <= len(assignment.requests) <= self.max_size
        held = self.ready[assignment.instance_id]
        assert len(held) < DEPTH
        assert len(held) == min(len(h) for h in self.ready.values()) or self.max_size > 1
        held.append(assignment)
        for request in assignment.requests:
            assert request.id in self.accepted and request.id not in self.answers
            assert request.deadline_s > self.now_s
        if len(assignment.requests) > 1:
            assert all(self.losses.get(r.id, 0) == 0 for r in assignment.requests)

    def check_ending(self, request: Request, outcome: Outcome) -> None:
        self.answer(request.id, outcome.name)
        if outcome is Outcome.EXPIRED:
            assert request.deadline_s <= self.now_s
        elif outcome is Outcome.LOST:
            assert self.losses[request.id] == 2
        else:
            assert not self.ready and not self.coming

    @rule(timeouts_s=st.lists(st.sampled_from(TIMEOUTS_S), min_size=1, max_size=6))
    def offer_several(self, timeouts_s: list[float]) -> None:
        for timeout_s in timeouts_s:
            self.offer(timeout_s)

    def offer(self, timeout_s: float) -> None:
        self.next_id += 1
        request = Request(self.next_id, "f", b"", self.now_s, self.now_s + timeout_s)
        waiting = len(self.waiting())
        response = self.dispatcher.offer(request, self.now_s)
        if not self.ready and not self.coming:
            assert not isinstance(response, Accepted) and response.reason is Refusal.NO_INSTANCE
        elif waiting >= self.queue_size:
            assert not isinstance(response, Accepted) and response.reason is Refusal.QUEUE_FULL
            assert 0 < response.retry_after_s < float("inf")
        else:
            assert response == Accepted()
            self.accepted[request.id] = request
        self.poll()

    @rule(target=instances)
    def become_ready(self) -> str:
        self.next_instance += 1
        name = f"i{self.next_instance}"
        self.dispatcher.instance_ready(name)
        self.ready[name] = []
        self.poll()
        return name

    @rule(target=instances, name=consumes(instances))
    def drain(self, name: str) -> object:
        if name not in self.ready:
            return multiple()
        self.dispatcher.instance_draining(name)
        held = self.ready.pop(name)
        if held:
            self.draining[name] = held
        self.poll()
        return name if held else multiple()

    @rule(name=consumes(instances))
    def lose(self, name: str) -> None:
        held = self.ready.pop(name, None) or self.draining.pop(name, None) or []
        if not self.dispatcher.knows(name):
            assert not held
            return
        self.dispatcher.instance_gone(name, self.now_s)
        for position, assignment in enumerate(held):
            for request in assignment.requests:
                self.touched.add(request.id)
                if position == 0 and name not in self.blamed and request.id not in self.answers:
                    self.losses[request.id] = self.losses.get(request.id, 0) + 1
        self.poll()
        assert all(id in self.answers for id, losses in self.losses.items() if losses == 2)

    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        busy = [held for held in (*self.ready.values(), *self.draining.values()) if held]
        if not busy:
            return
        assignment = data.draw(st.sampled_from(busy)).pop(0)
        wanted = self.dispatcher.done(assignment.batch_id, self.now_s)
        assert list(wanted) == [r for r in assignment.requests if r.id not in self.answers]
        for request in wanted:
            self.answer(request.id, "served")
        self.draining = {name: held for name, held in self.draining.items() if held}
        self.poll()

    @rule(target=instances, name=consumes(instances), begun=st.booleans())
    def give_back_the_first_batch(self, name: str, begun: bool) -> object:
        """The instance does not answer its first batch and takes nothing more."""
        held = self.ready.pop(name, None) or self.draining.pop(name, None) or []
        if not held:
            if self.dispatcher.knows(name):
                self.dispatcher.instance_gone(name, self.now_s)
            self.poll()
            return multiple()
        assignment = held.pop(0)
        if held:
            self.draining[name] = held
        self.dispatcher.returned(assignment.batch_id, self.now_s, begun=begun)
        self.touched.update(r.id for r in assignment.requests)
        for request in assignment.requests:
            if begun and name not in self.blamed and request.id not in self.answers:
                self.losses[request.id] = self.losses.get(request.id, 0) + 1
        if begun:
            self.blamed.add(name)
        self.poll()
        return name if held else multiple()

    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        pending = [id for id in self.accepted if id not in self.answers]
        if pending:
            id = data.draw(st.sampled_from(pending))
            self.dispatcher.withdraw(id)
            self.answer(id, "withdrawn")
            self.touched.add(id)

    @rule(coming=st.booleans())
    def expect(self, coming: bool) -> None:
        self.coming = coming
        self.dispatcher.expect(coming)
        self.poll()

    @rule(seconds=st.floats(0.01, 2.0))
    def let_time_pass(self, seconds: float) -> None:
        end_s = self.now_s + seconds
        while (wakeup_s := self.dispatcher.next_wakeup_s()) is not None and wakeup_s <= end_s:
            assert wakeup_s > self.now_s
            self.now_s = wakeup_s
            self.poll()
        self.now_s = end_s
        self.poll()

    @invariant()
    def all_that_can_go_has_gone(self) -> None:
        free = any(len(held) < DEPTH for held in self.ready.values())
        waiting = self.waiting()
        assert not (free and len(waiting) >= self.max_size)
        if free:
            assert all(self.now_s < self.accepted[id].arrived_s + self.max_wait_s for id in waiting)
        if not self.ready and not self.coming:
            assert not waiting

    @invariant()
    def the_snapshot_is_true(self) -> None:
        snapshot = self.dispatcher.snapshot(self.now_s)
        waiting = self.waiting()
        pending = [id for id in self.accepted if id not in self.answers]
        assert snapshot.waiting == len(waiting)
        assert snapshot.in_flight == len(pending) - len(waiting)
        assert {n: len(h) for n, h in {**self.ready, **self.draining}.items()} == {
            n: load.batches for n, load in snapshot.instances.items()
        }
        assert len([id for id in waiting if id not in self.touched]) <= self.queue_size

    def teardown(self) -> None:
        if not hasattr(self, "dispatcher"):
            return
        self.expect(False)
        self.let_time_pass(2 * max(TIMEOUTS_S))
        assert set(self.answers) == set(self.accepted)
        assert self.dispatcher.snapshot(self.now_s).in_flight == 0


TestDispatcherPromises = DispatcherPromises.TestCase
TestDispatcherPromises.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)


@given(
    st.lists(st.tuples(st.floats(0.01, 1.5), st.sampled_from([1.7, 5.0, 60.0])), max_size=40),
    st.integers(1, 3),
)
@settings(deadline=None)
def test_equals_keep_their_order_and_nobody_is_overtaken_beyond_the_patience(
    offers: list[tuple[float, float]], max_size: int
) -> None:
    """One instance at half the pace of the offers, so that a queue builds up."""
    dispatcher = Dispatcher(queue_size=100, batching=Batching(max_size), depth=1, patience_s=PATIENCE_S)
    dispatcher.instance_ready("a")
    now_s, order, running = 10.0, [], []
    for id, (gap_s, timeout_s) in enumerate(offers):
        now_s += gap_s
        dispatcher.offer(Request(id, "f", b"", now_s, now_s + timeout_s), now_s)
        if id % (2 * max_size) == 0 and running:
            dispatcher.done(running.pop().batch_id, now_s)
        for action in dispatcher.poll(now_s):
            if isinstance(action, Assignment):
                running.append(action)
                order.extend(action.requests)
    for position, first in enumerate(order):
        for second in order[position + 1 :]:
            if second.id < first.id:
                assert first.arrived_s < second.arrived_s + PATIENCE_S
                assert first.deadline_s < second.deadline_s
            elif first.deadline_s - first.arrived_s == second.deadline_s - second.arrived_s:
                assert first.id < second.id
