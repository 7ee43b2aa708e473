"""Shared fakes and fixtures. Fakes go through the Engine protocol; nothing is patched."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import settings

from triage.answer import Answer, Failure, TicketAnswer
from triage.engines.embedded import EmbeddedEngine, load_embedded_engine
from triage.prompt import Prompt, PromptKind
from triage.taxonomy import Taxonomy, load_taxonomy
from triage.ticket import Ticket

ROOT = Path(__file__).resolve().parents[1]
settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")

BILLING = Ticket(
    category="billing",
    urgency="medium",
    needs_human=True,
    next_action="check_billing",
    summary="Paid for Pro but the dashboard still shows Free.",
)


class FakeEngine:
    """An engine that answers with what it is told, and remembers what it was asked."""

    name = "fake"
    release = "fake-1"
    prompt_kind: PromptKind = "tuned"
    text_budget = 384

    def __init__(self, reply: Callable[[Prompt], Answer] | None = None) -> None:
        self._reply = reply or (lambda _: TicketAnswer(BILLING, {"category": 0.9}))
        self.asked: list[Prompt] = []

    def count_tokens(self, text: str) -> int:
        return len(text) // 4

    async def answer(self, prompts: Sequence[Prompt], *, deadline_s: float) -> list[Answer]:
        self.asked += prompts
        return [self._reply(prompt) for prompt in prompts]

    async def aclose(self) -> None:
        self._reply = lambda _: Failure("unavailable")


@pytest.fixture(scope="session")
def taxonomy() -> Taxonomy:
    return load_taxonomy()


@pytest.fixture(scope="session")
def embedded_engine(taxonomy: Taxonomy) -> EmbeddedEngine:
    return load_embedded_engine(taxonomy)


@pytest.fixture
def write_lines(tmp_path: Path) -> Callable[..., Path]:
    """Write records, or raw bytes, as a JSON Lines file."""

    def write(name: str, *records: object) -> Path:
        path = tmp_path / name
        path.write_bytes(b"".join((item if isinstance(item, bytes) else json.dumps(item).encode()) + b"\n" for item in records))
        return path

    return write
