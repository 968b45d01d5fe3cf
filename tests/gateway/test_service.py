from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from fastgshare.dispatch.outcomes import Outcome, Refusal, Refused
from fastgshare.domain.errors import NotFound
from fastgshare.domain.functions import Batching, Function
from fastgshare.domain.instances import InstanceState
from fastgshare.domain.requests import Request
from fastgshare.gateway.lanes import Ending, Served
from fastgshare.gateway.service import FunctionService
from fastgshare.testing.clocks import FakeClock
from fastgshare.testing.clusters import FakeCluster
from fastgshare.testing.gateway import DEVICE, FakePlatform, function


@dataclass
class House:
    """A service in front of a fake platform, in virtual time."""

    answer_s: float = 0.0
    start_s: float = 0.0
    clock: FakeClock = field(default_factory=FakeClock)

    def __post_init__(self) -> None:
        self.cluster = FakeCluster([DEVICE], self.clock, answer_s=self.answer_s, start_s=self.start_s)
        self.platform = FakePlatform(self.cluster)
        self.service = FunctionService(self.platform, self.cluster, self.clock)

    def call(self, name: str = "f", timeout_s: float = 60.0) -> asyncio.Task[Ending | Refused]:
        now_s = self.clock.now()
        request = Request(self.service.next_id(), name, b"x", now_s, now_s + timeout_s)
        return asyncio.create_task(self.service.call(self.service.lane(name), request))


def instance_of(ending: Ending | Refused) -> str:
    assert isinstance(ending, Served), ending
    return ending.instance_id


async def test_a_batch_that_was_not_sent_when_its_instance_went_is_not_lost() -> None:
    house = House(answer_s=1.0)
    await house.platform.deploy(function())
    called = house.call()
    await asyncio.sleep(0)
    assert house.service.snapshots()["f"].in_flight == 1
    house.cluster.kill("f-1")
    await house.platform.start("f")
    await house.clock.advance(1.0)
    assert instance_of(await called) == "f-2"
    assert house.service.snapshots()["f"].retried == 0


async def test_instances_that_were_there_first_are_used() -> None:
    house = House()
    await house.platform.deploy(function())
    await house.platform.scale("f", 3)
    endings = [await house.call() for _ in range(6)]
    assert Counter(map(instance_of, endings)) == {"f-1": 2, "f-2": 2, "f-3": 2}


async def test_the_deadline_comes_by_the_timer_alone() -> None:
    house = House(answer_s=100.0)
    await house.platform.deploy(function())
    late, later = house.call(timeout_s=5.0), house.call(timeout_s=1.0)
    await house.clock.advance(1.0)
    assert await later is Outcome.EXPIRED
    await house.clock.advance(4.0)
    assert await late is Outcome.EXPIRED


async def test_draining_waits_for_what_is_here_and_refuses_what_comes() -> None:
    house = House(answer_s=1.0)
    await house.platform.deploy(function())
    called = house.call()
    await house.clock.settle()
    draining = asyncio.create_task(house.service.drain(10.0))
    await house.clock.settle()
    refused = await house.call()
    assert isinstance(refused, Refused) and refused.reason is Refusal.NO_INSTANCE
    assert not draining.done()
    await house.clock.advance(1.0)
    await draining
    assert instance_of(await called) == "f-1"
    await house.service.close()


async def test_closing_answers_everyone_and_leaves_no_task() -> None:
    house = House(answer_s=100.0)
    await house.platform.deploy(function())
    before = asyncio.all_tasks()
    calls = [house.call() for _ in range(5)]
    await house.clock.settle()
    await house.service.close()
    assert await asyncio.gather(*calls) == [Outcome.NO_INSTANCE] * 5
    await house.clock.settle()
    assert asyncio.all_tasks() == before


async def test_after_closing_the_cluster_may_go_on() -> None:
    house = House()
    await house.platform.deploy(function())
    await house.call()
    await house.service.close()
    await house.platform.start("f")
    house.cluster.kill("f-1")


# --- whatever happens ------------------------------------------------------------------------------------------------

STEPS = st.lists(
    st.one_of(
        *[st.tuples(st.just(f"call {count}"), st.sampled_from([0.5, 3.0, 60.0])) for count in (1, 3, 6)],
        st.tuples(st.just("start"), st.just(0.0)),
        st.tuples(st.just("kill"), st.floats(0, 1)),
        st.tuples(st.just("stop"), st.floats(0, 1)),
        st.tuples(st.just("cancel"), st.floats(0, 1)),
        st.tuples(st.just("deploy"), st.floats(0, 1)),
        st.tuples(st.just("remove"), st.just(0.0)),
        st.tuples(st.just("pass time"), st.floats(0.01, 2.0)),
    ),
    min_size=10,
    max_size=40,
)


@given(STEPS, st.sampled_from([0.0, 0.3]), st.integers(1, 3))
@settings(max_examples=100)
def test_every_request_is_answered_once_whatever_happens(
    steps: list[tuple[str, float]], answer_s: float, max_size: int
) -> None:
    asyncio.run(Chaos(House(answer_s, start_s=0.4), max_size).run(steps))


class Chaos:
    def __init__(self, house: House, max_size: int) -> None:
        self.house = house
        self.deployed: Function = function(queue_size=4, batch=Batching(max_size, 0.1))
        self.calls: list[asyncio.Task[Ending | Refused]] = []
        self.cancelled: set[asyncio.Task[Ending | Refused]] = set()
        self.others: list[asyncio.Task[object]] = []

    async def run(self, steps: list[tuple[str, float]]) -> None:
        await self.house.clock.settle()
        self.house.platform.put(self.deployed, replicas=1)
        self.others.append(asyncio.create_task(self.house.platform.start("f")))
        for what, number in steps:
            await self.step(what, number)
        await self.house.clock.advance(100.0)
        assert all(call.done() for call in self.calls)
        for call in self.calls:
            if call in self.cancelled:
                assert call.cancelled()
            else:
                assert isinstance(call.result(), Served | Refused | Outcome)
        for snapshot in self.house.service.snapshots().values():
            assert (snapshot.waiting, snapshot.in_flight) == (0, 0)
        assert self.house.service._held_bytes == 0
        for other in self.others:
            other.cancel()
        await asyncio.gather(*self.others, return_exceptions=True)
        await self.house.service.close()

    async def step(self, what: str, number: float) -> None:
        house = self.house
        there = [s for s in house.cluster.observe() if s.state is InstanceState.READY]
        if what.startswith("call"):
            with contextlib.suppress(NotFound):
                self.calls += [house.call(timeout_s=number) for _ in range(int(what[-1]))]
        elif what == "start" and house.platform.deployments():
            self.others.append(asyncio.create_task(house.platform.start("f")))
        elif what == "kill" and there:
            house.cluster.kill(there[int(number * len(there)) % len(there)].id)
        elif what == "stop" and there:
            stopped = there[int(number * len(there)) % len(there)].id
            self.others.append(asyncio.create_task(house.cluster.stop(stopped, drain_s=0.2)))
        elif what == "cancel":
            self.cancel(number)
        elif what == "deploy":
            house.platform.put(self.deployed, replicas=round(number))
            house.service.refresh("f")
        elif what == "remove" and house.platform.deployments():
            self.others.append(asyncio.create_task(house.platform.remove("f")))
            await asyncio.sleep(0)
            house.service.refresh("f")
        elif what == "pass time":
            await house.clock.advance(number)

    def cancel(self, number: float) -> None:
        pending = [call for call in self.calls if not call.done()]
        if pending:
            call = pending[int(number * len(pending)) % len(pending)]
            call.cancel()
            self.cancelled.add(call)
