"""A labelled ticket as token ids: the prompt that serving will send, and the canonical answer to learn."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from triage.automaton import TicketAutomaton
from triage.dataset import Example
from triage.engines.chatml import render_chatml
from triage.prompt import ChatMessage, Prompt, build_prompt
from triage.taxonomy import LABEL_FIELDS, Taxonomy
from triage.ticket import Ticket, render_ticket

FIRST_ORDINARY_TOKEN = 3
"""Ids below this are special tokens."""
IGNORED = -100
"""The label of a token that is read and not learnt."""

Shares = tuple[tuple[int, ...], tuple[float, ...]]
"""Tokens that may follow, and the probability of each."""


@dataclass(frozen=True, slots=True)
class TokenSequence:
    """Token ids and, for each, the id to learn or `IGNORED`; both have the same length."""

    ids: list[int]
    targets: list[int]
    shares: Mapping[int, Shares] = field(default_factory=dict)
    """Places whose target is a distribution in place of one token."""

    def behind(self, prompt: Sequence[int]) -> TokenSequence:
        """The same behind the ids of a prompt, which are read and not learnt."""
        shifted = {len(prompt) + place: found for place, found in self.shares.items()}
        return TokenSequence([*prompt, *self.ids], [IGNORED] * len(prompt) + self.targets, shifted)


def count_with(tokenizer: Tokenizer) -> Callable[[str], int]:
    """How many tokens a text takes, as `build_prompt` asks for it."""
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)


def encode_example(example: Example, ticket: Ticket, taxonomy: Taxonomy, tokenizer: Tokenizer, *, text_budget: int) -> TokenSequence:
    """Prompt and answer of one example, the answer alone to be learnt, its stop token included."""
    prompt = build_prompt(example, taxonomy, text_budget=text_budget, count_tokens=count_with(tokenizer))
    before = tokenizer.encode(render_chatml(prompt), add_special_tokens=False).ids
    after = tokenizer.encode(render_ticket(ticket) + "<|im_end|>", add_special_tokens=False).ids
    return TokenSequence([*before, *after], [IGNORED] * len(before) + list(after))


def encode_as_message(texts: Sequence[str], tokenizer: Tokenizer, longest: int) -> list[list[int]]:
    """Token ids of each text in the prompt that serving sends, cut in the text, up to where the answer begins."""
    opening, closing = (
        tokenizer.encode(part, add_special_tokens=False).ids for part in render_chatml(Prompt((ChatMessage("user", "\0"),))).split("\0")
    )
    return [[*opening, *encoding.ids[:longest], *closing] for encoding in tokenizer.encode_batch(list(texts), add_special_tokens=False)]


class LabelTargets:
    """What may follow at each token of a label, as a distribution over tokens that a distribution over labels implies.

    A label of several tokens is learnt token by token: the target at each is the probability, given the tokens before it,
    of those labels that go on with a token. Where one token alone can follow, there is nothing to be soft about.
    """

    def __init__(self, automaton: TicketAutomaton) -> None:
        self._automaton = automaton
        self._branches = {name: [self._branches_of(name, label) for label in range(len(automaton.tries[name].labels))] for name in LABEL_FIELDS}

    def _branches_of(self, name: str, label: int) -> list[tuple[tuple[int, ...], NDArray[np.float64]]]:
        """For each token of a label and its terminator: the tokens possible there, and which labels go on with which, (tokens, labels)."""
        trie = self._automaton.tries[name]
        spelled = [(*(int(trie.tokens[node]) for node in path), trie.terminator) for path in trie.paths]
        steps = []
        for place in range(len(spelled[label])):
            alike = [other for other, tokens in enumerate(spelled) if tokens[:place] == spelled[label][:place]]
            tokens = tuple(sorted({spelled[other][place] for other in alike}))
            matrix = np.zeros((len(tokens), len(spelled)))
            for other in alike:
                matrix[tokens.index(spelled[other][place]), other] = 1
            steps.append((tokens, matrix))
        return steps

    def soften(self, name: str, label: int, shares: NDArray[np.floating]) -> list[Shares | None]:
        """For each token of a label and for its terminator, the distribution to learn; None where one token alone can follow."""
        found: list[Shares | None] = []
        for tokens, matrix in self._branches[name][label]:
            weights = matrix @ shares
            total = float(weights.sum())
            found.append(None if len(tokens) == 1 or total <= 0 else (tokens, tuple(float(weight) / total for weight in weights)))
        return found

    def answer(self, labels: Mapping[str, int], shares: Mapping[str, NDArray[np.floating]]) -> TokenSequence:
        """The decided part of an answer, up to where its summary begins, with soft targets at its labels."""
        ids: list[int] = []
        soft: dict[int, Shares] = {}
        for name in LABEL_FIELDS:
            ids += [int(token) for token in self._automaton.prefix_ids[name]]
            for place, found in enumerate(self.soften(name, labels[name], shares[name])):
                if found is not None:
                    soft[len(ids) + place] = found
            trie = self._automaton.tries[name]
            ids += [int(trie.tokens[node]) for node in trie.paths[labels[name]]]
        ids += [int(token) for token in self._automaton.prefix_ids["summary"]]
        return TokenSequence(ids, list(ids), soft)


def with_smoothed_labels(sequence: TokenSequence, example: Example, targets: LabelTargets, taxonomy: Taxonomy, smoothing: float) -> TokenSequence:
    """The sequence with a share of `smoothing` of each label's target spread evenly over the field's labels."""
    labels = {name: taxonomy.labels(name).index(example.labels.label(name)) for name in LABEL_FIELDS}
    shares = {
        name: np.eye(len(taxonomy.labels(name)))[labels[name]] * (1 - smoothing) + smoothing / len(taxonomy.labels(name)) for name in LABEL_FIELDS
    }
    prompt = sequence.ids[: sequence.targets.count(IGNORED)]
    return TokenSequence(sequence.ids, sequence.targets, targets.answer(labels, shares).behind(prompt).shares)


def with_token_dropout(sequence: TokenSequence, share: float, vocabulary: int, draw: random.Random) -> TokenSequence:
    """The sequence with a share of its prompt's tokens replaced by random ones. ChatML's first three and last five stay."""
    prompt = sequence.targets.count(IGNORED)
    ids = list(sequence.ids)
    for place in range(3, prompt - 5):
        if draw.random() < share:
            ids[place] = draw.randrange(FIRST_ORDINARY_TOKEN, vocabulary)
    return TokenSequence(ids, sequence.targets, sequence.shares)


def labels_only(sequence: TokenSequence, summary_prefix: Sequence[int]) -> TokenSequence:
    """The sequence with nothing to be learnt after the text that opens its summary.

    Raises:
        ValueError: the sequence holds no such text.
    """
    prefix, targets = list(summary_prefix), list(sequence.targets)
    for start in range(targets.count(IGNORED), len(targets) - len(prefix) + 1):
        end = start + len(prefix)
        if targets[start:end] == prefix:
            return TokenSequence(sequence.ids[:end], targets[:end], sequence.shares)
    raise ValueError("the answer has no summary")


def pad_ids(sequences: Sequence[TokenSequence], pad: int) -> NDArray[np.int64]:
    """Ids padded on the right to the longest, shape (sequences, length). A causal model needs no mask for that."""
    found = np.full((len(sequences), max(len(sequence.ids) for sequence in sequences)), pad, dtype=np.int64)
    for row, sequence in enumerate(sequences):
        found[row, : len(sequence.ids)] = sequence.ids
    return found


def collect_targets(sequences: Sequence[TokenSequence]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """What a batch has to learn: row and place of the token *before* each target (targets,), the tokens that may follow and their shares.

    The last two have shape (targets, width), filled up with token 0 and share 0.
    """
    learnt = [(row, place) for row, sequence in enumerate(sequences) for place, target in enumerate(sequence.targets) if target != IGNORED]
    width = max((len(tokens) for sequence in sequences for tokens, _ in sequence.shares.values()), default=1)
    rows, places = (np.array(each, dtype=np.int64) for each in zip(*learnt, strict=True))
    tokens, shares = np.zeros((len(learnt), width), dtype=np.int64), np.zeros((len(learnt), width), dtype=np.float32)
    shares[:, 0] = 1.0
    tokens[:, 0] = [sequences[row].targets[place] for row, place in learnt]
    for number, (row, place) in enumerate(learnt):
        if found := sequences[row].shares.get(place):
            tokens[number, : len(found[0])] = found[0]
            shares[number, : len(found[1])] = found[1]
    return rows, places - 1, tokens, shares
