"""From the bytes of a request to a message, and the JSON schemas that `/docs` shows."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from fastapi import Request
from pydantic import ValidationError

from service.problems import ProblemError
from triage.pipeline import Prediction
from triage.strict_json import JsonError, parse_json
from triage.taxonomy import Taxonomy
from triage.ticket import Message, describe_fault, ticket_schema

SHOWN_FAULTS = 10
SHOWN_DEPTH = 6


async def read_message(request: Request, max_bytes: int, timeout_s: float) -> Message:
    """Read and check a request's body.

    Raises:
        ProblemError: 408 too slow, 413 too large, 415 not JSON by its content type, 400 not UTF-8 or not JSON, 422 not of a message's form.
    """
    content_type = request.headers.get("content-type", "application/json").split(";")[0].strip().lower()
    if content_type != "application/json" and not content_type.endswith("+json"):
        raise ProblemError(415, "not-json", "the content type is not application/json", "send the message as JSON")
    try:
        content = await asyncio.wait_for(_read_body(request, max_bytes), timeout_s)
    except TimeoutError:
        raise ProblemError(408, "body-too-slow", f"the body did not arrive within {timeout_s:g} s", "send it again") from None
    try:
        record = parse_json(content)
    except JsonError as error:
        slug, hint = ("not-utf-8", "encode the body as UTF-8") if error.encoding else ("not-json", "see /docs for the form of a message")
        raise ProblemError(400, slug, f"the body is {error}", hint) from None
    if not isinstance(record, dict):
        raise ProblemError(422, "not-a-message", f"the body is a JSON {type(record).__name__}, not an object", "see /docs for the form of a message")
    try:
        return Message.model_validate(record)
    except (ValidationError, RecursionError) as error:
        items = error.errors(include_input=False) if isinstance(error, ValidationError) else []
        faults = ["nested too deeply"]
        if items:
            faults = [describe_fault(item["loc"][:SHOWN_DEPTH], item["type"], item["msg"], Message) for item in items[:SHOWN_FAULTS]]
        raise ProblemError(422, "not-a-message", _printable("; ".join(faults)), "see /docs for the form of a message") from None


def openapi_schemas(taxonomy: Taxonomy) -> tuple[dict[str, Any], dict[str, Any]]:
    """The schemas of a message and of a prediction, labels filled in from the taxonomy."""
    message = Message.model_json_schema(by_alias=True)
    prediction = Prediction.model_json_schema(mode="serialization")
    for schema in (message, prediction):
        _inline_definitions(schema, schema.pop("$defs", {}))
    prediction["properties"]["ticket"] = {key: value for key, value in ticket_schema(taxonomy).items() if key != "$schema"}
    return message, prediction


async def _read_body(request: Request, max_bytes: int) -> bytes:
    too_large = ProblemError(413, "body-too-large", f"the body is over {max_bytes} bytes", "shorten the message or leave old turns out")
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > max_bytes:
        raise too_large
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > max_bytes:
            raise too_large
    return bytes(content)


def _printable(text: str) -> str:
    """Keys of a body are echoed in errors; whatever cannot be encoded is replaced, and the text kept short."""
    return text.encode("utf-8", "replace").decode()[:2_000]


def _inline_definitions(node: Any, definitions: dict[str, Any]) -> None:
    """Replace local references, so that each schema stands by itself. Recursive definitions become free values."""
    if isinstance(node, dict):
        name = str(node.get("$ref", "")).rpartition("/")[2]
        if name:
            node.clear()
            if name in definitions and name != "JsonValue":
                node.update(json.loads(json.dumps(definitions[name])))
        for value in list(node.values()):
            _inline_definitions(value, definitions)
    elif isinstance(node, list):
        for value in node:
            _inline_definitions(value, definitions)
