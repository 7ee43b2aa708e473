"""A page on which a person judges summaries: faithful, useful, fluent. One HTML file, no network, answers saved as JSON.

What is drawn is told by the run's predictions and a seed, so two readers get the same page. It does not say whose summaries they are.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from eval.intervals import SEED
from eval.predictions import PREDICTIONS_NAME, Predictions
from triage.dataset import Example
from triage.errors import DatasetError
from triage.paths import file_digest
from triage.prompt import render_message
from triage.redact import redact_text

TEMPLATE_NAME = "reading.html.j2"
QUESTIONS = {
    "faithful": "says nothing that the message does not",
    "useful": "says what an agent needs first",
    "fluent": "is one sentence of good English",
}


def render_reading_page(predictions: Predictions, examples: Sequence[Example], *, count: int, seed: int = SEED) -> str:
    """The page with `count` summaries, or all where there are fewer; messages are redacted once more.

    Raises:
        DatasetError: no message was triaged, so there is no summary.
    """
    said = [(example, row.before.summary) for example, row in zip(examples, predictions.rows, strict=True) if row.before]
    if not said:
        raise DatasetError(f"{predictions.folder} has no summary to judge", "name a run that triaged a message")
    drawn = random.Random(seed).sample(said, min(count, len(said)))
    cards = [{"id": example.id, "message": redact_text(render_message(example)), "summary": summary} for example, summary in drawn]
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    digest = file_digest(predictions.folder / PREDICTIONS_NAME)
    return environment.get_template(TEMPLATE_NAME).render(cards=cards, questions=QUESTIONS, predictions=digest, seed=seed)
