from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest

from fastgshare import __version__
from fastgshare.domain.errors import DaemonUnavailable, InstanceFailed, InvalidValue, NoPlacement
from fastgshare.domain.logs import LogLine
from fastgshare.spec.openfaas import dump_deployment
from fastgshare.testing.gateway import function, running_gateway, until


def deployment(name: str = "f", **fields: Any) -> dict[str, Any]:
    return dict(dump_deployment(function(name, handler="m:h", **fields)))


async def test_a_function_is_deployed_shown_scaled_and_removed() -> None:
    async with running_gateway() as g:
        assert (await g.ask("PUT", "/system/functions", json=deployment())).status == 404
        assert (await g.ask("POST", "/system/functions", json=deployment())).status == 202
        assert (await g.ask("POST", "/function/f", data=b"x")).status == 200
        (listed,) = json.loads((await g.ask("GET", "/system/functions")).body)
        shown = json.loads((await g.ask("GET", "/system/function/f")).body)
        assert listed == shown
        assert (shown["name"], shown["replicas"], shown["availableReplicas"]) == ("f", 1, 1)
        assert shown["invocationCount"] == 1.0
        scaled = await g.ask("POST", "/system/scale-function/f", json={"serviceName": "f", "replicas": 3})
        assert scaled.status == 202
        assert json.loads((await g.ask("GET", "/system/function/f")).body)["availableReplicas"] == 3
        assert (await g.ask("PUT", "/system/functions", json=deployment(queue_size=7))).status == 202
        assert g.service.lane("f").function.queue_size == 7
        assert (await g.ask("DELETE", "/system/functions", json={"functionName": "f"})).status == 202
        assert json.loads((await g.ask("GET", "/system/functions")).body) == []
        assert (await g.ask("POST", "/function/f", data=b"x")).status == 404


async def test_a_second_post_replaces_as_a_second_deploy_wants_it() -> None:
    async with running_gateway() as g:
        for queue_size in (5, 6):
            answer = await g.ask("POST", "/system/functions", json=deployment(queue_size=queue_size))
            assert answer.status == 202
        assert g.platform.deployment("f").deployment.function.queue_size == 6


async def test_scaling_to_zero_and_back() -> None:
    async with running_gateway() as g:
        await g.platform.deploy(function())
        await g.ask("POST", "/system/scale-function/f", json={"replicas": 0})
        assert (await g.ask("POST", "/function/f", data=b"x")).status == 503
        await g.ask("POST", "/system/scale-function/f", json={"replicas": 1})
        assert (await g.ask("POST", "/function/f", data=b"x")).status == 200


async def test_namespaces_are_checked_where_they_are_named() -> None:
    async with running_gateway() as g:
        await g.platform.deploy(function("f"))
        await g.platform.deploy(function("g", namespace="other"))
        assert json.loads((await g.ask("GET", "/system/namespaces")).body) == ["fastgshare-fn", "other"]
        listed = json.loads((await g.ask("GET", "/system/functions?namespace=other")).body)
        assert [f["name"] for f in listed] == ["g"]
        for path, status in [
            ("/system/function/g.other", 200),
            ("/system/function/g?namespace=other", 200),
            ("/system/function/g?namespace=fastgshare-fn", 404),
            ("/system/function/g.fastgshare-fn", 404),
        ]:
            assert (await g.ask("GET", path)).status == status, path


async def test_info_says_what_answers() -> None:
    async with running_gateway() as g:
        info = json.loads((await g.ask("GET", "/system/info")).body)
    assert info["provider"]["provider"] == "fastgshare"
    assert info["provider"]["version"]["release"] == info["version"]["release"] == __version__
    assert info["arch"]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/system/function/nobody", None),
        ("POST", "/system/scale-function/nobody", {"replicas": 1}),
        ("DELETE", "/system/functions", {"functionName": "nobody"}),
        ("PUT", "/system/functions", deployment("nobody")),
        ("GET", "/system/logs?name=nobody", None),
    ],
)
async def test_an_unknown_function_is_404(method: str, path: str, body: Any) -> None:
    async with running_gateway() as g:
        answer = await g.ask(method, path, json=body)
    assert (answer.status, answer.text) == (404, "function 'nobody' does not exist")


@pytest.mark.parametrize(
    ("method", "path", "body", "named"),
    [
        ("POST", "/system/functions", b"{", "body: '{'"),
        ("POST", "/system/functions", b"", "body: ''"),
        ("POST", "/system/functions", b"\xff\xfe", "body:"),
        ("POST", "/system/functions", b"[" * 100_000, "body:"),
        ("POST", "/system/functions", b"[]", "JSON object"),
        ("POST", "/system/functions", b'{"service": 1}', "service"),
        ("POST", "/system/functions", b'{"service": "f", "image": "/x"}', "fastgshare/gpu_sm_partition"),
        ("PUT", "/system/functions", b"null", "JSON object"),
        ("DELETE", "/system/functions", b"{}", "functionName"),
        ("POST", "/system/scale-function/f", b'{"replicas": -1}', "replicas"),
        ("POST", "/system/scale-function/f", b'{"replicas": "many"}', "replicas"),
        ("GET", "/system/logs", b"", "name"),
        ("GET", "/system/logs?name=f&tail=x", b"", "tail: 'x'"),
        ("GET", "/system/logs?name=f&tail=-1", b"", "tail: '-1'"),
        ("GET", "/system/logs?name=f&follow=maybe", b"", "follow: 'maybe'"),
        ("GET", "/system/logs?name=f&since=yesterday", b"", "since: 'yesterday'"),
    ],
)
async def test_what_is_asked_wrongly_is_400_in_one_line(method: str, path: str, body: bytes, named: str) -> None:
    async with running_gateway() as g:
        await g.platform.deploy(function())
        answer = await g.ask(method, path, data=body)
        assert answer.status == 400
        assert named in answer.text
        assert "allowed: " in answer.text
        assert "\n" not in answer.text
        assert answer.headers["Content-Type"].startswith("text/plain")
        assert g.platform.deployment("f").deployment.replicas == 1


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidValue("sm_partition", 33, "50 or 100"), 400),
        (NoPlacement("function f: the device is full"), 409),
        (InstanceFailed("f-1", "corrupt model"), 422),
        (DaemonUnavailable("the node daemon does not answer"), 503),
    ],
)
async def test_what_the_platform_refuses_is_passed_on(error: Any, status: int) -> None:
    async with running_gateway() as g:
        g.platform.refuse = error
        answer = await g.ask("POST", "/system/functions", json=deployment())
    assert (answer.status, answer.text) == (status, str(error))


@pytest.mark.parametrize("path", ["/system/secrets", "/system/namespace/x", "/async-function/f"])
async def test_what_is_not_there_says_so(path: str) -> None:
    async with running_gateway() as g:
        answer = await g.ask("POST", path, data=b"{}")
    assert answer.status == 501
    assert path in answer.text


async def test_health_and_a_hint() -> None:
    async with running_gateway() as g:
        assert (await g.ask("GET", "/healthz")).status == 200
        assert (await g.ask("HEAD", "/healthz")).status == 200
        assert "/function/NAME" in (await g.ask("GET", "/")).text


async def test_a_caller_that_goes_away_leaves_nothing_half_done() -> None:
    async with running_gateway(start_s=1.0) as g:
        asked = g.ask("POST", "/system/functions", json=deployment())
        await until(lambda: len(g.cluster.starts) == 1)
        asked.cancel()
        await g.clock.advance(1.0)
        assert g.platform.deployment("f").available == 1


# --- who may ---------------------------------------------------------------------------------------------------------


async def test_with_credentials_only_who_has_them_gets_in() -> None:
    right = {"Authorization": "Basic " + base64.b64encode(b"admin:secret").decode()}
    wrong = {"Authorization": "Basic " + base64.b64encode(b"admin:guess").decode()}
    async with running_gateway(credentials=("admin", "secret")) as g:
        for headers in ({}, wrong, {"Authorization": "Bearer é"}):
            answer = await g.ask("POST", "/system/functions", json=deployment(), headers=headers)
            assert answer.status == 401
            assert answer.headers["WWW-Authenticate"].startswith("Basic")
        assert g.platform.deployments() == []
        assert (await g.ask("POST", "/system/functions", json=deployment(), headers=right)).status == 202
        for path in ("/function/f", "/healthz", "/metrics", "/system/namespaces"):
            assert (await g.ask("GET", path)).status == 200, path


async def test_a_web_page_may_not_deploy() -> None:
    async with running_gateway() as g:
        answer = await g.ask("POST", "/system/functions", json=deployment(), headers={"Origin": "http://evil.example"})
        assert answer.status == 403
        assert g.platform.deployments() == []
        assert (await g.ask("GET", "/system/functions", headers={"Origin": "http://dashboard"})).status == 200


# --- logs ------------------------------------------------------------------------------------------------------------


def line(number: int, name: str = "f", instance: str = "f-1") -> LogLine:
    return LogLine(name, instance, 1_700_000_000.25 + number, f"line {number}")


def texts(body: bytes) -> list[str]:
    return [json.loads(row)["text"] for row in body.splitlines()]


async def test_logs_are_lines_of_json() -> None:
    async with running_gateway() as g:
        await g.platform.deploy(function())
        g.platform.lines = [line(0), line(1, "other"), line(2, instance="f-2"), line(3)]
        answer = await g.ask("GET", "/system/logs?name=f&tail=2")
        assert answer.headers["Content-Type"] == "application/x-ndjson"
        assert json.loads(answer.body.splitlines()[0]) == {
            "name": "f",
            "namespace": "fastgshare-fn",
            "instance": "f-2",
            "timestamp": "2023-11-14T22:13:22.250000Z",
            "text": "line 2",
        }
        for query, expected in [
            ("", ["line 0", "line 2", "line 3"]),
            ("&tail=0", []),
            ("&tail=1", ["line 3"]),
            ("&instance=f-2", ["line 2"]),
            ("&since=2023-11-14T22:13:22Z", ["line 2", "line 3"]),
            ("&since=2023-11-14T23:13:23%2B01:00", ["line 3"]),
        ]:
            assert texts((await g.ask("GET", f"/system/logs?name=f{query}")).body) == expected, query


async def test_logs_are_followed_until_the_function_goes() -> None:
    async with running_gateway() as g:
        await g.platform.deploy(function())
        g.platform.lines = [line(0), line(1)]
        got: list[bytes] = []

        async def read() -> None:
            async with g.session.get(f"{g.server.url}/system/logs?name=f&tail=1&follow=1") as response:
                async for row in response.content:
                    got.append(row)

        reading = asyncio.create_task(read())
        await until(lambda: len(got) == 1)
        for number in (2, 3):
            g.platform.lines = [*g.platform.lines, line(number), line(number, "other")]
            await g.clock.advance(0.25)
            await until(lambda expected=number: len(got) == expected)  # type: ignore[misc]
        await g.clock.advance(5.0)
        await g.platform.remove("f")
        await g.clock.advance(0.25)
        await reading
    assert texts(b"".join(got)) == ["line 1", "line 2", "line 3"]
