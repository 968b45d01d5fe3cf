"""Whatever users do and whatever dies meanwhile: what was accepted is there in the end, and rects never overlap."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.scheduler.test_controller import Platform, platform

from fastgshare.domain.errors import InvalidValue, NoPlacement, NotFound
from fastgshare.testing import strategies

NAMES = st.sampled_from("abc")


async def act(p: Platform, data: st.DataObject) -> None:
    """One thing that a user does, or that goes wrong."""
    device = p.cluster.devices()[0]
    name = data.draw(NAMES)
    match data.draw(st.sampled_from(["deploy", "deploy", "scale", "remove", "kill", "break", "wait"])):
        case "deploy":
            await p.controller.deploy(data.draw(strategies.functions(device, name)))
        case "scale":
            await p.controller.scale(name, data.draw(st.integers(0, 3)))
        case "remove":
            await p.controller.remove(name)
        case "kill" if p.cluster.observe():
            p.cluster.kill(data.draw(st.sampled_from(sorted(s.id for s in p.cluster.observe()))))
        case "break":
            p.cluster.break_starts(name, "broken", times=data.draw(st.integers(1, 3)))
        case _:
            await p.clock.advance(data.draw(st.sampled_from([0.0, 0.5, 3.0])))


async def live(data: st.DataObject) -> None:
    async with platform(cores=data.draw(st.sampled_from([1, 2, 4]))) as p:
        for _ in range(data.draw(st.integers(1, 12))):
            with suppress(NoPlacement, NotFound, InvalidValue):
                await act(p, data)
        await p.clock.advance(300.0)
        for status in p.controller.deployments():
            name = status.deployment.function.name
            if "gave up" not in status.problem:
                assert (status.problem, status.available) == ("", status.deployment.replicas)
            for id in p.ready(name):
                assert p.cluster.instance(id).function.share == status.deployment.function.share
        assert {s.function_name for s in p.cluster.observe()} <= {d.function.name for d in p.functions.all()}


@given(st.data())
@settings(max_examples=60)
def test_what_was_accepted_is_there_in_the_end(data: st.DataObject) -> None:
    asyncio.run(live(data))
