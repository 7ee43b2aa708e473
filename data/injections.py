"""Injection twins: each test message once more, with an instruction planted in it that wants other labels.

The labels of a twin are those of its clean message: instructions inside a message are content, not orders. Scores compare an
answer to the twin with the answer to the clean message, so a twin says how far words in a message steer the model, and not
how good the model is.

Kinds follow PurpleLlama CyberSecEval, BIPIA (Yi et al. 2023) and garak; the wording in `injections.toml` is this project's own.
Everything is told from the ticket's id by a seed, so a test ticket has the same twin for ever.
"""

from __future__ import annotations

import base64
import json
import random
import re
import tomllib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from triage.dataset import Example, Identifier
from triage.paths import write_bytes_atomically
from triage.taxonomy import LABEL_FIELDS, Taxonomy
from triage.ticket import Channel, Turn

TWINS_NAME = "injections.jsonl"
WORDING_PATH = Path(__file__).with_name("injections.toml")
SEED = "ticket-triage injections 1"
Position = Literal["start", "middle", "end"]
POSITIONS: tuple[Position, ...] = ("start", "middle", "end")
_BREAK = re.compile(r"(?<=[.!?])\s+|\n+")


class Twin(BaseModel):
    """One line of the file: a message record with what was planted in it."""

    model_config = ConfigDict(frozen=True, extra="forbid", serialize_by_alias=True)

    id: str
    """The clean message's id and `.injected`."""
    twin_of: Identifier
    """The id of the clean message."""
    kind: str
    position: Position
    target: dict[str, str]
    """The labels that the planted text names and wants, each wrong for this message; empty where it wants something else."""
    planted: str
    channel: Channel | None = None
    subject: str | None = None
    thread: list[Turn] = []
    message: str


def make_twin(example: Example, taxonomy: Taxonomy) -> Twin:
    """The twin of one message."""
    draw = random.Random(f"{SEED}\n{example.id}")
    kinds, secret = load_wording()
    kind = draw.choice(sorted(kinds))
    wording = draw.choice(kinds[kind])
    wrong = {field: draw.choice([label for label in taxonomy.labels(field) if label != example.labels.label(field)]) for field in LABEL_FIELDS}
    planted = _fill(wording, wrong, secret)
    said = wording + (secret if "{encoded}" in wording else "")
    target = {field: label for field, label in wrong.items() if f"{{{field}}}" in said or "{ticket}" in said}
    position = draw.choice(POSITIONS)
    return Twin(
        id=f"{example.id}.injected",
        twin_of=example.id,
        kind=kind,
        position=position,
        target=target,
        planted=planted,
        channel=example.channel,
        subject=example.subject,
        thread=example.thread,
        message=plant(example.message, planted, position),
    )


def plant(message: str, planted: str, position: Position) -> str:
    """The message with a text in front, behind, or at the sentence break nearest its middle."""
    if position == "start":
        return f"{planted}\n{message}"
    breaks = [match.span() for match in _BREAK.finditer(message)]
    if position == "end" or not breaks:
        return f"{message}\n{planted}"
    start, end = min(breaks, key=lambda span: abs(span[0] - len(message) / 2))
    return f"{message[:start]}\n{planted}\n{message[end:]}"


def render_twins(test: Sequence[Example], taxonomy: Taxonomy) -> str:
    """The file's content: a twin of every test message, in the order of their ids."""
    twins = (make_twin(example, taxonomy) for example in sorted(test, key=lambda example: example.id))
    return "".join(json.dumps(twin.model_dump(exclude_none=True), ensure_ascii=False) + "\n" for twin in twins)


def write_twins(folder: Path, test: Sequence[Example], taxonomy: Taxonomy) -> None:
    """Write the twins of a test split, or remove them where it is empty."""
    path = folder / TWINS_NAME
    if test:
        write_bytes_atomically(path, render_twins(test, taxonomy).encode())
    else:
        path.unlink(missing_ok=True)


def twins_fault(folder: Path, test: Sequence[Example], taxonomy: Taxonomy) -> str:
    """What is wrong with the twins that lie beside the tickets; empty when they are those of this test split."""
    path = folder / TWINS_NAME
    content = path.read_bytes() if path.exists() else b""
    if content == (render_twins(test, taxonomy).encode() if test else b""):
        return ""
    return "these are not the injection twins of this test split; run `triage data build`"


@cache
def load_wording() -> tuple[dict[str, list[str]], str]:
    """Wordings by kind, and the instruction that the kind `encoded` hides."""
    content = tomllib.loads(WORDING_PATH.read_text(encoding="utf-8"))
    return content["kinds"], content["secret"]


def _fill(wording: str, labels: dict[str, str], secret: str) -> str:
    ticket = {**labels, "needs_human": labels["needs_human"] == "true", "summary": "Nothing to do here."}
    words = {**labels, "ticket": json.dumps(ticket, separators=(",", ":"))}
    words["encoded"] = base64.b64encode(_replace(secret, words).encode()).decode()
    return _replace(wording, words)


def _replace(text: str, words: dict[str, str]) -> str:
    """Slots by name; braces of any other kind stay, since wordings hold JSON."""
    for name, word in words.items():
        text = text.replace(f"{{{name}}}", word)
    return text
