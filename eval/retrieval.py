"""Which labelled tickets are shown to a model beside a message: a fixed few, or those most like it.

Examples come from the train split alone, and never from the message's own author. Both orders put the best first, so that what
does not fit into a prompt is dropped from the end.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from eval.classical import text_features
from eval.questions import Question
from triage.dataset import Example
from triage.prompt import render_message

SEED = "ticket-triage shots 1"
LONGEST_FIXED = 300
"""Characters of a message that may stand as a fixed example: short ones leave room for the message itself."""


class Pick(Protocol):
    """Chooses examples for a message, best first."""

    def __call__(self, question: Question) -> Sequence[Example]: ...


class FixedExamples:
    """The same `k` examples for every message: a seeded draw in which every category comes once before any comes twice.

    The examples for `k` are the first `k` of those for any larger one.
    """

    def __init__(self, train: Sequence[Example], k: int) -> None:
        draw = random.Random(SEED)
        short = [example for example in train if len(render_message(example)) <= LONGEST_FIXED] or list(train)
        by_category: dict[str, list[Example]] = {}
        for example in sorted(short, key=lambda each: each.id):
            by_category.setdefault(example.labels.category, []).append(example)
        queues = [by_category[category] for category in sorted(by_category)]
        draw.shuffle(queues)
        for queue in queues:
            draw.shuffle(queue)
        rounds = [queue[place] for place in range(max(map(len, queues), default=0)) for queue in queues if place < len(queue)]
        self.examples = tuple(rounds[:k])

    def __call__(self, question: Question) -> Sequence[Example]:
        return [example for example in self.examples if example.group != question.group]


class NearestExamples:
    """The examples whose words and characters are most like the message's, by cosine of their TF-IDF."""

    def __init__(self, train: Sequence[Example]) -> None:
        self._train = list(train)
        self._groups = np.array([example.group for example in train])
        self._features = text_features()
        self._matrix = self._features.fit_transform([render_message(example) for example in train])

    def with_k(self, k: int) -> Pick:
        """A chooser of `k` examples."""
        return lambda question: self.pick(question, k)

    def pick(self, question: Question, k: int) -> list[Example]:
        """The `k` nearest, nearest first; equal ones in the order of the train split."""
        vector = self._features.transform([render_message(question.message)])
        likeness = (self._matrix @ vector.T).toarray()[:, 0]
        likeness[self._groups == question.group] = -1.0
        order = np.argsort(-likeness, kind="stable")[:k]
        return [self._train[place] for place in order if likeness[place] >= 0]
