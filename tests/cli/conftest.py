"""A gateway over HTTP that keeps deployments and shows them as a test says."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from click.testing import CliRunner, Result

from fastgshare.cli import main
from fastgshare.domain.deployments import Deployment, DeploymentStatus
from fastgshare.domain.functions import Function
from fastgshare.domain.instances import InstanceState, InstanceStatus
from fastgshare.domain.rects import Placement, Rect
from fastgshare.spec.openfaas import dump_status, load_deployment


class ScriptedGateway:
    """Deployed functions get their instances at once, unless `problems` says why not; `stubborn` ones keep their old.

    refused: function name -> (status, text) of what a deployment is answered with. answers: path -> (status, body) of
    anything else. requests: what was asked.
    """

    def __init__(self) -> None:
        self.deployments: dict[str, Deployment] = {}
        self.numbers: dict[str, int] = {}
        self.problems: dict[str, str] = {}
        self.stubborn: set[str] = set()
        self.refused: dict[str, tuple[int, str]] = {}
        self.answers: dict[str, tuple[int, bytes]] = {}
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []

    def handle(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        if (answer := self.answers.get(path.partition("?")[0])) is not None:
            return answer
        if path == "/system/functions" and method == "GET":
            return 200, json.dumps([self.status(name) for name in self.deployments]).encode()
        if path == "/system/functions":
            return self._change(method, json.loads(body))
        name = path.rpartition("/")[2]
        if name not in self.deployments:
            return 404, b"no such function"
        if path.startswith("/system/function/"):
            return 200, json.dumps(self.status(name)).encode()
        if path.startswith("/system/scale-function/"):
            old = self.deployments[name]
            self.deployments[name] = Deployment(old.function, json.loads(body)["replicas"], 0.0)
            return 202, b""
        return 200, body[::-1]

    def status(self, name: str) -> dict[str, Any]:
        deployment, problem = self.deployments[name], self.problems.get(name, "")
        share = deployment.function.share
        first = self.numbers[name]
        instances = tuple(
            InstanceStatus(
                f"{name}-{n}", name, InstanceState.READY, Placement("", "cpu", Rect(0, 0, 50, share.quota_request))
            )
            for n in range(first, first + (0 if problem else deployment.replicas))
        )
        return dump_status(DeploymentStatus(deployment, instances, problem), 3)

    def _change(self, method: str, document: dict[str, Any]) -> tuple[int, bytes]:
        name = document.get("service") or document["functionName"]
        if name in self.refused:
            return self.refused[name][0], self.refused[name][1].encode()
        if method != "POST" and name not in self.deployments:
            return 404, b"no such function"
        if method == "DELETE":
            del self.deployments[name]
            return 202, b""
        function = load_deployment(document)
        old = self.deployments.get(name)
        self.numbers[name] = self.numbers.get(name, 0) + (
            0 if old and (name in self.stubborn or _same(old.function, function)) else 10
        )
        self.deployments[name] = Deployment(function, function.replicas.minimum, 0.0)
        return 202, b""


def _same(one: Function, other: Function) -> bool:
    return (one.model, one.handler, one.env) == (other.model, other.handler, other.env)


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedGateway]:
    scripted = ScriptedGateway()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            scripted.requests.append((self.command, self.path, dict(self.headers), body))
            status, answer = scripted.handle(self.command, self.path, body)
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST = do_PUT = do_DELETE = _answer

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    monkeypatch.setenv("FASTGSHARE_GATEWAY", f"http://127.0.0.1:{server.server_port}")
    yield scripted
    server.shutdown()
    thread.join()
    server.server_close()


Run = Callable[..., Result]


@pytest.fixture
def run() -> Run:
    def run(*arguments: str, **options: Any) -> Result:
        return CliRunner().invoke(main, arguments, **options)

    return run
