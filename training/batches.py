"""The batches of a fine-tuning run. Each is told from the seed and its step alone, so that worker processes can make them in any order."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import torch
from tokenizers import Tokenizer
from torch.utils.data import Dataset

from training.examples import (
    LabelTargets,
    TokenSequence,
    collect_targets,
    encode_as_message,
    encode_example,
    labels_only,
    pad_ids,
    with_smoothed_labels,
    with_token_dropout,
)
from training.finetune_config import FinetuneConfig
from training.pool import Pool
from training.variations import vary
from triage.automaton import TicketAutomaton
from triage.dataset import Example
from triage.taxonomy import LABEL_FIELDS, Taxonomy

Part = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]
"""Token ids (sequences, length), and of each target the row, the place before it, the tokens that may follow, and their shares."""


class Tickets:
    """The labelled tickets as batches of token sequences: as they are, with tokens replaced, or varied."""

    def __init__(self, examples: Sequence[Example], taxonomy: Taxonomy, tokenizer: Tokenizer, config: FinetuneConfig) -> None:
        self._examples, self._taxonomy, self._tokenizer, self._config = examples, taxonomy, tokenizer, config
        automaton = TicketAutomaton(taxonomy, tokenizer)
        self._targets = LabelTargets(automaton)
        self._summary_prefix = [int(token) for token in automaton.prefix_ids["summary"]]
        self._vocabulary = automaton.vocabulary_size
        self._whole = [self._encode(example) for example in examples]
        self.batches = -(-len(examples) // config.batch_examples)
        """Batches of one epoch; the last may be smaller."""

    def batch(self, step: int) -> list[TokenSequence]:
        """The tickets of a step, counted from 0; each epoch has an order of its own."""
        epoch, place = divmod(step, self.batches)
        order = list(range(len(self._examples)))
        random.Random(f"{self._config.seed} epoch {epoch}").shuffle(order)
        draw = random.Random(f"{self._config.seed} tickets {step}")
        return [self._read(at, draw) for at in order[place * self._config.batch_examples : (place + 1) * self._config.batch_examples]]

    def _read(self, place: int, draw: random.Random) -> TokenSequence:
        config, kind = self._config, draw.random()
        if kind < config.noisy_share:
            return labels_only(with_token_dropout(self._whole[place], config.token_dropout, self._vocabulary, draw), self._summary_prefix)
        if kind < config.noisy_share + config.varied_share:
            varied = vary(self._examples[place], self._taxonomy, config.planted_share, draw)
            return labels_only(self._encode(varied), self._summary_prefix)
        return self._whole[place]

    def _encode(self, example: Example) -> TokenSequence:
        sequence = encode_example(example, example.labels, self._taxonomy, self._tokenizer, text_budget=self._config.text_budget)
        if not self._config.label_smoothing:
            return sequence
        return with_smoothed_labels(sequence, example, self._targets, self._taxonomy, self._config.label_smoothing)


class TaughtMessages:
    """Messages with teachers' logits as batches of token sequences. Labels are drawn anew each time a message is read."""

    def __init__(self, texts: Sequence[str], pool: Pool, taxonomy: Taxonomy, tokenizer: Tokenizer, config: FinetuneConfig) -> None:
        self._pool, self._config = pool, config
        automaton = TicketAutomaton(taxonomy, tokenizer)
        self._targets, self._vocabulary = LabelTargets(automaton), automaton.vocabulary_size
        self._prompts = encode_as_message(texts, tokenizer, config.message_tokens)
        self._lengths = np.array([len(prompt) for prompt in self._prompts])
        self._order: tuple[int, np.ndarray] = (-1, np.zeros(0, dtype=np.int64))

    def batch(self, step: int) -> list[TokenSequence]:
        """The messages of a step, counted from 0, all of like length; each pass has an order of its own."""
        size = self._config.batch_messages
        turn, place = divmod(step, max(1, len(self._prompts) // size))
        if self._order[0] != turn:
            draw = np.random.default_rng([self._config.seed, turn])
            order = np.argsort(self._lengths + draw.uniform(0, 40, len(self._lengths)), kind="stable")
            whole = order[: len(order) // size * size].reshape(-1, size) if len(order) >= size else order[None]
            self._order = (turn, draw.permutation(whole, axis=0))
        return self._label(self._order[1][place], step)

    def _label(self, places: np.ndarray, step: int) -> list[TokenSequence]:
        draw, coin = np.random.default_rng([self._config.seed, 1, step]), random.Random(f"{self._config.seed} messages {step}")
        chosen, shares = dict[str, np.ndarray](), dict[str, np.ndarray]()
        for field in LABEL_FIELDS:
            shares[field] = self._pool.shares(places, field, chosen, temperature=self._config.message_temperature)
            chosen[field] = (shares[field].cumsum(axis=1) > draw.random((len(places), 1)) * (1 - 1e-6)).argmax(axis=1)
        found = []
        for row, place in enumerate(places):
            labels = {field: int(chosen[field][row]) for field in LABEL_FIELDS}
            answer = self._targets.answer(labels, {field: shares[field][row] for field in LABEL_FIELDS})
            sequence = answer.behind(self._prompts[place])
            if coin.random() < 0.5:
                sequence = with_token_dropout(sequence, self._config.message_dropout, self._vocabulary, coin)
            found.append(sequence)
        return found


class StepBatches(Dataset[list[Part]]):
    """What each step of a run reads, as tensors: tickets, and messages where there are any."""

    def __init__(self, tickets: Tickets, taught: TaughtMessages | None, steps: int, pad: int) -> None:
        self._tickets, self._taught, self._steps, self._pad = tickets, taught, steps, pad

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, step: int) -> list[Part]:
        batches = [self._tickets.batch(step)] + ([self._taught.batch(step)] if self._taught else [])
        return [self._to_tensors(batch) for batch in batches]

    def _to_tensors(self, batch: list[TokenSequence]) -> Part:
        rows, places, tokens, shares = collect_targets(batch)
        return (
            torch.from_numpy(pad_ids(batch, self._pad)),
            torch.from_numpy(rows),
            torch.from_numpy(places),
            torch.from_numpy(tokens),
            torch.from_numpy(shares),
        )
