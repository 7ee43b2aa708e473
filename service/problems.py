"""Errors over HTTP: RFC 9457 problem documents with a request id and the next step, never with customer text."""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from triage.logs import log_event

logger = logging.getLogger("service")
REQUEST_ID_HEADER = "X-Request-Id"
_REQUEST_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass
class ProblemError(Exception):
    """A request that is answered with a problem document. `slug` names its type for programs."""

    status: int
    slug: str
    detail: str
    hint: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


class RequestIdMiddleware:
    """Gives every request an id, the caller's own where it is short and plain, and returns it in a header."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = dict(scope["headers"]).get(REQUEST_ID_HEADER.lower().encode(), b"").decode("latin-1")
        request_id = given if _REQUEST_ID.fullmatch(given) else f"req_{uuid.uuid4().hex}"
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (REQUEST_ID_HEADER.encode(), request_id.encode())]
            await send(message)

        await self._app(scope, receive, send_with_id)


def problem_response(request: Request, problem: ProblemError) -> JSONResponse:
    """The problem as `application/problem+json`, and a line in the log by which its request id can be found."""
    log_event(logger, "problem", request_id=request.state.request_id, status=problem.status, slug=problem.slug)
    body = {
        "type": f"urn:ticket-triage:problem:{problem.slug}",
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": problem.detail,
        "request_id": request.state.request_id,
    }
    if problem.hint:
        body["hint"] = problem.hint
    return JSONResponse(body, status_code=problem.status, headers=dict(problem.headers), media_type="application/problem+json")


def add_problem_handlers(app: FastAPI) -> None:
    """Answer every error of the app with a problem document."""

    async def on_problem(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, ProblemError)
        return problem_response(request, error)

    async def on_http_error(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        slug = HTTPStatus(error.status_code).phrase.lower().replace(" ", "-")
        problem = ProblemError(error.status_code, slug, str(error.detail), "see /docs for what there is", error.headers or {})
        return problem_response(request, problem)

    async def on_bug(request: Request, error: Exception) -> JSONResponse:
        log_event(logger, "unhandled", level=logging.ERROR, exc_info=True, request_id=request.state.request_id, kind=type(error).__name__)
        # This answer is sent from outside the middleware that adds the id to every other one.
        headers = {REQUEST_ID_HEADER: request.state.request_id}
        return problem_response(request, ProblemError(500, "internal", "this is a fault of the service", "report the request id", headers))

    async def on_disconnect(_: Request, __: Exception) -> Response:
        return Response(status_code=400)  # nobody reads it

    app.add_exception_handler(ProblemError, on_problem)
    app.add_exception_handler(ClientDisconnect, on_disconnect)
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_exception_handler(Exception, on_bug)
