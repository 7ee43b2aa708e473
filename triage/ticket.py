"""What comes in (a message) and what goes out (a ticket), their JSON, and the schema a ticket obeys."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, ValidationError

from triage.errors import MessageError
from triage.taxonomy import LABEL_FIELDS, SUMMARY_CHARACTERS, Taxonomy

TICKET_FIELDS = (*LABEL_FIELDS, "summary")

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff]")
_PLAIN_KEY = re.compile(r"[A-Za-z_]{1,40}")
_SURROGATES = re.compile(r"[\ud800-\udfff]")


def clean_text(value: Any) -> Any:
    """Make any text harmless to encode: line ends become `\\n`, controls blanks, lone surrogates U+FFFD.

    Leaves whatever is no string for the validation that follows to refuse.
    """
    if not isinstance(value, str):
        return value
    text = value.replace("\r\n", "\n").replace("\r", "\n")
    return _SURROGATES.sub("\ufffd", _CONTROLS.sub(" ", text))


Text = Annotated[str, BeforeValidator(clean_text)]
Channel = Literal["mail", "chat", "form", "app_review", "social", "phone_transcript"]


class Turn(BaseModel):
    """One earlier message of the conversation."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, serialize_by_alias=True)

    sender: Annotated[Literal["customer", "agent"], Field(alias="from")]
    text: Text


class Message(BaseModel):
    """What a customer wrote, as a support tool sends it. An unknown key is refused, so that a misspelt one is noticed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    message: Text
    """The newest message. It may be empty or blank: that is a ticket too."""
    subject: Text | None = None
    thread: list[Turn] = []
    """Earlier turns, oldest first."""
    channel: Channel | None = None
    external_id: Annotated[str, Field(max_length=200)] | None = None
    """The support tool's own id; echoed, never read."""
    metadata: dict[str, JsonValue] = {}
    """Echoed nowhere and never shown to the model."""
    no_training: bool = False
    """True keeps the message out of every dataset."""


class Ticket(BaseModel):
    """A triaged message. Keys are in this order, decisions first, so that they can be read before the summary is finished."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    category: str
    urgency: str
    needs_human: bool
    next_action: str
    summary: Annotated[str, Field(min_length=1, max_length=SUMMARY_CHARACTERS)]

    def label(self, field: str) -> str:
        """The label of a decided field as text; booleans as JSON writes them."""
        value = getattr(self, field)
        return value if isinstance(value, str) else json.dumps(value)


def parse_message(record: Any, *, source: str) -> Message:
    """Check a record against `Message`; `source` names it in the error.

    Raises:
        MessageError: with every fault found, none of them quoting the customer's text.
    """
    try:
        return Message.model_validate(record)
    except ValidationError as error:
        raise MessageError(f"{source}: {'; '.join(describe_faults(error, Message))}", "README.md shows the form of a message") from None


def describe_faults(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """Every fault of a failed validation, as `describe_fault` puts it."""
    return [describe_fault(item["loc"], item["type"], item["msg"], model) for item in error.errors(include_input=False)]


def describe_fault(location: tuple[int | str, ...], kind: str, message: str, model: type[BaseModel]) -> str:
    """One validation fault of a model as `place: what is wrong`. A key that does not look like one may be a customer's text and is not quoted."""
    parts = (str(part) if isinstance(part, int) or _PLAIN_KEY.fullmatch(part) else "(a key that is not quoted here)" for part in location)
    place = ".".join(parts) or "message"
    if kind == "extra_forbidden" and len(location) == 1:
        known = ", ".join(model.model_fields)
        return f"{place}: unknown key (known are {known})"
    return f"{place}: {message}"


def render_ticket(ticket: Ticket) -> str:
    """Canonical compact JSON: the text a model is trained to write and is decoded to."""
    return json.dumps(ticket.model_dump(), ensure_ascii=False, separators=(",", ":"))


def ticket_faults(ticket: Ticket, taxonomy: Taxonomy) -> list[str]:
    """The fields whose label the taxonomy does not have, as `field: 'label' is not one of …`."""
    return [
        f"{field}: {ticket.label(field)!r} is not one of {', '.join(taxonomy.labels(field))}"
        for field in LABEL_FIELDS
        if ticket.label(field) not in taxonomy.labels(field)
    ]


def ticket_schema(taxonomy: Taxonomy) -> dict[str, Any]:
    """The JSON Schema (2020-12) that every ticket of this taxonomy obeys; the service publishes it at `/v1/schema`."""
    schema = decoding_schema(taxonomy)
    schema["properties"]["summary"]["maxLength"] = SUMMARY_CHARACTERS
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Ticket",
        "description": f"A triaged message in the taxonomy {taxonomy.name} {taxonomy.version} ({taxonomy.digest[:12]}).",
        **schema,
    }


def decoding_schema(taxonomy: Taxonomy) -> dict[str, Any]:
    """The schema a model is decoded inside. It leaves the summary's length open: `maxLength` would cost hundreds of
    states for each character, so the automaton counts, or the answer is cut afterwards (design.md section 4).
    """
    properties: dict[str, Any] = {
        field: {"type": "boolean"} if field == "needs_human" else {"type": "string", "enum": list(taxonomy.labels(field))} for field in LABEL_FIELDS
    }
    properties["summary"] = {"type": "string", "minLength": 1}
    return {"type": "object", "properties": properties, "required": list(TICKET_FIELDS), "additionalProperties": False}
