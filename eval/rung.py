"""A rung of the ladder: something that reads messages, what identifies it, and what it says of one message."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from eval.questions import Question
from triage.answer import Answer


@dataclass(frozen=True, slots=True)
class Reading:
    """An answer and what it took. Tokens are counted for failures too; `cost` is in the currency of the prices, None where there are none."""

    answer: Answer
    prompt_tokens: int = 0
    output_tokens: int = 0
    cost: float | None = None


@dataclass(frozen=True)
class RungCard:
    """What a rung is. Two runs on one split with equal names, configurations and inputs are the same run."""

    name: str
    config: Mapping[str, Any]
    """Every setting that can change an answer, in JSON's types."""
    inputs: Mapping[str, str]
    """Digests of what it was made from: training tickets, prompt, release."""
    is_free: bool = False
    """Whether decoding is not constrained by a schema."""
    is_prompted: bool = False
    """Whether a model is asked with a prompt, so that validity is a finding; a fitted rung's tickets are valid by construction."""
    concurrency: int = 1
    """How many messages it is asked at once."""
    packages: tuple[str, ...] = ()
    """Whose versions the run record names."""


class Rung(Protocol):
    """Something that reads messages: a fitted model, or an engine with a way of asking it."""

    card: RungCard

    def prepare(self) -> None:
        """Make ready to read, for example fit. Called before the first message of each split that has one left; a second call does nothing."""
        ...

    async def read(self, question: Question) -> Reading:
        """The answer to one message.

        Raises:
            TriageError: no message can be answered, for example because a key is refused; the run stops.
        """
        ...
