"""What a plan says in each case, one case a test."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.scheduler.worlds import BACKOFF, World, deployment

from fastgshare.domain.devices import Device
from fastgshare.domain.errors import InvalidValue
from fastgshare.domain.functions import Batching, Function, Replicas, Slo
from fastgshare.domain.instances import InstanceState, InstanceStatus
from fastgshare.domain.rects import Placement, Rect
from fastgshare.domain.shares import Share
from fastgshare.scheduler.books import Book
from fastgshare.scheduler.plans import Resize, Start, Stop
from fastgshare.scheduler.reconcile import reconcile
from fastgshare.testing.strategies import ABSTRACT, cpu, gpu


def function(
    name: str = "f", sm: float = 50, quota: float = 0.4, limit: float = 1.0, model: str = "m.onnx"
) -> Function:
    return Function(name, Share(sm, quota, limit), model=model, replicas=Replicas(0, 9))


@pytest.fixture
def world() -> World:
    return World([cpu(2)])


def kinds(world: World, function: Function, replicas: int = 1) -> list[type]:
    return [type(a) for a in world.decide([deployment(function, replicas)]).actions]


def test_missing_instances_are_started_with_ids_that_count_on(world: World) -> None:
    plan = world.step([deployment(function(), 2)])
    assert [(a.instance.id, a.reason) for a in plan.actions if isinstance(a, Start)] == [
        ("f-1", "f has 0 of the 2 instances wanted"),
        ("f-2", "f has 0 of the 2 instances wanted"),
    ]
    world.run([])
    world.run([deployment(function())])
    assert world.ready("f") == ["f-3"]


def test_an_id_in_use_by_an_instance_from_before_is_not_given_again(world: World) -> None:
    rect = Rect(0, 0, 50, 0.4)
    world.instances["f-7"] = InstanceStatus("f-7", "f", InstanceState.READY, Placement("f-7", "cpu", rect))
    plan = world.decide([deployment(function())])
    assert [a.instance.id for a in plan.actions if isinstance(a, Start)] == ["f-8"]
    world.run([deployment(function())])
    assert world.ready("f") == ["f-8"]


def test_fewer_wanted_stops_the_latest_and_none_wanted_all(world: World) -> None:
    world.run([deployment(function(), 3)])
    world.run([deployment(function(), 2)])
    assert world.ready("f") == ["f-1", "f-2"]
    world.run([deployment(function(), 0)])
    assert world.ready("f") == []


def test_a_removed_function_loses_its_instances_after_they_drained(world: World) -> None:
    patient = replace(function(), timeout_s=7.0)
    world.run([deployment(patient)])
    (stop,) = world.decide([]).actions
    assert stop == Stop("f-1", 7.0, "function f was removed")


def test_what_only_the_gateway_uses_changes_nothing(world: World) -> None:
    world.run([deployment(function())])
    changed = replace(function(), slo=Slo(0.1), queue_size=7, timeout_s=3.0, labels={"a": "b"}, batch=Batching(1, 0.5))
    assert kinds(world, changed) == []


def test_other_quotas_are_given_to_the_running_instance(world: World) -> None:
    world.run([deployment(function())])
    plan = world.decide([deployment(function(quota=0.7, limit=0.9))])
    (resize,) = plan.actions
    assert isinstance(resize, Resize)
    share, placement = resize.changes["f-1"]
    assert share == Share(50, 0.7, 0.9)
    assert (placement.rect.quota, placement.rect.sm_offset) == (pytest.approx(0.7), 0)
    world.run([deployment(function(quota=0.7, limit=0.9))])
    assert world.ready("f") == ["f-1"]


def test_another_limit_keeps_the_slot(world: World) -> None:
    world.run([deployment(function()), deployment(function("g"))])
    before = {id: s.placement for id, s in world.instances.items()}
    world.run([deployment(function(limit=0.5)), deployment(function("g"))])
    assert {id: s.placement for id, s in world.instances.items()} == before
    assert world.functions["f-1"].share.quota_limit == 0.5


def test_one_may_grow_into_what_another_gives_up_in_the_same_plan(world: World) -> None:
    world.run([deployment(function("f", 100, 0.4)), deployment(function("g", 100, 0.6))])
    plan = world.decide([deployment(function("f", 100, 0.7)), deployment(function("g", 100, 0.3))])
    assert not plan.problems
    (resize,) = plan.actions
    assert isinstance(resize, Resize)
    assert set(resize.changes) == {"f-1", "g-1"}


def test_quotas_that_have_no_place_are_a_problem_and_the_old_ones_stay(world: World) -> None:
    world.run([deployment(function("f", 100, 0.4)), deployment(function("g", 100, 0.6))])
    plan = world.run([deployment(function("f", 100, 0.5)), deployment(function("g", 100, 0.6))])
    assert plan.problems["f"].startswith("f-1 keep their share: ")
    assert world.functions["f-1"].share.quota_request == 0.4


@pytest.mark.parametrize(
    "changed",
    [
        function(model="other.onnx"),
        function(sm=100),
        replace(function(), handler="handler.py:Handler"),
        replace(function(), env={"A": "1"}),
        replace(function(), share=Share(50, 0.4, 1.0, mem_bytes=1)),
        replace(function(), batch=Batching(2)),
    ],
)
def test_what_an_instance_was_made_of_is_replaced_the_new_one_first(world: World, changed: Function) -> None:
    world.run([deployment(function())])
    assert kinds(world, changed) == [Start]
    world.step([deployment(changed)])
    assert world.instances["f-1"].state is InstanceState.READY
    world.step([deployment(changed)])
    (stop,) = world.decide([deployment(changed)]).actions
    assert stop == Stop("f-1", 60.0, "it is of an earlier version of f")
    world.run([deployment(changed)])
    assert world.ready("f") == ["f-2"]


def test_smaller_batches_need_no_other_instance(world: World) -> None:
    world.run([deployment(replace(function(), batch=Batching(8)))])
    assert kinds(world, replace(function(), batch=Batching(2))) == []


def test_where_both_do_not_fit_the_old_one_goes_first_one_at_a_time(world: World) -> None:
    old, new = function(quota=0.9), function(quota=0.9, model="other.onnx")
    world.run([deployment(old, 2)])
    plan = world.step([deployment(new, 2)])
    assert plan.actions == (Stop("f-1", 60.0, "it makes room for the next version of f"),)
    assert not plan.problems
    world.step([deployment(new, 2)])
    assert [s.state for s in world.instances.values()] == [InstanceState.READY]
    world.run([deployment(new, 2)])
    assert world.ready("f") == ["f-3", "f-4"]


def test_a_version_that_does_not_start_leaves_the_old_one_in_service(world: World) -> None:
    world.run([deployment(function())])
    broken = function(model="broken.onnx")
    for _ in range(40):
        world.step([deployment(broken)])
        for id, status in world.instances.items():
            if status.state is InstanceState.STARTING:
                world.fail(id, "corrupt model")
        world.now_s += 100
    plan = world.decide([deployment(broken)])
    assert plan.problems["f"].endswith("corrupt model; gave up after 6 attempts, deploy or scale f to try again")
    assert (plan.actions, plan.wake_s) == ((), None)
    assert world.ready("f") == ["f-1"]


def test_a_start_that_fails_is_tried_again_later_and_later(world: World) -> None:
    waits = []
    for _ in range(BACKOFF.attempts):
        world.step([deployment(function())])
        (id,) = world.instances
        world.fail(id, "no such file")
        plan = world.step([deployment(function())])
        assert "no such file" in plan.problems["f"]
        if plan.wake_s is not None:
            waits.append(plan.wake_s - world.now_s)
            world.now_s = plan.wake_s
    assert waits == [1, 2, 4, 8, 16]
    assert "gave up after 6 attempts" in world.decide([deployment(function())]).problems["f"]
    world.book = world.book.forgive("f")
    assert kinds(world, function()) == [Start]


def test_an_instance_that_dies_in_service_is_followed_at_once_then_later(world: World) -> None:
    world.run([deployment(function())])
    world.fail("f-1", "killed by signal 9")
    plan = world.step([deployment(function())])
    assert not plan.problems
    assert [a.reason for a in plan.actions if isinstance(a, Start)] == [
        "attempt 2, after f-1 failed: killed by signal 9"
    ]
    world.step([deployment(function())])
    world.step([deployment(function())])
    world.fail("f-2", "killed again")
    plan = world.step([deployment(function())])
    assert plan.wake_s == world.now_s + 2
    assert plan.problems == {"f": "instance f-2 failed: killed again; attempt 3 of 6 follows"}


def test_a_death_after_long_service_counts_as_the_first(world: World) -> None:
    for round in range(10):
        world.run([deployment(function())])
        world.now_s += BACKOFF.stable_s
        world.fail(f"f-{round + 1}")
    assert not world.run([deployment(function())]).problems


def test_many_that_die_together_are_all_followed_at_once(world: World) -> None:
    world.run([deployment(function(quota=0.1), 9)])
    for id in list(world.instances):
        world.fail(id)
    plan = world.decide([deployment(function(quota=0.1), 9)])
    assert sum(isinstance(a, Start) for a in plan.actions) == 9


def test_an_instance_that_vanished_is_replaced(world: World) -> None:
    world.run([deployment(function())])
    del world.instances["f-1"]
    (start,) = world.decide([deployment(function())]).actions
    assert start.reason == "attempt 2, after f-1 failed: it went away"


def test_what_has_no_place_says_so_and_the_rest_starts(world: World) -> None:
    plan = world.run([deployment(function("f", 100, 0.6), 2), deployment(function("g", 100, 0.3))])
    assert plan.problems["f"].startswith("1 of 2 instances have no place: ")
    assert world.ready("f") == ["f-1"]
    assert len(world.ready("g")) == 1


def test_a_share_from_another_machine_is_a_problem_of_its_function_alone(world: World) -> None:
    plan = world.run([deployment(function("f", 25)), deployment(function("g"))])
    assert "nearest: 50" in plan.problems["f"]
    assert world.ready("g") == ["g-1"]


def test_newcomers_are_placed_together_so_that_all_fit() -> None:
    world = World([ABSTRACT])
    pieces = [(60, 0.5), (40, 0.7), (60, 0.5), (40, 0.3)]
    wanted = [deployment(function(f"f{i}", sm, quota)) for i, (sm, quota) in enumerate(pieces)]
    assert not world.run(wanted).problems


def test_slots_of_running_ones_move_before_newcomers_start(world: World) -> None:
    world.run([deployment(function("a", 50, 0.3)), deployment(function("b", 50, 0.5))])
    world.run([deployment(function("b", 50, 0.5))])
    world.run([deployment(function("b", 50, 0.5)), deployment(function("c", 50, 0.3))])
    plan = world.decide(
        [deployment(function(n, s, q)) for n, s, q in [("b", 50, 0.5), ("c", 50, 0.3), ("w", 100, 0.5)]]
    )
    assert not plan.problems
    assert isinstance(plan.actions[-1], Start)


def test_who_needs_a_starting_instance_to_move_waits_for_it(world: World) -> None:
    full = [deployment(function("a", 50, 0.3)), deployment(function("b", 50, 0.5))]
    world.step(full)
    moved = {
        id: replace(s, placement=replace(s.placement, rect=replace(s.placement.rect, quota_offset=0.25)))
        for id, s in world.instances.items()
    }
    world.instances |= moved
    wanted = [*full, deployment(function("w", 100, 0.5))]
    plan = world.decide(wanted)
    assert (plan.actions, plan.problems) == ((), {})
    assert not world.run(wanted).problems
    assert world.ready("w") == ["w-1"]


def test_a_second_device_takes_what_the_first_has_no_room_for() -> None:
    first = cpu(2)
    world = World([first, Device("other", first.kind, 4)])
    world.run([deployment(function("f", 100, 0.6), 2), deployment(function("g", 25, 0.3))])
    assert {s.id: s.placement.device_id for s in world.instances.values()} == {
        "f-1": "cpu",
        "f-2": "other",
        "g-1": "other",
    }


def test_failed_instances_that_a_cluster_still_shows_are_cleared_away(world: World) -> None:
    world.run([deployment(function())])
    world.fail("f-1", "killed")
    stops = [a for a in world.decide([deployment(function())]).actions if isinstance(a, Stop)]
    assert stops == [Stop("f-1", 0.0, "it failed: killed")]


def test_a_share_that_one_device_does_not_have_goes_to_another() -> None:
    world = World([cpu(2), gpu()])
    world.run([deployment(function("f", 37, 0.5)), deployment(function("g", 50, 0.5))])
    assert {s.id: s.placement.device_id for s in world.instances.values()} == {"f-1": "gpu", "g-1": "cpu"}


def test_what_cannot_be_on_a_device_for_other_reasons_goes_to_another_or_is_a_problem() -> None:
    def check(device: Device, function: Function) -> None:
        if device.id == "cpu" and function.model == "gpu.onnx":
            raise InvalidValue("model", function.model, "one for CPUs")

    devices, wanted = [cpu(2), gpu()], [deployment(function(model="gpu.onnx"))]
    (start,) = reconcile(wanted, [], Book(), devices, 0.0, check=check).actions
    assert isinstance(start, Start)
    assert start.instance.placement.device_id == "gpu"
    assert "one for CPUs" in reconcile(wanted, [], Book(), devices[:1], 0.0, check=check).problems["f"]


def test_trust_groups_take_turns_on_a_gpu_and_run_beside_each_other_on_a_cpu() -> None:
    other = replace(function("g"), trust_group="other")
    for device, overlaps in ((gpu(), False), (cpu(2), True)):
        world = World([device])
        world.run([deployment(function()), deployment(other)])
        one, two = (s.placement.rect for s in world.instances.values())
        assert one.coincides(two) == overlaps


def test_who_is_on_a_device_that_is_drained_moves_and_says_why(world: World) -> None:
    world.devices = [*world.devices, gpu()]
    world.run([deployment(function())])
    world.drain("cpu")
    world.run([deployment(function())])
    assert world.ready("f") == ["f-2"]
    assert world.log[-1] == "its device cpu takes no instances any more"


def test_what_cannot_move_stays_and_says_why() -> None:
    world = World([cpu(2), gpu()])
    wanted = [deployment(function("f", 100, 0.8)), deployment(function("g", 100, 0.8))]
    world.run(wanted)
    world.drain("cpu")
    plan = world.run(wanted)
    assert (world.ready("f"), world.ready("g")) == (["f-1"], ["g-1"])
    assert plan.problems.keys() == {"f"}
    assert "until then f-1 on device cpu goes on, where nothing is placed any more" in plan.problems["f"]
    assert not world.run(wanted[:1]).problems
    assert world.ready("f") == ["f-2"]


def test_with_no_device_left_everything_is_a_problem(world: World) -> None:
    world.run([deployment(function())])
    world.lose("cpu")
    plan = world.run([deployment(function())])
    assert plan.problems["f"] == "1 of 1 instances have no place: there is no device"


def test_who_failed_for_what_others_did_is_followed_at_once_however_often(world: World) -> None:
    world.run([deployment(function())])
    for _ in range(2 * BACKOFF.attempts):
        (id,) = world.ready("f")
        world.fail(id, "its trust group failed")
        world.instances[id] = replace(world.instances[id], blameless=True)
        began_s = world.now_s
        assert not world.run([deployment(function())]).problems
        assert world.now_s == began_s


def test_who_fails_itself_in_between_still_counts_up(world: World) -> None:
    world.run([deployment(function())])
    for attempt in range(1, BACKOFF.attempts + 1):
        (id,) = world.ready("f")
        world.fail(id, "it faulted")
        plan = world.run([deployment(function())])
        if attempt < BACKOFF.attempts:
            (id,) = world.ready("f")
            world.fail(id, "its trust group failed")
            world.instances[id] = replace(world.instances[id], blameless=True)
            world.run([deployment(function())])
    assert "gave up after 6 attempts" in plan.problems["f"]
