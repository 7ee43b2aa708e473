"""The application: engine, routes and middleware put together. Nothing happens on import, and nothing is started here."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.metrics import Metrics, outcome_of
from service.problems import RequestIdMiddleware, add_problem_handlers
from service.routes import State, build_router
from service.settings import Settings
from triage.engines.base import Engine
from triage.logs import log_event
from triage.pipeline import Pipeline
from triage.taxonomy import Taxonomy

logger = logging.getLogger("service")


class MetricsMiddleware:
    """Counts and times every request, by route and outcome."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begin = time.perf_counter()
        route = {"/v1/tickets": "tickets", "/v1/schema": "schema"}.get(scope["path"], "other")
        status = 500

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_and_note)
        finally:
            self._metrics.requests.labels(route, outcome_of(status)).inc()
            self._metrics.latency.labels(route).observe(time.perf_counter() - begin)


def create_app(settings: Settings, *, engine: Engine, taxonomy: Taxonomy) -> FastAPI:
    """The service as an ASGI application over a started engine, which it closes when it stops."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await engine.aclose()
        log_event(logger, "stopped")

    metrics = Metrics(taxonomy, engine.release)
    app = FastAPIOffline(
        title="ticket-triage",
        version="1",
        summary="A messy customer message in, a structured ticket out.",
        lifespan=lifespan,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.include_router(build_router(State(settings, taxonomy, Pipeline(engine, taxonomy), metrics)))
    add_problem_handlers(app)
    app.add_middleware(MetricsMiddleware, metrics=metrics)
    app.add_middleware(RequestIdMiddleware)
    return app
