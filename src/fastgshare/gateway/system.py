"""The platform's own API, ``/system``, in OpenFaaS's JSON."""

from __future__ import annotations

import asyncio
import json
import platform as machine
from collections.abc import Coroutine
from typing import Any, Final

from aiohttp import web

from fastgshare import __version__
from fastgshare.domain.deployments import DeploymentStatus
from fastgshare.domain.errors import FastGShareError, InvalidValue, NotFound
from fastgshare.domain.functions import Function
from fastgshare.domain.ports import Clock
from fastgshare.gateway.answers import say
from fastgshare.gateway.guards import Guard, Handler
from fastgshare.gateway.logs import dump_line, follow, read_query
from fastgshare.gateway.ports import Platform
from fastgshare.gateway.service import FunctionService
from fastgshare.spec import openfaas

DEFAULT_NAMESPACE: Final = "fastgshare-fn"
_QUOTED_CHARACTERS: Final = 60
_NDJSON: Final = "application/x-ndjson"


class System:
    """Handlers of ``/system``."""

    def __init__(self, platform: Platform, service: FunctionService, clock: Clock) -> None:
        self._platform = platform
        self._service = service
        self._clock = clock
        self._changes: set[asyncio.Task[None]] = set()

    def routes(self, guard: Guard) -> list[web.RouteDef]:
        """The routes, each behind the guard."""
        table: list[tuple[str, str, Handler]] = [
            ("GET", "/system/functions", self.list_functions),
            ("POST", "/system/functions", self.create),
            ("PUT", "/system/functions", self.replace),
            ("DELETE", "/system/functions", self.remove),
            ("GET", "/system/function/{name}", self.show),
            ("POST", "/system/scale-function/{name}", self.scale),
            ("GET", "/system/info", self.info),
            ("GET", "/system/logs", self.logs),
            ("GET", "/system/namespaces", self.namespaces),
            ("*", "/system/namespace/{name}", self.missing),
            ("*", "/system/secrets", self.missing),
        ]
        return [
            web.route(method, path, guard.protect(path, handler, public=path == "/system/namespaces"))
            for method, path, handler in table
        ]

    async def list_functions(self, request: web.Request) -> web.Response:
        """All functions, or those of a namespace."""
        namespace = request.query.get("namespace", "")
        statuses = self._platform.deployments()
        return web.json_response(
            [self._dump(s) for s in statuses if namespace in ("", s.deployment.function.namespace)]
        )

    async def show(self, request: web.Request) -> web.Response:
        """One function."""
        return web.json_response(self._dump(self._find(request.match_info["name"], request)))

    async def create(self, request: web.Request) -> web.Response:
        """Deploy a function; one that is there already is replaced, as a second `faas-cli deploy` wants it."""
        return await self._deploy(openfaas.load_deployment(await _read_json(request)), replace=False)

    async def replace(self, request: web.Request) -> web.Response:
        """Deploy a function that is there already."""
        return await self._deploy(openfaas.load_deployment(await _read_json(request)), replace=True)

    async def remove(self, request: web.Request) -> web.Response:
        """Forget a function."""
        name = self._find(openfaas.load_removal(await _read_json(request)), request).deployment.function.name
        await self._change(name, self._platform.remove(name))
        return say(202, f"function {name} is removed")

    async def scale(self, request: web.Request) -> web.Response:
        """Want so many instances."""
        replicas = openfaas.load_scale(await _read_json(request))
        name = self._find(request.match_info["name"], request).deployment.function.name
        await self._change(name, self._platform.scale(name, replicas))
        return say(202, f"function {name} shall have {replicas} instances")

    async def info(self, request: web.Request) -> web.Response:
        """What answers here."""
        version = {"release": __version__, "sha": "", "commit_message": ""}
        provider = {"provider": "fastgshare", "version": version, "orchestration": "fastgshare"}
        return web.json_response({"provider": provider, "version": version, "arch": machine.machine()})

    async def namespaces(self, request: web.Request) -> web.Response:
        """The namespaces that functions are in, the default one first."""
        used = {s.deployment.function.namespace for s in self._platform.deployments()}
        return web.json_response([DEFAULT_NAMESPACE, *sorted(used - {DEFAULT_NAMESPACE})])

    async def logs(self, request: web.Request) -> web.StreamResponse:
        """What instances wrote, as ndjson."""
        query = read_query(request.query)
        function = self._find(query.name, request).deployment.function
        lines = follow(lambda _, tail: self._platform.logs(function.name, tail), query, self._clock)
        response = web.StreamResponse(headers={"Content-Type": _NDJSON})
        await response.prepare(request)
        try:
            async for batch in lines:
                if batch:
                    await response.write(b"".join(dump_line(line, function.namespace) for line in batch))
                if not query.follow:
                    break
        except (FastGShareError, ConnectionError):
            pass  # the function was removed, or the caller has gone: what there was has been said
        return response

    async def missing(self, request: web.Request) -> web.Response:
        """For what OpenFaaS has and this platform has not."""
        return say(501, f"{request.path} is not implemented here")

    async def _deploy(self, function: Function, *, replace: bool) -> web.Response:
        if replace:
            self._platform.deployment(function.name)
        await self._change(function.name, self._platform.deploy(function))
        return say(202, f"function {function.name} is deployed")

    async def _change(self, name: str, change: Coroutine[Any, Any, None]) -> None:
        """Carry out a change to its end, even if the caller goes away meanwhile."""
        task = asyncio.create_task(change)
        self._changes.add(task)
        task.add_done_callback(self._changes.discard)
        task.add_done_callback(lambda _: self._service.refresh(name))
        await asyncio.shield(task)

    def _find(self, name: str, request: web.Request) -> DeploymentStatus:
        """A function by ``name`` or ``name.namespace``, in the namespace of the query if there is one."""
        plain, _, namespace = name.partition(".")
        namespace = namespace or request.query.get("namespace", "")
        status = self._platform.deployment(plain)
        if namespace not in ("", status.deployment.function.namespace):
            raise NotFound("function", f"{plain}.{namespace}")
        return status

    def _dump(self, status: DeploymentStatus) -> dict[str, object]:
        figures = self._service.figures.functions.get(status.deployment.function.name)
        return openfaas.dump_status(status, float(figures.invocations if figures else 0))


async def _read_json(request: web.Request) -> object:
    """The body's JSON. Raises `InvalidValue`."""
    body = await request.read()
    try:
        document: object = json.loads(body)
    except (ValueError, RecursionError) as error:
        shown = body[:_QUOTED_CHARACTERS].decode("utf-8", "replace")
        raise InvalidValue("body", shown, f"a JSON object ({error})") from None
    return document
