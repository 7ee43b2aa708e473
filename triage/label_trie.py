"""The labels of one field as a tree of tokens, and the probability of each from a model's logits."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Tokens = NDArray[np.int64]


@dataclass(frozen=True)
class LabelTrie:
    """The labels of one field as a tree of tokens. Node order is such that a parent comes before its children."""

    labels: tuple[str, ...]
    tokens: Tokens
    """Token of each node, shape (nodes,)."""
    parents: NDArray[np.int64]
    """Parent of each node, -1 below the root, shape (nodes,)."""
    depths: NDArray[np.int64]
    """Distance from the root, 0 for a label's first token, shape (nodes,)."""
    paths: tuple[tuple[int, ...], ...]
    """For each label, its nodes from the first token to the last."""
    terminator: int
    """The token that follows every label: it tells `refund` from the beginning of `refund_status`."""

    @cached_property
    def visible(self) -> NDArray[np.bool_]:
        """`visible[i, j]`: node j is i or an ancestor of it, so that i may attend to it. Shape (nodes, nodes)."""
        seen = np.eye(len(self.tokens), dtype=np.bool_)
        for node, parent in enumerate(self.parents):
            if parent >= 0:
                seen[node] |= seen[parent]
        return seen

    @cached_property
    def branches(self) -> tuple[int, ...]:
        """The nodes after which more than one token can follow, in order; -1 is the root. Elsewhere there is nothing to decide."""
        return tuple(node for node, following in self._following.items() if len(following) > 1)

    @cached_property
    def asked(self) -> NDArray[np.int64]:
        """The nodes that a model has to read so that every branch can be scored: branches and their ancestors, without the root."""
        wanted = [node for node in self.branches if node >= 0]
        return np.flatnonzero(self.visible[wanted].any(axis=0))

    @cached_property
    def vocabulary(self) -> Tokens:
        """The tokens that can follow at some branch, sorted: the only ones whose logits are needed."""
        return np.array(sorted({token for node in self.branches for token in self._following[node]}), dtype=np.int64)

    def score_labels(self, logits: NDArray[np.float32]) -> NDArray[np.float64]:
        """The probability of each label, shape (rows, labels), each row summing to 1.

        `logits` has shape (rows, branches, vocabulary). At each branch the probability is spread over the tokens that may
        follow there, as constrained decoding spreads it; a label's probability is the product along its path.
        """
        scores = _log_shares(np.where(self._allowed, logits.astype(np.float64), -np.inf))
        total = np.stack([sum((scores[:, branch, column] for branch, column in steps), np.zeros(len(logits))) for steps in self._steps], axis=1)
        shares: NDArray[np.float64] = np.exp(total)
        return shares

    def score_whole_labels(self, logits: NDArray[np.float32]) -> NDArray[np.float64]:
        """The probability of each label among all, shape (rows, labels), by the likelihood of all its tokens and its terminator.

        `logits` has shape (rows, 1 + nodes, all tokens): before the label, then after each node. For models that were not taught to
        write these labels: which of them they would rather spell out tells more than where they would rather begin.
        """
        scores = _log_shares(logits.astype(np.float64))
        own = scores[:, self.parents + 1, self.tokens]
        weights = np.stack([own[:, list(path)].sum(axis=1) + scores[:, path[-1] + 1, self.terminator] for path in self.paths], axis=1)
        raised = np.exp(weights - weights.max(axis=1, keepdims=True))
        shares: NDArray[np.float64] = raised / raised.sum(axis=1, keepdims=True)
        return shares

    @cached_property
    def _following(self) -> dict[int, tuple[int, ...]]:
        """The tokens that can follow each node, the root first."""
        found: dict[int, set[int]] = {node: set() for node in range(-1, len(self.tokens))}
        for node, parent in enumerate(self.parents):
            found[int(parent)].add(int(self.tokens[node]))
        for path in self.paths:
            found[path[-1]].add(self.terminator)
        return {node: tuple(sorted(tokens)) for node, tokens in found.items()}

    @cached_property
    def _allowed(self) -> NDArray[np.bool_]:
        """Which token may follow at which branch, shape (branches, vocabulary)."""
        return np.array([np.isin(self.vocabulary, self._following[node]) for node in self.branches], dtype=np.bool_).reshape(
            len(self.branches), len(self.vocabulary)
        )

    @cached_property
    def _steps(self) -> list[list[tuple[int, int]]]:
        """For each label, the branches on its path and the column of the token that it takes there."""
        columns = {int(token): column for column, token in enumerate(self.vocabulary)}
        found = []
        for path in self.paths:
            nodes = (-1, *path)
            taken = [*(int(self.tokens[node]) for node in path), self.terminator]
            found.append([(self.branches.index(node), columns[token]) for node, token in zip(nodes, taken, strict=True) if node in self.branches])
        return found


def _log_shares(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logarithms of the probabilities over the last axis, which may be empty; minus infinity stays what it is."""
    scores = logits - logits.max(axis=-1, keepdims=True, initial=-1e30)
    found: NDArray[np.float64] = scores - np.log(np.exp(scores).sum(axis=-1, keepdims=True))
    return found
