"""What waits for the embedded engine, and what becomes of it."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field

from triage.answer import Answer, Failure
from triage.automaton import Tokens
from triage.engines.decoding import ContextError, DeadlineError
from triage.prompt import ChatMessage, Prompt


@dataclass
class Job:
    """A prompt that waits for its answer."""

    prompt: Prompt
    end: float
    done: Future[Answer] = field(default_factory=Future)


@dataclass
class Row:
    """A prompt of a batch: its token ids without the head's, and what was decided so far."""

    job: Job
    ids: Tokens
    prompt_tokens: int
    output_tokens: int = 0
    labels: dict[str, str] = field(default_factory=dict)
    probabilities: dict[str, float] = field(default_factory=dict)
    summary: str = ""


@dataclass(frozen=True)
class Batch:
    """Rows that are read together behind the same first turns."""

    head: tuple[ChatMessage, ...]
    rows: list[Row]


def to_failure(row: Row, error: Exception) -> Failure:
    """What a lone prompt is answered with when its passes failed."""
    if isinstance(error, DeadlineError):
        return Failure("timeout", "the deadline passed while decoding")
    if isinstance(error, ContextError):
        return Failure("truncated", "the summary outgrew the context", prompt_tokens=row.prompt_tokens, output_tokens=row.output_tokens)
    return Failure("unavailable", f"the model failed: {type(error).__name__}")
