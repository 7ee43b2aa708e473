"""A labelled ticket as token ids: the prompt that serving will send, and the canonical answer to learn."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer

from triage.dataset import Example
from triage.engines.chatml import render_chatml
from triage.prompt import build_prompt
from triage.taxonomy import Taxonomy
from triage.ticket import Ticket, render_ticket

FIRST_ORDINARY_TOKEN = 3
"""Ids below this are special tokens."""
IGNORED = -100
"""The label of a token that is read and not learnt."""


@dataclass(frozen=True, slots=True)
class TokenSequence:
    """Token ids and, for each, the id to learn or `IGNORED`; both have the same length."""

    ids: list[int]
    targets: list[int]


def count_with(tokenizer: Tokenizer) -> Callable[[str], int]:
    """How many tokens a text takes, as `build_prompt` asks for it."""
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)


def encode_example(example: Example, ticket: Ticket, taxonomy: Taxonomy, tokenizer: Tokenizer, *, text_budget: int) -> TokenSequence:
    """Prompt and answer of one example, the answer alone to be learnt, its stop token included."""
    prompt = build_prompt(example, taxonomy, text_budget=text_budget, count_tokens=count_with(tokenizer))
    before = tokenizer.encode(render_chatml(prompt), add_special_tokens=False).ids
    after = tokenizer.encode(render_ticket(ticket) + "<|im_end|>", add_special_tokens=False).ids
    return TokenSequence([*before, *after], [IGNORED] * len(before) + list(after))


def with_token_dropout(sequence: TokenSequence, share: float, vocabulary: int, draw: random.Random) -> TokenSequence:
    """The sequence with a share of its prompt's tokens replaced by random ones. ChatML's first three and last five stay."""
    prompt = sequence.targets.count(IGNORED)
    ids = list(sequence.ids)
    for place in range(3, prompt - 5):
        if draw.random() < share:
            ids[place] = draw.randrange(FIRST_ORDINARY_TOKEN, vocabulary)
    return TokenSequence(ids, sequence.targets)


def labels_only(sequence: TokenSequence, summary_prefix: Sequence[int]) -> TokenSequence:
    """The sequence with nothing to be learnt after the text that opens its summary.

    Raises:
        ValueError: the sequence holds no such text.
    """
    prefix, targets = list(summary_prefix), list(sequence.targets)
    for start in range(targets.count(IGNORED), len(targets) - len(prefix) + 1):
        end = start + len(prefix)
        if targets[start:end] == prefix:
            return TokenSequence(sequence.ids, targets[:end] + [IGNORED] * (len(targets) - end))
    raise ValueError("the answer has no summary")


def pad_batch(sequences: Sequence[TokenSequence], pad: int) -> tuple[list[list[int]], list[list[int]], list[list[int]]]:
    """Ids, attention mask and targets, padded on the right to the longest, each of shape (batch, length)."""
    longest = max(len(sequence.ids) for sequence in sequences)
    ids, mask, targets = [], [], []
    for sequence in sequences:
        missing = longest - len(sequence.ids)
        ids.append(sequence.ids + [pad] * missing)
        mask.append([1] * len(sequence.ids) + [0] * missing)
        targets.append(sequence.targets + [IGNORED] * missing)
    return ids, mask, targets
