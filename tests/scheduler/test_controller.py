"""The controller on a cluster without processes, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import pytest

from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.errors import (
    DaemonUnavailable,
    FastGShareError,
    InstanceFailed,
    InvalidValue,
    NoPlacement,
    NotFound,
)
from fastgshare.domain.functions import Function, Replicas
from fastgshare.domain.instances import Instance, InstanceState
from fastgshare.domain.logs import LogLine
from fastgshare.domain.requests import Request
from fastgshare.domain.shares import Share
from fastgshare.scheduler.controller import Controller
from fastgshare.testing.clocks import FakeClock
from fastgshare.testing.clusters import FakeCluster
from fastgshare.testing.functions import FakeFunctions
from fastgshare.testing.strategies import cpu


def function(name: str = "f", sm: float = 50, quota: float = 0.4, model: str = "m.onnx") -> Function:
    return Function(name, Share(sm, quota, 1.0), model=model, replicas=Replicas(1, 4))


@dataclass
class Platform:
    controller: Controller
    cluster: FakeCluster
    clock: FakeClock
    functions: FakeFunctions

    def ready(self, name: str = "f") -> list[str]:
        instances = self.controller.deployment(name).instances
        return [s.id for s in instances if s.state is InstanceState.READY]

    def problem(self, name: str = "f") -> str:
        return self.controller.deployment(name).problem


@asynccontextmanager
async def platform(
    functions: Sequence[Function] = (), start_s: float = 1.0, cores: int = 2, more: Sequence[Device] = ()
) -> AsyncIterator[Platform]:
    """A running controller; at the end no rect may ever have overlapped another."""
    store = FakeFunctions()
    for one in functions:
        store.put(one, 1)
    clock = FakeClock()
    cluster = FakeCluster([cpu(cores), *more], clock, start_s=start_s)
    controller = Controller(cluster, store, clock)
    running = asyncio.create_task(controller.run())
    await clock.settle()
    try:
        yield Platform(controller, cluster, clock, store)
        assert not running.done(), "the loop ended by itself"
        assert cluster.violations == []
    finally:
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running


async def test_deploy_returns_before_the_instance_is_ready() -> None:
    async with platform() as p:
        await p.controller.deploy(function())
        assert p.controller.deployment("f").instances == ()
        await p.clock.settle()
        (starting,) = p.controller.deployment("f").instances
        assert starting.state is InstanceState.STARTING
        await p.clock.advance(1.0)
        assert p.ready() == ["f-1"]
        assert p.controller.deployment("f").available == 1


async def test_stored_functions_are_brought_up_at_the_start_all_at_once() -> None:
    async with platform([function("a"), function("b"), function("c", sm=100, quota=0.6)]) as p:
        await p.clock.advance(1.0)
        assert [p.ready(name) for name in "abc"] == [["a-1"], ["b-1"], ["c-1"]]
        assert [d.deployment.function.name for d in p.controller.deployments()] == ["a", "b", "c"]


async def test_settled_waits_for_the_wanted_replicas() -> None:
    async with platform() as p:
        await p.controller.deploy(function())
        waiting = asyncio.create_task(p.controller.settled("f", 10.0))
        await p.clock.advance(0.9)
        assert not waiting.done()
        await p.clock.advance(0.1)
        assert (await waiting).available == 1


async def test_settled_ends_with_the_problem() -> None:
    async with platform() as p:
        p.cluster.break_starts("f", "the model is corrupt")
        await p.controller.deploy(function())
        waiting = asyncio.create_task(p.controller.settled("f", 10.0))
        await p.clock.advance(1.0)
        status = await waiting
        assert (status.available, status.problem) == (
            0,
            "instance f-1 failed: the model is corrupt; attempt 2 of 6 follows",
        )


async def test_settled_ends_with_its_time_or_with_the_function() -> None:
    async with platform(start_s=100.0) as p:
        await p.controller.deploy(function())
        late = asyncio.create_task(p.controller.settled("f", 10.0))
        gone = asyncio.create_task(p.controller.settled("f", 1000.0))
        await p.clock.advance(10.0)
        status = await late
        assert (status.available, status.problem) == (0, "")
        await p.controller.remove("f")
        with pytest.raises(NotFound):
            await gone


async def test_settled_after_a_redeploy_does_not_take_the_old_instance_for_the_new() -> None:
    async with platform([function()]) as p:
        await p.clock.advance(1.0)
        await p.controller.deploy(function(model="other.onnx"))
        waiting = asyncio.create_task(p.controller.settled("f", 10.0))
        await p.clock.settle()
        assert not waiting.done()
        await p.clock.advance(1.0)
        assert [s.id for s in (await waiting).instances if s.state is InstanceState.READY] == ["f-2"]


async def test_a_broken_function_is_tried_again_and_hinders_nobody() -> None:
    async with platform() as p:
        p.cluster.break_starts("f", "no such model", times=2)
        await p.controller.deploy_all([function("f"), function("g")])
        await p.clock.advance(1.0)
        assert (p.ready("f"), p.ready("g")) == ([], ["g-1"])
        await p.clock.advance(10.0)
        assert p.ready("f") == ["f-3"]
        assert p.problem() == ""


async def test_after_too_many_failures_only_deploying_or_scaling_tries_again() -> None:
    async with platform() as p:
        p.cluster.break_starts("f", "no such model", times=6)
        await p.controller.deploy(function())
        await p.clock.advance(1000.0)
        assert len(p.cluster.starts) == 6
        assert "gave up after 6 attempts" in p.problem()
        await p.controller.scale("f", 1)
        assert p.problem() == ""
        await p.clock.advance(1.0)
        assert p.ready() == ["f-7"]


async def test_who_is_not_to_blame_is_tried_again_for_as_long_as_it_takes_but_not_busily(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with platform() as p:
        start, refused = p.cluster.start, list[float]()

        async def refuse(instance: Instance) -> None:
            refused.append(p.clock.now())
            raise InstanceFailed(instance.id, "MPS is away", blameless=True, patience_s=5.0)

        monkeypatch.setattr(p.cluster, "start", refuse)
        began_s = p.clock.now()
        await p.controller.deploy(function())
        for _ in range(60):
            await p.clock.advance(1.0)
        assert [at_s - began_s for at_s in refused] == pytest.approx(list(range(0, 61, 5)))
        assert p.problem().startswith("instance f-13 failed: MPS is away")
        monkeypatch.setattr(p.cluster, "start", start)
        await p.clock.advance(10.0)
        assert p.problem() == ""
        assert p.ready() == ["f-14"]


async def test_a_bug_in_a_start_is_that_instances_problem_alone() -> None:
    async with platform([function("g")]) as p:
        await p.clock.advance(1.0)
        p.cluster.start_s = "soon"  # type: ignore[assignment]
        await p.controller.deploy(function("f"))
        await p.clock.settle()
        assert p.problem("f").startswith("instance f-1 failed: TypeError")
        assert p.ready("g") == ["g-1"]


async def test_a_killed_instance_is_replaced_at_once() -> None:
    async with platform([function()]) as p:
        await p.clock.advance(1.0)
        p.cluster.kill("f-1", "killed by signal 9")
        assert p.ready() == []
        await p.clock.advance(1.0)
        assert p.ready() == ["f-2"]
        assert p.problem() == ""


async def test_scale_sets_what_is_wanted_up_down_and_to_none() -> None:
    async with platform([function(quota=0.1)]) as p:
        for wanted in (4, 2, 0, 1):
            await p.controller.scale("f", wanted)
            await p.clock.advance(2.0)
            assert len(p.ready()) == wanted == p.functions.get("f").replicas


async def test_scale_beyond_the_bounds_is_refused_with_what_is_allowed() -> None:
    async with platform([function(quota=0.1)]) as p:
        with pytest.raises(InvalidValue, match=r"replicas: 5 is not allowed; allowed: 0, or 1 to 4"):
            await p.controller.scale("f", 5)
        with pytest.raises(InvalidValue):
            await p.controller.scale("f", -1)
        with pytest.raises(NotFound):
            await p.controller.scale("g", 1)


async def test_scale_beyond_the_device_is_refused_and_changes_nothing() -> None:
    async with platform([function(sm=100, quota=0.4)]) as p:
        await p.clock.advance(1.0)
        with pytest.raises(NoPlacement, match="function f: 1 of 3 instances have no place"):
            await p.controller.scale("f", 3)
        assert p.functions.get("f").replicas == 1
        await p.controller.scale("f", 2)
        await p.clock.advance(1.0)
        assert p.ready() == ["f-1", "f-2"]


async def test_a_share_off_the_grid_is_refused_and_nothing_is_stored() -> None:
    async with platform() as p:
        with pytest.raises(InvalidValue, match="nearest: 50 and 100"):
            await p.controller.deploy(function(sm=60))
        assert p.controller.deployments() == []
        assert p.functions.all() == []


async def test_a_function_without_room_is_refused_with_the_reason() -> None:
    async with platform([function("a", sm=100, quota=0.7)]) as p:
        with pytest.raises(NoPlacement, match=r"function f: 1 of 1 instances have no place: .*120%"):
            await p.controller.deploy(function("f", sm=100, quota=0.5))
        await p.controller.deploy(function("f", sm=100, quota=0.3))
        await p.clock.advance(1.0)
        assert p.ready() == ["f-1"]


async def test_room_is_kept_for_a_function_whose_instances_fail() -> None:
    async with platform() as p:
        p.cluster.break_starts("f", "no such model", times=6)
        await p.controller.deploy(function("f", sm=100, quota=0.7))
        await p.clock.advance(1000.0)
        with pytest.raises(NoPlacement, match="function g"):
            await p.controller.deploy(function("g", sm=100, quota=0.5))


async def test_a_redeploy_that_would_push_another_out_is_refused() -> None:
    async with platform([function("a", sm=100, quota=0.5), function("b", sm=100, quota=0.5)]) as p:
        await p.clock.advance(1.0)
        with pytest.raises(NoPlacement, match="function a"):
            await p.controller.deploy(function("a", sm=100, quota=0.6))
        assert p.cluster.instance("a-1").function.share.quota_request == 0.5


async def test_several_functions_are_deployed_all_or_none() -> None:
    async with platform() as p:
        with pytest.raises(NoPlacement):
            await p.controller.deploy_all([function("a", 100, 0.6), function("b", 100, 0.6)])
        with pytest.raises(InvalidValue, match="every function once"):
            await p.controller.deploy_all([function("a"), function("a")])
        p.functions.break_put(FastGShareError("the disk is full"), after=1)
        with pytest.raises(FastGShareError, match="disk is full"):
            await p.controller.deploy_all([function("a"), function("b")])
        assert p.functions.all() == p.controller.deployments() == []


async def test_a_store_that_fails_leaves_the_version_that_was() -> None:
    async with platform([function("a"), function("b")]) as p:
        p.functions.break_put(FastGShareError("the disk is full"), after=1)
        with pytest.raises(FastGShareError):
            await p.controller.deploy_all([function("a", model="new.onnx"), function("b", model="new.onnx")])
        assert [d.function.model for d in p.functions.all()] == ["m.onnx", "m.onnx"]
        assert p.controller.deployment("a").deployment.function.model == "m.onnx"


async def test_a_redeploy_keeps_replicas_and_creation_time_and_wakes_what_was_scaled_to_none() -> None:
    async with platform([function("a"), function("b", quota=0.1)]) as p:
        await p.controller.scale("b", 3)
        await p.controller.deploy(function("b", quota=0.2))
        status = p.controller.deployment("b").deployment
        assert (status.replicas, status.created_unix_s) == (3, 1.0)
        await p.controller.scale("b", 0)
        await p.controller.deploy(function("b", quota=0.3))
        assert p.controller.deployment("b").deployment.replicas == 1


async def test_other_quotas_reach_the_running_instance() -> None:
    async with platform([function()]) as p:
        await p.clock.advance(1.0)
        await p.controller.deploy(function(quota=0.8))
        await p.clock.settle()
        assert p.cluster.instance("f-1").function.share.quota_request == 0.8
        assert len(p.cluster.starts) == 1


async def test_a_daemon_that_is_away_delays_a_resize_but_loses_nothing() -> None:
    async with platform([function("a"), function("b", quota=0.5)]) as p:
        await p.clock.advance(1.0)
        p.cluster.break_resizes(DaemonUnavailable("the node daemon does not answer"), times=2)
        await p.controller.deploy(function("a", quota=0.8))
        await p.clock.settle()
        assert p.cluster.resizes == []
        await p.clock.advance(2.0)
        assert p.cluster.instance("a-1").function.share.quota_request == 0.8


async def test_remove_lets_an_instance_finish_its_work() -> None:
    async with platform([function()]) as p:
        await p.clock.advance(1.0)
        p.cluster.answer_s = 5.0
        answer = asyncio.create_task(p.cluster.send("f-1", [Request(1, "f", b"x", 0.0, 60.0)]))
        await p.clock.settle()
        await p.controller.remove("f")
        await p.clock.advance(1.0)
        assert [s.state for s in p.cluster.observe()] == [InstanceState.DRAINING]
        with pytest.raises(NotFound):
            p.controller.deployment("f")
        await p.clock.advance(4.0)
        assert (await answer)[0].body == b"x"
        assert p.cluster.observe() == []


async def test_a_function_can_be_deployed_again_while_its_old_instances_drain() -> None:
    async with platform([function(sm=100, quota=0.9)]) as p:
        await p.clock.advance(1.0)
        p.cluster.answer_s = 5.0
        answer = asyncio.create_task(p.cluster.send("f-1", [Request(1, "f", b"x", 0.0, 60.0)]))
        await p.clock.settle()
        await p.controller.remove("f")
        await p.clock.settle()
        await p.controller.deploy(function(sm=100, quota=0.8))
        await p.clock.advance(4.0)
        assert p.problem() == ""
        await p.clock.advance(3.0)
        assert (await answer)[0].status == 200
        assert p.ready() == ["f-2"]


async def test_removing_what_still_starts_calls_the_start_off() -> None:
    async with platform(start_s=100.0) as p:
        await p.controller.deploy(function())
        await p.clock.settle()
        await p.controller.remove("f")
        await p.clock.settle()
        assert p.cluster.observe() == []
        await p.controller.deploy(function())
        await p.clock.advance(100.0)
        assert p.ready() == ["f-2"]


async def test_a_wish_that_changes_before_anything_ran_leaves_no_orphan() -> None:
    async with platform() as p:
        for _ in range(3):
            await p.controller.deploy(function())
            await asyncio.sleep(0)
            await p.controller.remove("f")
            await asyncio.sleep(0)
        await p.clock.advance(5.0)
        assert p.cluster.observe() == []


async def test_a_rolling_update_on_a_full_device_never_overlaps_and_ends_with_the_new_version() -> None:
    async with platform([function(quota=0.9), function("g", quota=0.9)]) as p:
        await p.clock.advance(1.0)
        await p.controller.deploy(function(quota=0.9, model="new.onnx"))
        await p.clock.advance(2.0)
        assert p.cluster.instance("f-2").function.model == "new.onnx"
        assert (p.ready("f"), p.ready("g")) == (["f-2"], ["g-1"])


async def test_logs_come_from_whoever_keeps_them() -> None:
    line = LogLine("f", "f-1", 0.0, "hello")
    store, clock = FakeFunctions(), FakeClock()
    cluster = FakeCluster([cpu(2)], clock)
    controller = Controller(cluster, store, clock, logs=lambda name, tail: [line] * tail)
    await controller.deploy(function())
    assert controller.logs("f", 2) == [line, line]
    with pytest.raises(NotFound):
        controller.logs("g", 2)
    assert Controller(cluster, store, clock).logs("f", 2) == ()


async def test_a_function_from_a_larger_machine_has_a_problem_and_the_others_run() -> None:
    async with platform([function("big", sm=25), function("f")]) as p:
        await p.clock.advance(1.0)
        assert "nearest: 50" in p.problem("big")
        assert p.ready("f") == ["f-1"]
        await p.controller.deploy(replace(function("f"), queue_size=1))
        assert p.ready("f") == ["f-1"]


OTHER = Device("other", DeviceKind.CPU, 2)


async def test_a_lost_device_is_made_good_elsewhere_at_once() -> None:
    async with platform([function(quota=0.8)], more=[OTHER]) as p:
        await p.clock.advance(1.0)
        p.cluster.lose("cpu", "it fell off the bus")
        assert p.ready() == []
        await p.clock.advance(1.0)
        assert p.ready() == ["f-2"]
        assert p.cluster.instance("f-2").placement.device_id == "other"


async def test_who_has_to_leave_a_device_goes_once_its_successor_answers() -> None:
    async with platform([function(quota=0.8)], more=[OTHER]) as p:
        await p.clock.advance(1.0)
        p.cluster.drain("cpu", "ECC errors")
        waiting = asyncio.create_task(p.controller.settled("f", 10.0))
        await p.clock.advance(0.5)
        assert p.ready() == ["f-1"]
        assert not waiting.done()
        await p.clock.advance(0.5)
        assert [s.id for s in (await waiting).instances if s.state is InstanceState.READY] == ["f-2"]
        assert p.cluster.stops == ["f-1"]


async def test_what_is_deployed_after_a_loss_is_checked_against_what_is_left() -> None:
    async with platform(more=[OTHER]) as p:
        p.cluster.lose("cpu", "gone")
        await p.controller.deploy(function("f", 100, 0.7))
        with pytest.raises(NoPlacement, match="of device other"):
            await p.controller.deploy(function("g", 100, 0.7))
        p.cluster.lose("other", "gone too")
        with pytest.raises(NoPlacement, match="there is no device"):
            await p.controller.deploy(function("g", 100, 0.7))
