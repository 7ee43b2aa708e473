"""An engine's answer: a ticket with a probability for each decided field, or a failure with a reason.

`parse_answer` turns the text of any model into one of the two. Whatever it changes is flagged; it repairs nothing that
would change a decision, so a model that leaves the schema has failed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from pydantic import ValidationError

from triage.redact import redact_summary
from triage.taxonomy import SUMMARY_CHARACTERS, Taxonomy
from triage.ticket import Ticket, clean_text, ticket_faults

FailureReason = Literal["truncated", "invalid", "timeout", "unavailable", "too_long"]
FAILURE_REASONS: tuple[FailureReason, ...] = ("truncated", "invalid", "timeout", "unavailable", "too_long")


@dataclass(frozen=True, slots=True)
class Failure:
    """A message the engine could not answer: data, not an exception. `detail` is for logs and never holds ticket text."""

    reason: FailureReason
    detail: str = ""
    prompt_tokens: int = 0
    output_tokens: int = 0
    is_json: bool = False
    """Whether the model wrote a JSON object all the same, one that is no ticket of the taxonomy."""


@dataclass(frozen=True, slots=True)
class TicketAnswer:
    """A valid ticket. `probabilities` is in [0, 1] by field name, empty where the engine has none."""

    ticket: Ticket
    probabilities: Mapping[str, float] = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    prompt_tokens: int = 0
    output_tokens: int = 0


Answer = TicketAnswer | Failure


def parse_answer(text: str, taxonomy: Taxonomy, *, finished: bool = True) -> Answer:
    """Read a model's text as a ticket of the taxonomy.

    `finished` says that the model stopped of its own accord rather than at a token limit. Never raises.
    """
    if not finished:
        return Failure("truncated", "the model did not finish within its token limit")
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        return Failure("invalid", f"not JSON: {type(error).__name__}")
    if not isinstance(content, dict):
        return Failure("invalid", f"JSON, but a {type(content).__name__}")
    flags: list[str] = []
    if isinstance(summary := content.get("summary"), str):
        content = {**content, "summary": _fit_summary(summary, flags)}
    try:
        ticket = Ticket.model_validate(content)
    except ValidationError as error:
        places = sorted({".".join(map(str, item["loc"])) for item in error.errors(include_input=False)})
        return Failure("invalid", f"fields at fault: {', '.join(places)}", is_json=True)
    if faults := ticket_faults(ticket, taxonomy):
        outside = ", ".join(fault.split(":")[0] for fault in faults)
        return Failure("invalid", f"labels outside the taxonomy: {outside}", is_json=True)
    return TicketAnswer(ticket, flags=tuple(flags))


def with_details(answer: Answer, *, probabilities: Mapping[str, float], prompt_tokens: int, output_tokens: int) -> Answer:
    """The same answer with what the engine measured; of a failure, which has no labels, the tokens that it cost."""
    if isinstance(answer, Failure):
        return replace(answer, prompt_tokens=prompt_tokens, output_tokens=output_tokens)
    return replace(answer, probabilities=dict(probabilities), prompt_tokens=prompt_tokens, output_tokens=output_tokens)


def with_flag(answer: Answer, flag: str) -> Answer:
    """The same answer with one more flag; a failure stays as it is."""
    return answer if isinstance(answer, Failure) else replace(answer, flags=(*answer.flags, flag))


def cut_summary(text: str, limit: int = SUMMARY_CHARACTERS) -> str:
    """Cut a text back to at most `limit` code points, at the last full sentence, else at the last word."""
    if len(text) <= limit:
        return text
    head = text[:limit]
    for end in (". ", "! ", "? "):
        if (place := head.rfind(end)) >= limit // 3:
            return head[: place + 1]
    place = head.rfind(" ")
    return (head[:place] if place > 0 else head).rstrip(" ,;:-") or head


def _fit_summary(summary: str, flags: list[str]) -> str:
    text = " ".join(str(clean_text(summary)).split())
    redacted = redact_summary(text)
    if redacted != text:
        flags.append("summary_redacted")
    short = cut_summary(redacted)
    if short != redacted:
        flags.append("summary_cut")
    return short
