"""Decoding inside the automaton with an exported model: labels for a batch of prompts, or one text token by token.

Each decided field costs one forward pass for the whole batch: what is new since the last pass goes in, and with it those few
tokens of labels after which more than one can follow; a mask keeps the branches apart (tree attention, as in SpecInfer,
arXiv 2305.09781). A row's labels do not depend on its neighbours: weights are int8, and activations are scaled row by row. What is
left is rounding, which has moved a probability by up to 0.01.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triage.automaton import TicketAutomaton
from triage.label_trie import Tokens
from triage.taxonomy import SUMMARY_CHARACTERS

CONTEXT_TOKENS = 1024
FREE_TOKENS = 128
"""How much is written where nothing constrains it. The longest ticket of the training split takes 79."""

Floats = NDArray[np.float32]


class DeadlineError(Exception):
    """The time for these messages is up."""


class ContextError(Exception):
    """The cache is full."""


@dataclass(frozen=True)
class Head:
    """What the prompts of a batch have in common: its tokens' keys and values, shape (layers, 2, 1, heads, tokens, size)."""

    cache: Floats

    @property
    def length(self) -> int:
        return int(self.cache.shape[4])


class Walk:
    """A batch of sequences on their way through the automaton: what each has in the cache, and what it has yet to read.

    Args:
        session: the exported model; see `training.export_onnx` for its inputs.
        rows: token ids of each sequence, without the head's.
        head: what stands before every row; None for nothing.
        end: `time.monotonic()` at which no further pass is begun.
        room: tokens that the cache has place for beside head and rows.
        whole: labels are scored by all their tokens (`LabelTrie.score_whole_labels`), not where they part.
    """

    def __init__(
        self, session: Any, automaton: TicketAutomaton, rows: Sequence[Tokens], *, head: Head | None, end: float, room: int, whole: bool = False
    ) -> None:
        self._session, self._automaton, self._end, self._whole = session, automaton, end, whole
        layers, two, _, heads, _, size = next(item for item in session.get_inputs() if item.name == "past").shape
        start = head.length if head else 0
        longest = min(CONTEXT_TOKENS, start + max(map(len, rows)) + room)
        self._cache = np.zeros((layers, two, len(rows), heads, longest, size), dtype=np.float32)
        if head:
            self._cache[..., :start, :] = head.cache
        self.lengths = np.full(len(rows), start, dtype=np.int64)
        """Tokens of each row in the cache."""
        self._pending = [np.asarray(row, dtype=np.int64) for row in rows]

    def score(self, field: str) -> NDArray[np.float64]:
        """The probability of each label of the next field, shape (rows, labels). Reads what is pending and the field's prefix."""
        trie, prefix = self._automaton.tries[field], self._automaton.prefix_ids[field]
        rows = [np.concatenate([row, prefix]) for row in self._pending]
        asked = np.arange(len(trie.tokens)) if self._whole else trie.asked
        fixed = np.array([len(row) for row in rows])
        longest, extra = int(fixed.max()), len(asked)
        new, past = longest + extra, int(self.lengths.max())
        ids = np.zeros((len(rows), new), dtype=np.int64)
        positions = np.zeros((len(rows), new), dtype=np.int64)
        mask = np.zeros((len(rows), 1, new, past + new), dtype=np.bool_)
        mask[..., 0] = True  # padding has to attend to something, and the first token is before everybody
        for row, tokens in enumerate(rows):
            known, count = self.lengths[row], fixed[row]
            ids[row, :count], ids[row, longest:] = tokens, trie.tokens[asked]
            positions[row, :count], positions[row, longest:] = known + np.arange(count), known + count + trie.depths[asked]
            mask[row, 0, :count, :known] = True
            mask[row, 0, :count, past : past + count] = np.tri(count, dtype=np.bool_)
            mask[row, 0, longest:, :known] = True
            mask[row, 0, longest:, past : past + count] = True
            mask[row, 0, longest:, past + longest :] = trie.visible[np.ix_(asked, asked)]
        place = {int(node): longest + order for order, node in enumerate(asked)}
        nodes = (-1, *map(int, asked)) if self._whole else trie.branches or (-1,)
        select = np.array([[count - 1 if node < 0 else place[node] for node in nodes] for count in fixed])
        vocabulary = np.arange(self._automaton.vocabulary_size) if self._whole else trie.vocabulary
        logits, present = self._forward(ids, positions, mask, select, vocabulary)
        for row, count in enumerate(fixed):
            start = self.lengths[row]
            self._cache[:, :, row, :, start : start + count] = present[:, :, row, :, :count]
        self.lengths += fixed
        self._pending = [np.zeros(0, dtype=np.int64)] * len(rows)
        return trie.score_whole_labels(logits) if self._whole else trie.score_labels(logits[:, : len(trie.branches)])

    def choose(self, field: str, labels: Sequence[int]) -> None:
        """Go on with one label a row, by its place among the field's labels; it is read in the next pass."""
        trie = self._automaton.tries[field]
        self._pending = [np.concatenate([row, trie.tokens[list(trie.paths[label])]]) for row, label in zip(self._pending, labels, strict=True)]

    def read(self) -> Head:
        """Read what is pending and return keys and values of a lone row, for later batches to start from."""
        self._read_pending(np.zeros(0, dtype=np.int64))
        return Head(self._cache[..., : self.lengths[0], :].copy())

    def write_summary(self) -> bytes:
        """The summary of a lone row as JSON string content in UTF-8, greedily, at most `SUMMARY_CHARACTERS` code points."""
        state = self._automaton.summary_start
        self._pending = [np.concatenate([self._pending[0], self._automaton.prefix_ids["summary"]])]
        remaining, written = SUMMARY_CHARACTERS, list[int]()
        while True:
            allowed = self._automaton.allowed_tokens(state, remaining)
            token = int(allowed[self._read_pending(allowed).argmax()])
            remaining -= self._automaton.characters(state, token)
            following = self._automaton.next_state(state, token)
            written.append(token)
            if following is None:
                return self._automaton.closing_bytes(written)
            state, self._pending = following, [np.array([token], dtype=np.int64)]

    def write_free(self, stop: int) -> list[int]:
        """What follows a lone row greedily, `stop` included where the model comes to it; at most `FREE_TOKENS`."""
        everything, written = np.arange(self._automaton.vocabulary_size), list[int]()
        while len(written) < FREE_TOKENS and stop not in written[-1:]:
            written.append(int(self._read_pending(everything).argmax()))
            self._pending = [np.array(written[-1:], dtype=np.int64)]
        return written

    def _read_pending(self, vocabulary: Tokens) -> Floats:
        """Read a lone row's pending tokens; the logits of `vocabulary` after the last of them."""
        [tokens], known = self._pending, int(self.lengths[0])
        count = len(tokens)
        if known + count > self._cache.shape[4]:
            raise ContextError
        mask = np.ones((1, 1, count, known + count), dtype=np.bool_)
        mask[..., known:] = np.tri(count, dtype=np.bool_)
        logits, present = self._forward(tokens[None], known + np.arange(count)[None], mask, np.array([[count - 1]]), vocabulary)
        self._cache[..., known : known + count, :] = present
        self.lengths += count
        self._pending = [np.zeros(0, dtype=np.int64)]
        found: Floats = logits[0, 0]
        return found

    def _forward(
        self, ids: Tokens, positions: Tokens, mask: NDArray[np.bool_], select: NDArray[np.int64], vocabulary: Tokens
    ) -> tuple[Floats, Floats]:
        """Logits of the selected places, (rows, selected, vocabulary), and the new keys and values, (layers, 2, rows, heads, new, size)."""
        if time.monotonic() > self._end:
            raise DeadlineError
        feed = {
            "input_ids": ids,
            "position_ids": positions,
            "mask": mask,
            "past": self._cache[..., : int(self.lengths.max()), :],
            "select": select,
            "vocabulary": vocabulary,
        }
        logits, present = self._session.run(["logits", "present"], feed)
        return logits, present


def split_by_length(lengths: Sequence[int], *, most_tokens: int, most_rows: int) -> list[list[int]]:
    """Places of sequences in batches of like length: at most `most_tokens` with padding and `most_rows` each, but at least one sequence."""
    batches: list[list[int]] = []
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batches and len(batches[-1]) < most_rows and lengths[place] * (len(batches[-1]) + 1) <= most_tokens:
            batches[-1].append(place)
        else:
            batches.append([place])
    return batches
