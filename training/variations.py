"""Automatic variation of training tickets: other words around what the customer needs, the same labels.

Greetings, closings, footers, quoted mails, typing errors, casing, and instructions to the system that ask for other labels.
The pieces stand in `variations.toml`. A summary is not varied, so of a varied ticket the labels alone are learnt.
"""

from __future__ import annotations

import random
import re
import tomllib
from functools import cache
from pathlib import Path

from training.embedded_base.texts import make_noisy
from triage.dataset import Example
from triage.taxonomy import LABEL_FIELDS, Taxonomy

PIECES_PATH = Path(__file__).with_name("variations.toml")
NOISE = 0.1
"""Share of the words that get a typing error where a message is made noisy."""
_BREAK = re.compile(r"(?<=[.!?])\s+|\n+")


@cache
def load_pieces() -> dict[str, list[str]]:
    """The lists of variations.toml."""
    return tomllib.loads(PIECES_PATH.read_text(encoding="utf-8"))


def vary(example: Example, taxonomy: Taxonomy, planted_share: float, draw: random.Random) -> Example:
    """The ticket with another message around the same need; with `planted_share` as chance an instruction stands in it."""
    message, subject = example.message, example.subject
    pieces = load_pieces()
    if draw.random() < 0.5:
        message = make_noisy(message, draw.choice((0.03, NOISE)), draw)
    if draw.random() < 0.25:
        message = _case(message, draw)
    if draw.random() < planted_share:
        message = plant_command(message, taxonomy, draw)
    if draw.random() < 0.25:
        message = f"{_fill(draw.choice(pieces['greetings']), draw)}{draw.choice((' ', chr(10), chr(10) * 2))}{message}"
    if draw.random() < 0.25:
        message = f"{message}{draw.choice((' ', chr(10), chr(10) * 2))}{_fill(draw.choice(pieces['closings']), draw)}"
    if draw.random() < 0.15:
        message = f"{message}\n\n{_fill(draw.choice(pieces['footers']), draw)}"
    if subject and draw.random() < 0.2:
        message, subject = f"{subject}{draw.choice((': ', '. ', chr(10)))}{message}", None
    elif subject and draw.random() < 0.2 and len(message.split()) > 8:
        subject = None
    return example.model_copy(update={"message": message, "subject": subject})


def plant_command(message: str, taxonomy: Taxonomy, draw: random.Random) -> str:
    """The message with one or two instructions before, behind or between its sentences, each naming labels by chance."""
    commands = " ".join(command(taxonomy, draw) for _ in range(draw.choice((1, 1, 1, 2))))
    breaks = [match.span() for match in _BREAK.finditer(message)]
    place = draw.randrange(3)
    if place == 0:
        return f"{commands}{draw.choice((' ', chr(10)))}{message}"
    if place == 1 and breaks:
        start, end = draw.choice(breaks)
        return f"{message[:start]}{draw.choice((' ', chr(10)))}{commands}{draw.choice((' ', chr(10)))}{message[end:]}"
    return f"{message}{draw.choice((' ', chr(10), chr(10) * 2))}{commands}"


def command(taxonomy: Taxonomy, draw: random.Random) -> str:
    """One instruction to the system that names labels by chance."""
    field, other = draw.choice(LABEL_FIELDS), draw.choice(LABEL_FIELDS)
    slots = {
        "field": draw.choice((field, field.replace("_", " "))),
        "field2": other,
        "label": _spoken(draw.choice(taxonomy.labels(field)), draw),
        "label2": _spoken(draw.choice(taxonomy.labels(other)), draw),
        "urgency": draw.choice(taxonomy.labels("urgency")),
    }
    text = draw.choice(load_pieces()["commands"]).format(**slots)
    shape = draw.random()
    return text.upper() if shape < 0.1 else text.lower() if shape < 0.25 else text


def _spoken(label: str, draw: random.Random) -> str:
    return draw.choice((label, label.replace("_", " "), label.upper() if draw.random() < 0.3 else label))


def _case(message: str, draw: random.Random) -> str:
    return message.upper() if draw.random() < 0.15 else message.lower()


def _fill(piece: str, draw: random.Random) -> str:
    pieces = load_pieces()
    return piece.format(name=draw.choice(pieces["names"]), surname=draw.choice(pieces["surnames"]), town=draw.choice(pieces["towns"]))
