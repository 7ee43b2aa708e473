"""The routes: each reads its request, calls the pipeline, and says what happened in HTTP's words."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from service.metrics import Metrics
from service.problems import ProblemError
from service.settings import Settings
from service.wire import openapi_schemas, read_message
from triage.logs import log_event
from triage.pipeline import Pipeline
from triage.taxonomy import Taxonomy
from triage.ticket import ticket_schema

logger = logging.getLogger("service")


@dataclass
class State:
    """What the routes share. `in_flight` counts messages being read."""

    settings: Settings
    taxonomy: Taxonomy
    pipeline: Pipeline
    metrics: Metrics
    in_flight: int = 0

    @property
    def ready(self) -> bool:
        """True while the engine runs; an engine without a say is always ready."""
        return bool(getattr(self.pipeline.engine, "ready", True))


def build_router(state: State) -> APIRouter:
    """All routes over one state."""
    router = APIRouter()
    message_schema, prediction_schema = openapi_schemas(state.taxonomy)
    problem = {"description": "A problem document (RFC 9457).", "content": {"application/problem+json": {"schema": {"type": "object"}}}}
    answers: dict[int | str, dict[str, Any]] = {
        200: {"description": "A valid ticket.", "content": {"application/json": {"schema": prediction_schema}}},
        **dict.fromkeys((400, 408, 413, 415, 422, 503), problem),
    }
    body = {"requestBody": {"required": True, "content": {"application/json": {"schema": message_schema}}}}

    @router.post("/v1/tickets", summary="Turn a message into a ticket", responses=answers, openapi_extra=body, tags=["tickets"])
    async def create_ticket(request: Request) -> JSONResponse:
        """Reads one customer message and answers with a ticket: the model's, or the fallback that sends it to a person."""
        message = await read_message(request, state.settings.max_body_bytes, state.settings.body_timeout_s)
        if state.in_flight >= state.settings.max_in_flight:
            raise ProblemError(503, "busy", "too many messages are being read", "try again shortly", {"Retry-After": "1"})
        state.in_flight += 1
        state.metrics.in_flight.set(state.in_flight)
        try:
            [prediction] = await state.pipeline.predict([message], deadline_s=state.settings.deadline_s)
        finally:
            state.in_flight -= 1
            state.metrics.in_flight.set(state.in_flight)
        state.metrics.count_prediction(prediction)
        log_event(
            logger,
            "ticket",
            id=prediction.id,
            request_id=request.state.request_id,
            status=prediction.status,
            decided_by=prediction.decided_by,
            reasons=",".join(prediction.reasons),
            characters=len(message.message),
            latency_ms=prediction.latency_ms,
        )
        return JSONResponse(prediction.model_dump(mode="json", exclude_none=True))

    @router.get("/v1/schema", summary="The JSON Schema of a ticket", tags=["tickets"])
    async def read_schema() -> JSONResponse:
        return JSONResponse(ticket_schema(state.taxonomy), media_type="application/schema+json")

    @router.head("/healthz", include_in_schema=False)
    @router.get("/healthz", summary="The process lives", tags=["operations"])
    async def read_health() -> dict[str, str]:
        return {"status": "ok"}

    @router.head("/readyz", include_in_schema=False)
    @router.get("/readyz", summary="The engine runs", responses={503: problem}, tags=["operations"])
    async def read_readiness() -> dict[str, str]:
        if not state.ready:
            raise ProblemError(503, "not-ready", "the engine is not running", "messages become unread tickets until it is", {"Retry-After": "5"})
        return {"status": "ready", "release": state.pipeline.engine.release}

    @router.get("/metrics", summary="Prometheus metrics", response_class=Response, tags=["operations"])
    async def read_metrics() -> Response:
        state.metrics.engine_up.set(state.ready)
        return Response(generate_latest(state.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return router
