"""From a message to a prediction: prompt, engine, policy. The one path that the command line and the service share."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from triage.answer import Answer, Failure
from triage.engines.base import Engine
from triage.policy import DecidedBy, decide
from triage.prompt import Prompt, build_prompt
from triage.taxonomy import Taxonomy
from triage.ticket import Message, Ticket

Probability = Annotated[float, Field(ge=0, le=1)]


class Prediction(BaseModel):
    """What a support tool gets back for one message."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    external_id: str | None = None
    status: Literal["triaged", "queued", "unread"]
    """`unread` when the model failed and the ticket is the taxonomy's fallback."""
    ticket: Ticket
    confidence: dict[str, Probability]
    """The probability of each decided field's label; empty when the model did not decide."""
    decided_by: DecidedBy
    reasons: list[str]
    """Why the ticket is not simply the model's: flags such as `cut`, policy rules, or the reason of a failure."""
    release: str
    created_at: str
    latency_ms: float
    """From asking the engine to the answer; messages that were handed in together share it."""


class Pipeline:
    """Reads messages with one engine and one taxonomy."""

    def __init__(self, engine: Engine, taxonomy: Taxonomy) -> None:
        self.engine = engine
        self.taxonomy = taxonomy

    async def predict(self, messages: Sequence[Message], *, deadline_s: float, ids: Sequence[str] = ()) -> list[Prediction]:
        """One prediction a message, in order; `ids` replaces the generated ones. A failed message is `unread`, never an exception."""
        begin = time.monotonic()
        prompts = await asyncio.to_thread(lambda: [self._build_prompt(message) for message in messages])
        answers = await self.engine.answer(prompts, deadline_s=deadline_s)
        elapsed_ms = (time.monotonic() - begin) * 1000
        names = ids or [new_ticket_id() for _ in messages]
        return [
            to_prediction(answer, message, self.taxonomy, release=self.engine.release, latency_ms=elapsed_ms, ticket_id=name)
            for answer, message, name in zip(answers, messages, names, strict=True)
        ]

    def _build_prompt(self, message: Message) -> Prompt:
        engine = self.engine
        return build_prompt(message, self.taxonomy, kind=engine.prompt_kind, text_budget=engine.text_budget, count_tokens=engine.count_tokens)


def to_prediction(answer: Answer, message: Message, taxonomy: Taxonomy, *, release: str, latency_ms: float, ticket_id: str) -> Prediction:
    """Apply the policy to an answer and put it into the form that leaves the house."""
    decision = decide(answer, taxonomy)
    failed = isinstance(answer, Failure)
    return Prediction(
        id=ticket_id,
        external_id=message.external_id,
        status="unread" if failed else "triaged",
        ticket=decision.ticket,
        confidence={} if isinstance(answer, Failure) else {field: round(value, 4) for field, value in answer.probabilities.items()},
        decided_by=decision.decided_by,
        reasons=list(decision.reasons),
        release=release,
        created_at=datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        latency_ms=round(latency_ms, 1),
    )


def new_ticket_id() -> str:
    """A fresh id, `tkt_` and 32 hexadecimal digits."""
    return f"tkt_{uuid.uuid4().hex}"
