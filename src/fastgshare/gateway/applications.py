"""The web application: routes to what answers them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from aiohttp import web

from fastgshare.domain.errors import FastGShareError
from fastgshare.domain.ledger import LedgerEntry
from fastgshare.domain.ports import Clock, Cluster
from fastgshare.gateway import invocations
from fastgshare.gateway.answers import say
from fastgshare.gateway.guards import Guard
from fastgshare.gateway.invocations import UPLOAD_S, Invocations
from fastgshare.gateway.metrics import expose
from fastgshare.gateway.ports import Platform, Telemetry, Totals
from fastgshare.gateway.resources import Below
from fastgshare.gateway.service import FunctionService
from fastgshare.gateway.system import System

MAX_BODY_BYTES: Final = 32 * 2**20
SERVICE: Final = web.AppKey("fastgshare_service", FunctionService)
_LEDGER_S: Final = 1.0
_METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_HINT: Final = (
    "FaST-GShare\n"
    "POST /function/NAME     call a function\n"
    "GET  /system/functions  what is deployed\n"
    "GET  /metrics           figures for Prometheus\n"
    "GET  /healthz           whether this answers"
)


def create_app(
    platform: Platform,
    cluster: Cluster,
    clock: Clock,
    *,
    ledger: Totals | None = None,
    telemetry: Telemetry | None = None,
    credentials: tuple[str, str] | None = None,
    max_body_bytes: int = MAX_BODY_BYTES,
    drain_s: float = 5.0,
    upload_s: float = UPLOAD_S,
) -> web.Application:
    """The gateway as a web application; make it on the event loop that will run it.

    ledger, telemetry: give the sums of the ledger and what devices say, for ``/metrics``. credentials: user and
    password for ``/system``; None lets everyone in. max_body_bytes: larger bodies are answered with 413. drain_s: how
    long requests that are here may take when it ends. upload_s: how long a caller may take to send a body.
    """
    service = FunctionService(platform, cluster, clock)
    app = web.Application(client_max_size=max_body_bytes)
    app[SERVICE] = service
    functions = Below(invocations.PREFIX.rstrip("/"))
    functions.add_route("*", Invocations(service, clock, upload_s=upload_s).handle)
    app.router.register_resource(functions)
    app.router.add_routes(System(platform, service, clock).routes(Guard(service.figures, clock, credentials)))
    app.router.add_route("*", "/async-function/{target:.+}", _no_queue)
    app.router.add_get("/healthz", _health)
    app.router.add_get("/metrics", _Metrics(platform, service, ledger, telemetry).handle)
    app.router.add_get("/", _hint)

    async def drain(_: web.Application) -> None:
        await service.drain(drain_s)

    async def close(_: web.Application) -> None:
        await service.close()

    app.on_shutdown.append(drain)
    app.on_cleanup.append(close)
    return app


class _Metrics:
    def __init__(
        self, platform: Platform, service: FunctionService, ledger: Totals | None, telemetry: Telemetry | None
    ) -> None:
        self._platform = platform
        self._service = service
        self._ledger = ledger
        self._telemetry = telemetry

    async def handle(self, request: web.Request) -> web.Response:
        service = self._service
        totals = await self._totals()
        deployments = self._platform.deployments()
        body = expose(service.figures, service.snapshots(), deployments, totals, self._telemetry)
        return web.Response(body=body, headers={"Content-Type": _METRICS_TYPE})

    async def _totals(self) -> Sequence[LedgerEntry] | None:
        if self._ledger is None:
            return None
        try:
            async with asyncio.timeout(_LEDGER_S):
                return await self._ledger()
        except (FastGShareError, TimeoutError):
            return None


async def _health(request: web.Request) -> web.Response:
    return say(200, "OK")


async def _hint(request: web.Request) -> web.Response:
    return say(200, _HINT)


async def _no_queue(request: web.Request) -> web.Response:
    return say(501, f"{request.path}: asynchronous calls are not implemented here; allowed: {invocations.PREFIX}NAME")
