"""The Engine protocol: the seam between a message and a model, and the one place tests put a fake."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from triage.answer import Answer
from triage.prompt import Prompt, PromptKind


@runtime_checkable
class Engine(Protocol):
    """Something that answers prompts inside the ticket's schema.

    An implementation may be called from one event loop at a time. It never raises for a message it cannot answer: that
    is a `Failure` in the list. It may raise EngineError when it is constructed.
    """

    name: str
    """Which engine this is, for people and logs, for example `embedded`."""
    release: str
    """Name of the release it serves, stored with every ticket."""
    prompt_kind: PromptKind
    """The prompt its model was made for."""
    text_budget: int
    """How many tokens of customer text fit into its prompt."""

    def count_tokens(self, text: str) -> int:
        """How many of its tokens a text takes."""
        ...

    async def answer(self, prompts: Sequence[Prompt], *, deadline_s: float) -> list[Answer]:
        """One answer a prompt, in order, each within `deadline_s` seconds from now or a `Failure("timeout")`."""
        ...

    async def aclose(self) -> None:
        """Release what the engine holds; it answers `Failure("unavailable")` afterwards."""
        ...
