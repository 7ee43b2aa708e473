"""The application: settings, engine, routes and middleware put together. Nothing happens on import."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.engine_process import EngineProcess
from service.metrics import Metrics, outcome_of
from service.problems import RequestIdMiddleware, add_problem_handlers
from service.routes import State, build_router
from service.settings import Settings
from triage.engines.base import Engine
from triage.logs import log_event
from triage.pipeline import Pipeline
from triage.taxonomy import Taxonomy, load_taxonomy

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


def create_app(settings: Settings | None = None, *, engine: Engine | None = None, taxonomy: Taxonomy | None = None) -> FastAPI:
    """The service as an ASGI application.

    Args:
        settings: the environment's otherwise.
        engine: a started engine; by default the embedded one is started in a process of its own when the app starts.
        taxonomy: the one that the settings name otherwise.

    Raises:
        SettingsError, TaxonomyError, ReleaseError: something it needs is not usable; nothing is listening yet.
    """
    settings = settings or Settings.load()
    taxonomy = taxonomy or load_taxonomy(settings.taxonomy)
    child = None if engine else EngineProcess(taxonomy, settings.release, threads=settings.engine_threads, restart_s=settings.engine_restart_s)
    served = engine or child
    assert served is not None

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if child is not None:
            await child.start()
        yield
        await served.aclose()
        log_event(logger, "stopped")

    metrics = Metrics(taxonomy, served.release)
    app = FastAPIOffline(
        title="ticket-triage",
        version="1",
        summary="A messy customer message in, a structured ticket out.",
        lifespan=lifespan,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.include_router(build_router(State(settings, taxonomy, Pipeline(served, taxonomy), metrics)))
    add_problem_handlers(app)
    app.add_middleware(MetricsMiddleware, metrics=metrics)
    app.add_middleware(RequestIdMiddleware)
    return app
