from __future__ import annotations

import asyncio
import gzip
from typing import Any

import pytest

from fastgshare import __version__
from fastgshare.domain.errors import InstanceLost
from fastgshare.domain.functions import Batching, Function
from fastgshare.domain.instances import Instance
from fastgshare.domain.requests import Reply, Request
from fastgshare.testing.clusters import echo
from fastgshare.testing.gateway import RunningGateway, function, running_gateway, until


class Recorder:
    """Answers as told and keeps what it was asked."""

    def __init__(self, **reply: Any) -> None:
        self.reply = {"status": 200, "body": b"", "headers": (), **reply}
        self.requests: list[Request] = []

    def __call__(self, instance: Instance, request: Request) -> Reply:
        self.requests.append(request)
        return Reply(request.id, **self.reply)

    @property
    def headers(self) -> dict[str, str]:
        return {name.lower(): value for name, value in self.requests[-1].headers}


# --- what passes -----------------------------------------------------------------------------------------------------


async def test_a_body_goes_in_and_comes_out_as_it_is() -> None:
    body = bytes(range(256)) * 1000
    async with running_gateway() as g:
        await g.platform.deploy(function())
        answer = await g.ask("POST", "/function/f", data=body)
        assert (answer.status, answer.body) == (200, body)
        assert answer.headers["X-Fastgshare-Instance"] == "f-1"


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"])
async def test_method_path_and_query_reach_the_function(method: str) -> None:
    recorder = Recorder(status=203, body=b"said")
    async with running_gateway(answer=recorder) as g:
        await g.platform.deploy(function())
        answer = await g.ask(method, "/function/f/a%20b/c?x=1&y=%20", data=b"in" if method == "POST" else None)
    assert answer.status == 203
    assert answer.body == (b"" if method == "HEAD" else b"said")
    request = recorder.requests[0]
    assert (request.method, request.path, request.query) == (method, "/a b/c", "x=1&y=%20")
    assert request.body == (b"in" if method == "POST" else b"")


@pytest.mark.parametrize(("target", "path"), [("f", ""), ("f/", "/"), ("f/x/y/", "/x/y/"), ("f.fastgshare-fn/x", "/x")])
async def test_the_path_is_what_follows_the_name(target: str, path: str) -> None:
    recorder = Recorder()
    async with running_gateway(answer=recorder) as g:
        await g.platform.deploy(function())
        assert (await g.ask("GET", f"/function/{target}")).status == 200
    assert recorder.requests[0].path == path


async def test_another_method_is_refused() -> None:
    async with running_gateway() as g:
        await g.platform.deploy(function())
        answer = await g.ask("PROPFIND", "/function/f")
    assert answer.status == 405
    assert "POST" in answer.headers["Allow"]
    assert "PROPFIND" in answer.text


async def test_headers_pass_both_ways_without_those_of_the_connection() -> None:
    recorder = Recorder(
        headers=(
            ("X-Answer", "1"),
            ("Set-Cookie", "a=1"),
            ("Set-Cookie", "b=2"),
            ("Connection", "close"),
            ("Content-Length", "77"),
            ("Content-Type", "image/png"),
        ),
        body=b"png",
    )
    sent = {
        "X-Question": "ä",
        "Authorization": "Bearer t",
        "Connection": "keep-alive, X-Mine",
        "X-Mine": "m",
        "TE": "x",
    }
    async with running_gateway(answer=recorder) as g:
        await g.platform.deploy(function())
        answer = await g.ask("POST", "/function/f", data=b"x", headers={**sent, "X-Forwarded-For": "10.0.0.9"})
        port = g.server.port
    got = recorder.headers
    assert (got["x-question"], got["authorization"]) == ("ä", "Bearer t")
    assert not {"connection", "x-mine", "te", "content-length", "host", "transfer-encoding"} & set(got)
    assert got["x-forwarded-for"] == "10.0.0.9, 127.0.0.1"
    assert got["x-forwarded-host"] == f"127.0.0.1:{port}"
    assert answer.headers["X-Answer"] == "1"
    assert answer.headers.getall("Set-Cookie") == ["a=1", "b=2"]
    assert answer.headers["Content-Type"] == "image/png"
    assert answer.headers["Content-Length"] == "3"
    assert answer.headers.get("Connection") != "close"


async def test_the_gateway_says_who_when_and_how_long() -> None:
    recorder = Recorder()
    async with running_gateway(answer=recorder, answer_s=0.25) as g:
        await g.platform.deploy(function())
        asked = g.ask("POST", "/function/f", data=b"x")
        await g.arrived("f", 1)
        await g.clock.advance(0.25)
        first = await asked
        second = g.ask("POST", "/function/f", data=b"x", headers={"X-Call-Id": "mine"})
        await g.arrived("f", 1)
        await g.clock.advance(0.25)
        assert (await second).headers["X-Call-Id"] == "mine"
    assert recorder.headers["x-call-id"] == "mine"
    assert first.headers["X-Served-By"] == f"fastgshare/{__version__}"
    assert first.headers["X-Duration-Seconds"] == "0.250000"
    assert int(first.headers["X-Start-Time"]) > 1_700_000_000_000_000_000
    assert len(first.headers["X-Call-Id"]) == 32
    sent = dict(recorder.requests[0].headers)
    assert (sent["X-Call-Id"], sent["X-Start-Time"]) == (first.headers["X-Call-Id"], first.headers["X-Start-Time"])


@pytest.mark.parametrize(("given", "expected"), [("application/json", "application/json"), (None, "text/plain")])
async def test_a_reply_without_content_type_has_the_requests_or_is_text(given: str | None, expected: str) -> None:
    async with running_gateway(answer=Recorder(body=b"x")) as g:
        await g.platform.deploy(function())
        headers = {"Content-Type": given} if given else {}
        answer = await g.ask("POST", "/function/f", data=b"x", headers=headers, skip_auto_headers=["Content-Type"])
    assert answer.headers["Content-Type"] == expected


async def test_compressed_and_chunked_bodies_pass_as_they_are() -> None:
    packed = gzip.compress(b"words " * 100)

    async def chunks() -> Any:
        yield packed[:10]
        yield packed[10:]

    async with running_gateway() as g:
        await g.platform.deploy(function())
        answer = await g.ask("POST", "/function/f", data=chunks(), headers={"Content-Encoding": "gzip"})
    assert answer.body == packed


# --- what is refused -------------------------------------------------------------------------------------------------


async def test_an_unknown_function_is_404() -> None:
    async with running_gateway() as g:
        await g.platform.deploy(function())
        for name in ("g", "f.elsewhere", "g.fastgshare-fn", "%C3%A4"):
            answer = await g.ask("POST", f"/function/{name}", data=b"x")
            assert answer.status == 404
            assert "does not exist" in answer.text
        assert "g" not in g.service.figures.functions


async def test_no_instance_is_503_at_once() -> None:
    async with running_gateway() as g:
        g.platform.put(function(), replicas=0)
        answer = await g.ask("POST", "/function/f", data=b"x")
    assert answer.status == 503
    assert answer.headers["X-OpenFaaS-Internal"] == "proxy"
    assert int(answer.headers["Retry-After"]) >= 1
    assert answer.text == "function 'f' has no instance"


async def test_beyond_the_queue_it_is_429_with_the_time_to_wait() -> None:
    async with running_gateway(answer_s=1.0) as g:
        await g.platform.deploy(function(queue_size=2))
        asked = [g.ask("POST", "/function/f", data=b"x") for _ in range(4)]
        await g.arrived("f", 4)
        refused = await g.ask("POST", "/function/f", data=b"x")
        assert (refused.status, refused.headers["Retry-After"]) == (429, "1")
        assert refused.text == "function 'f' has no room in its queue; it holds 2 requests"
        await g.clock.advance(5.0)
        assert [answer.status for answer in await asyncio.gather(*asked)] == [200] * 4


async def test_the_deadline_is_504_in_the_queue_and_at_an_instance() -> None:
    async with running_gateway(answer_s=100.0) as g:
        await g.platform.deploy(function(timeout_s=2.0))
        asked = [g.ask("POST", "/function/f", data=b"x") for _ in range(3)]
        await g.arrived("f", 3)
        await g.clock.advance(1.9)
        assert not any(task.done() for task in asked)
        await g.clock.advance(0.1)
        for answer in await asyncio.gather(*asked):
            assert answer.status == 504
            assert answer.text == "function 'f' did not answer before the deadline"
            assert answer.headers["X-Duration-Seconds"] == "2.000000"


async def test_a_request_may_bring_its_own_deadline() -> None:
    async with running_gateway(answer_s=100.0) as g:
        await g.platform.deploy(function())
        asked = g.ask("POST", "/function/f", data=b"x", headers={"X-Timeout-Ms": "1500"})
        await g.arrived("f", 1)
        await g.clock.advance(1.5)
        assert (await asked).status == 504


@pytest.mark.parametrize("text", ["", "soon", "0", "-1", "nan", "inf", "3600001", "1e9"])
async def test_a_wrong_deadline_is_400(text: str) -> None:
    async with running_gateway() as g:
        await g.platform.deploy(function())
        answer = await g.ask("POST", "/function/f", data=b"x", headers={"X-Timeout-Ms": text})
    assert answer.status == 400
    assert answer.text == (f"header X-Timeout-Ms: {text!r} is not allowed; allowed: above 0 up to 3600000 milliseconds")


async def test_a_body_beyond_the_bound_is_413() -> None:
    async with running_gateway(max_body_bytes=1000) as g:
        await g.platform.deploy(function())
        assert (await g.ask("POST", "/function/f", data=bytes(1000))).status == 200
        assert (await g.ask("POST", "/function/f", data=bytes(1001))).status == 413
        assert g.service.figures.of("f").by_code[413].count == 1


async def test_a_body_that_does_not_arrive_is_408() -> None:
    async def never() -> Any:
        yield b"some"
        await asyncio.Event().wait()

    async with running_gateway(upload_s=0.02) as g:
        await g.platform.deploy(function())
        answer = await g.ask("POST", "/function/f", data=never())
    assert answer.status == 408


@pytest.mark.parametrize(
    "reply",
    [
        {"status": 99},
        {"status": 700},
        {"headers": (("X-A", "1\r\nX-B: 2"),)},
        {"headers": (("X A", "1"),)},
        {"headers": (("", "1"),)},
    ],
)
async def test_a_reply_that_http_cannot_carry_is_502(reply: dict[str, Any]) -> None:
    async with running_gateway(answer=Recorder(**reply)) as g:
        await g.platform.deploy(function())
        answer = await g.ask("POST", "/function/f", data=b"x")
    assert answer.status == 502
    assert "HTTP cannot carry" in answer.text


async def test_a_reply_to_another_request_is_no_reply() -> None:
    async with running_gateway(answer=lambda i, r: Reply(r.id + 1, 200, b"")) as g:
        await g.platform.deploy(function())
        assert (await g.ask("POST", "/function/f", data=b"x")).status == 502


async def test_a_cluster_that_breaks_costs_the_request_and_nothing_else() -> None:
    def broken(instance: Instance, request: Request) -> Reply:
        if request.body == b"bad":
            raise RuntimeError("a bug")
        return echo(instance, request)

    async with running_gateway(answer=broken) as g:
        await g.platform.deploy(function())
        assert (await g.ask("POST", "/function/f", data=b"bad")).status == 502
        assert (await g.ask("POST", "/function/f", data=b"good")).status == 200


# --- instances come and go -------------------------------------------------------------------------------------------


async def test_requests_wait_for_an_instance_that_is_starting() -> None:
    async with running_gateway(start_s=5.0) as g:
        g.platform.put(function(), replicas=1)
        asked = g.ask("POST", "/function/f", data=b"x")
        await g.arrived("f", 1)
        starting = asyncio.create_task(g.platform.start("f"))
        await g.clock.advance(5.0)
        await starting
        assert (await asked).status == 200


async def test_requests_that_wait_are_told_when_no_instance_comes() -> None:
    async with running_gateway() as g:
        g.platform.put(function(), replicas=1)
        asked = g.ask("POST", "/function/f", data=b"x")
        await g.arrived("f", 1)
        g.platform.problems["f"] = "it does not fit"
        await g.clock.advance(1.0)
        assert (await asked).status == 503


async def test_a_lost_instance_costs_no_request_if_there_is_another() -> None:
    async with running_gateway(answer_s=1.0) as g:
        await g.platform.deploy(function())
        asked = [g.ask("POST", "/function/f", data=b"%d" % i) for i in range(3)]
        await g.arrived("f", 3)
        await g.platform.start("f")
        await g.clock.advance(0.5)
        g.cluster.kill("f-1")
        await g.clock.advance(5.0)
        answers = await asyncio.gather(*asked)
    assert [answer.status for answer in answers] == [200] * 3
    assert [answer.body for answer in answers] == [b"0", b"1", b"2"]
    assert {answer.headers["X-Fastgshare-Instance"] for answer in answers} == {"f-2"}


async def test_a_request_that_loses_two_instances_is_502() -> None:
    async with running_gateway(answer_s=1.0) as g:
        await g.platform.deploy(function())
        asked = g.ask("POST", "/function/f", data=b"x")
        await g.arrived("f", 1)
        g.cluster.kill("f-1")
        await g.platform.start("f")
        await g.clock.settle()
        g.cluster.kill("f-2")
        answer = await asked
    assert answer.status == 502
    assert answer.text == "function 'f' lost the instance that worked on the request"


async def test_an_instance_lost_between_two_batches_is_no_ones_loss() -> None:
    """The cluster says that it cannot send before it says that the instance has gone."""
    dead: set[str] = set()

    def refuse(instance: Instance, request: Request) -> Reply:
        if instance.id in dead:
            raise InstanceLost(instance.id, "it is not ready")
        return echo(instance, request)

    async with running_gateway(answer=refuse) as g:
        await g.platform.deploy(function())
        dead.add("f-1")
        asked = g.ask("POST", "/function/f", data=b"x")
        await g.arrived("f", 1)
        await g.platform.start("f")
        assert (await asked).headers["X-Fastgshare-Instance"] == "f-2"


async def test_an_instance_that_drains_answers_what_it_has_and_gets_nothing_more() -> None:
    async with running_gateway(answer_s=1.0) as g:
        await g.platform.deploy(function())
        asked = [g.ask("POST", "/function/f", data=b"x") for _ in range(4)]
        await g.arrived("f", 4)
        await g.platform.start("f")
        stopping = asyncio.create_task(g.cluster.stop("f-1", drain_s=30.0))
        await g.clock.advance(10.0)
        await stopping
        answers = await asyncio.gather(*asked)
    assert [a.status for a in answers] == [200] * 4
    assert sorted(a.headers["X-Fastgshare-Instance"] for a in answers) == ["f-1", "f-1", "f-2", "f-2"]


# --- batches, callers, versions --------------------------------------------------------------------------------------


async def test_requests_that_wait_travel_as_a_batch() -> None:
    async with running_gateway(answer_s=1.0) as g:
        await g.platform.deploy(function(batch=Batching(max_size=8, max_wait_s=0.1)))
        asked = [g.ask("POST", "/function/f", data=b"%d" % i) for i in range(5)]
        await g.arrived("f", 5)
        await g.clock.advance(1.1)
        answers = await asyncio.gather(*asked)
        assert [a.body for a in answers] == [b"0", b"1", b"2", b"3", b"4"]
        batches = g.service.figures.of("f").batches
        assert (batches.count, batches.total) == (1, 5.0)


async def test_what_a_caller_no_longer_wants_is_dropped_from_the_queue() -> None:
    recorder = Recorder()
    async with running_gateway(answer=recorder, answer_s=1.0) as g:
        await g.platform.deploy(function())
        kept = [g.ask("POST", "/function/f", data=b"kept") for _ in range(2)]
        await g.arrived("f", 2)
        gone = g.ask("POST", "/function/f", data=b"gone")
        await g.arrived("f", 3)
        gone.cancel()
        await g.arrived("f", 2)
        await g.clock.advance(5.0)
        assert [answer.status for answer in await asyncio.gather(*kept)] == [200, 200]
        assert g.service.figures.of("f").withdrawn == 1
    assert [request.body for request in recorder.requests] == [b"kept", b"kept"]


async def test_a_new_version_changes_the_bounds_of_the_queue() -> None:
    async with running_gateway(answer_s=1.0) as g:
        await g.platform.deploy(function(queue_size=1))
        g.service.lane("f")
        await g.platform.deploy(function(queue_size=10))
        g.service.refresh("f")
        asked = [g.ask("POST", "/function/f", data=b"x") for _ in range(6)]
        await g.arrived("f", 6)
        await g.clock.advance(10.0)
        assert [answer.status for answer in await asyncio.gather(*asked)] == [200] * 6


async def test_a_removed_function_finishes_its_work_and_is_gone() -> None:
    async with running_gateway(answer_s=1.0) as g:
        await g.platform.deploy(function())
        asked = [g.ask("POST", "/function/f", data=b"x") for _ in range(3)]
        await g.arrived("f", 3)
        removing = g.ask("DELETE", "/system/functions", json={"functionName": "f"})
        await until(lambda: g.cluster.stops == ["f-1"])
        assert (await g.ask("POST", "/function/f", data=b"x")).status == 404
        await g.clock.advance(2.0)
        assert (await removing).status == 202
        assert sorted(answer.status for answer in await asyncio.gather(*asked)) == [200, 200, 503]
        assert g.service.snapshots() == {}
        assert g.service.figures.functions == {}


async def test_a_function_removed_and_deployed_again_works() -> None:
    async with running_gateway(answer_s=1.0) as g:
        await g.platform.deploy(function())
        old = g.ask("POST", "/function/f", data=b"old")
        await g.arrived("f", 1)
        removing = g.ask("DELETE", "/system/functions", json={"functionName": "f"})
        await until(lambda: g.cluster.stops == ["f-1"])
        await g.platform.deploy(function(queue_size=3))
        new = g.ask("POST", "/function/f", data=b"new")
        await g.arrived("f", 2)
        await g.clock.advance(3.0)
        await removing
        answers = [await old, await new]
        assert [(a.status, a.headers["X-Fastgshare-Instance"]) for a in answers] == [(200, "f-1"), (200, "f-2")]


async def test_bodies_that_wait_are_bounded_together() -> None:
    async with running_gateway(answer_s=1.0) as g:
        g.service._max_held_bytes = 1000
        await g.platform.deploy(function())
        asked = g.ask("POST", "/function/f", data=bytes(600))
        await g.arrived("f", 1)
        assert (await g.ask("POST", "/function/f", data=bytes(600))).status == 429
        await g.clock.advance(1.0)
        assert (await asked).status == 200
        last = g.ask("POST", "/function/f", data=bytes(600))
        await g.arrived("f", 1)
        await g.clock.advance(1.0)
        assert (await last).status == 200


async def fill(g: RunningGateway, deployed: Function, count: int) -> list[asyncio.Task[Any]]:
    await g.platform.deploy(deployed)
    asked = [g.ask("POST", f"/function/{deployed.name}", data=b"x") for _ in range(count)]
    await g.arrived(deployed.name, count)
    return asked


async def test_functions_do_not_wait_for_each_other() -> None:
    async with running_gateway(answer_s=1.0) as g:
        slow = await fill(g, function("slow", queue_size=50), 40)
        fast = await fill(g, function("fast"), 2)
        await g.clock.advance(2.0)
        assert [answer.status for answer in await asyncio.gather(*fast)] == [200, 200]
        assert not all(task.done() for task in slow)
        await g.clock.advance(60.0)
        assert len(await asyncio.gather(*slow)) == 40
