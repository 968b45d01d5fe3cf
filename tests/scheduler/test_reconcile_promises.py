"""Whatever is wanted and whatever breaks: plans come to an end, and what fits is there then."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.scheduler.worlds import World, counts, deployment

from fastgshare.domain.deployments import Deployment
from fastgshare.domain.devices import Device
from fastgshare.scheduler.foresight import foresee
from fastgshare.testing import strategies

Wish = list[Deployment]


@st.composite
def wishes(draw: st.DrawFn, device: Device) -> Wish:
    functions = [
        draw(strategies.functions(device, name)) for name in draw(st.sets(st.sampled_from("abcd"), max_size=4))
    ]
    return [deployment(f, draw(st.integers(0, f.replicas.maximum))) for f in functions]


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Device], list[Wish]]:
    device = strategies.cpu(draw(st.sampled_from([1, 2, 4, 8])))
    second = Device("other", device.kind, 2)
    devices = [device, second] if draw(st.booleans()) else [device]
    return devices, draw(st.lists(wishes(device), min_size=1, max_size=3))


def is_as_wanted(world: World, wish: Wish, problems: object) -> bool:
    assert isinstance(problems, dict)
    got = counts(world, wish)
    for d in wish:
        name = d.function.name
        if name in problems:
            continue
        if got[name] != d.replicas or any(world.functions[id].share != d.function.share for id in world.ready(name)):
            return False
    return True


@given(histories())
@settings(max_examples=60)
def test_a_constant_wish_ends_in_a_constant_state(history: tuple[list[Device], list[Wish]]) -> None:
    devices, wanted = history
    world = World(devices)
    for wish in wanted:
        plan = world.run(wish)
        assert is_as_wanted(world, wish, plan.problems)
        assert not world.decide(wish).actions
        names = {d.function.name for d in wish}
        assert {s.function_name for s in world.instances.values()} <= names


@given(histories(), st.data())
@settings(max_examples=60)
def test_any_instance_that_dies_is_replaced(history: tuple[list[Device], list[Wish]], data: st.DataObject) -> None:
    devices, wanted = history
    world, wish = World(devices[:1]), wanted[-1]
    assume(not world.run(wish).problems)
    for _ in range(3):
        if world.instances:
            world.fail(data.draw(st.sampled_from(sorted(world.instances))))
    assert not world.run(wish).problems
    assert is_as_wanted(world, wish, {})


@given(histories(), st.data())
@settings(max_examples=40)
def test_instances_that_die_while_plans_are_carried_out_change_nothing_in_the_end(
    history: tuple[list[Device], list[Wish]], data: st.DataObject
) -> None:
    devices, wanted = history
    world = World(devices)
    for wish in wanted:
        for _ in range(data.draw(st.integers(0, 3))):
            world.step(wish)
            if world.instances and data.draw(st.booleans()):
                world.fail(data.draw(st.sampled_from(sorted(world.instances))))
    plan = world.run(wanted[-1], steps=100)
    assert is_as_wanted(world, wanted[-1], plan.problems)


@given(histories())
@settings(max_examples=60)
def test_what_is_foreseen_to_fit_does_fit(history: tuple[list[Device], list[Wish]]) -> None:
    devices, wanted = history
    world = World(devices)
    for wish in wanted:
        foreseen = foresee(wish, list(world.instances.values()), world.book, devices)
        assert world.run(wish).problems.keys() <= foreseen.keys()


@st.composite
def estates(draw: st.DrawFn) -> tuple[list[Device], Wish]:
    """Devices of several kinds and grids, and functions with shares of one or another of them, in two trust groups."""
    kinds = [strategies.cpu(4), strategies.gpu(), replace(strategies.gpu(), id="gpu-whole", steps=1)]
    devices = draw(st.lists(st.sampled_from(kinds), min_size=2, max_size=3, unique_by=lambda d: d.id))
    wish = []
    for name in draw(st.sets(st.sampled_from("abcd"), min_size=1, max_size=4)):
        function = draw(strategies.functions(draw(st.sampled_from(devices)), name))
        function = replace(function, trust_group=draw(st.sampled_from(["default", "other"])))
        wish.append(deployment(function, draw(st.integers(1, function.replicas.maximum))))
    return devices, wish


@given(estates(), st.data())
@settings(max_examples=60)
def test_who_has_to_leave_a_device_answers_until_another_does(
    estate: tuple[list[Device], Wish], data: st.DataObject
) -> None:
    devices, wish = estate
    world = World(devices)
    assume(not world.run(wish).problems)
    world.drain(data.draw(st.sampled_from(devices)).id)
    for _ in range(60):
        busy = world.busy()
        plan = world.step(wish)
        assert all(count >= d.replicas for count, d in zip(counts(world, wish).values(), wish, strict=True))
        if not plan.actions and not busy:
            break
    here = {device.id for device in world.devices}
    away = {s.function_name: s.id for s in world.instances.values() if s.placement.device_id not in here}
    assert away.keys() <= world.run(wish).problems.keys()
    assert all(away[name] in world.run(wish).problems[name] for name in away)


@given(estates(), st.data())
@settings(max_examples=60)
def test_whatever_devices_vanish_what_fits_on_the_others_is_there_in_the_end(
    estate: tuple[list[Device], Wish], data: st.DataObject
) -> None:
    devices, wish = estate
    world = World(devices)
    for device in data.draw(st.permutations(devices))[: data.draw(st.integers(0, len(devices)))]:
        for _ in range(data.draw(st.integers(0, 4))):
            world.step(wish)
        data.draw(st.sampled_from([world.lose, world.drain]))(device.id)
    plan = world.run(wish, steps=100)
    assert not world.decide(wish).actions
    assert is_as_wanted(world, wish, plan.problems)
    if not world.devices:
        assert plan.problems.keys() == {d.function.name for d in wish}


@given(estates())
@settings(max_examples=60)
def test_a_lost_device_puts_nobody_off(estate: tuple[list[Device], Wish]) -> None:
    devices, wish = estate
    world = World(devices)
    assume(not world.run(wish).problems)
    world.lose(devices[0].id)
    began_s = world.now_s
    world.run(wish)
    assert world.now_s == began_s  # nobody's successor had to wait for its time
