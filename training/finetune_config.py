"""The settings of one fine-tuning run."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

CONFIG_PATH = Path(__file__).with_name("finetune.toml")


class FinetuneConfig(BaseModel):
    """One fine-tuning run, read from TOML and saved with the run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int
    """Seeds the order of examples and every variation."""
    epochs: int
    """Passes over the training tickets."""
    batch_examples: int
    """Tickets a step."""
    batch_messages: int
    """Messages with teachers' labels a step, beside the tickets."""
    ticket_share: float
    """Weight of the tickets in a step's loss where there are messages; the rest is the messages'."""
    learning_rate: float
    """Peak rate of AdamW; it rises linearly and falls along a cosine to zero."""
    warmup_share: float
    """Share of the steps over which the rate rises."""
    weight_decay: float
    """On matrices only, never on norms."""
    label_weight: float
    """Weight in the loss of a token that occurs in some label of the taxonomy, wherever it stands in the answer; others weigh 1."""
    label_smoothing: float
    """Share of a ticket's label that is spread evenly over the field's labels."""
    noisy_share: float
    """Share of the tickets, drawn anew in each epoch, of which the labels alone are learnt, from a message with replaced tokens."""
    token_dropout: float
    """Share of a noisy message's tokens that are replaced by random ones, so that no ticket's labels can be learnt by heart. Summaries
    are learnt from whole messages only: learnt from noisy ones, they become recollections of other tickets."""
    varied_share: float
    """Share of the tickets, drawn anew in each epoch, of which the labels alone are learnt, from a varied message."""
    planted_share: float
    """Share of the varied messages that hold an instruction to the system."""
    message_dropout: float
    """Share of the tokens that are replaced in a message with teachers' labels, in every second one of them."""
    message_temperature: float
    """Divides the teachers' logits; above 1 their probabilities are flatter."""
    message_tokens: int
    """Tokens that are read of a message with teachers' labels."""
    average_decay: float
    """Of the moving average of the weights, a step; 0 keeps the last weights."""
    text_budget: int
    """Tokens of customer text; longer messages are cut exactly as serving cuts them."""


def load_config(overrides: dict[str, Any] | None = None) -> FinetuneConfig:
    """The settings of finetune.toml, with some replaced."""
    content = tomllib.loads(CONFIG_PATH.read_text(encoding="utf-8"))
    return FinetuneConfig.model_validate(content | (overrides or {}))
