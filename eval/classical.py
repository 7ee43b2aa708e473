"""The classical rungs: the majority label, and TF-IDF with one logistic regression a field.

They are fitted on the train split alone and nothing in them is tuned. Their summary is the lead, the standard baseline of
summarisation: the first sentences of the message that are no greeting, as many as fit, redacted as every summary is.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion
from threadpoolctl import threadpool_limits

from eval.questions import Question
from eval.rung import Reading, RungCard
from triage.answer import parse_answer, with_details
from triage.dataset import Example
from triage.extract import candidate_sentences
from triage.prompt import build_prompt, render_message
from triage.taxonomy import LABEL_FIELDS, Taxonomy
from triage.ticket import Message

INVERSE_REGULARISATION = 10.0
MOST_STEPS = 2_000
PACKAGES = ("scikit-learn", "numpy", "scipy")


class Majority:
    """The commonest label of each field, whatever the message says. Its confidence is that label's share of the train split."""

    def __init__(self, train: Sequence[Example], taxonomy: Taxonomy, *, digest: str) -> None:
        self.card = RungCard("majority", {"summary": "lead"}, {"train": digest})
        self._taxonomy = taxonomy
        self._labels: dict[str, str] = {}
        self._shares: dict[str, float] = {}
        for field in LABEL_FIELDS:
            counts = Counter(example.labels.label(field) for example in train)
            label = max(taxonomy.labels(field), key=lambda name: counts[name])
            self._labels[field], self._shares[field] = label, counts[label] / len(train)

    def prepare(self) -> None:
        """Counting took no time."""

    async def read(self, question: Question) -> Reading:
        return to_reading(self._labels, self._shares, question.message, self._taxonomy)


class TfidfLogistic:
    """TF-IDF of words and of characters, one logistic regression a field."""

    def __init__(self, train: Sequence[Example], taxonomy: Taxonomy, *, digest: str) -> None:
        config = {"summary": "lead", "inverse_regularisation": INVERSE_REGULARISATION, "words": [1, 2], "characters": [2, 5]}
        self.card = RungCard("tfidf", config, {"train": digest}, packages=PACKAGES)
        self._train, self._taxonomy = train, taxonomy
        self._features = text_features()
        self._heads: FieldHeads | None = None

    def prepare(self) -> None:
        """Fit."""
        if self._heads is None:
            self._heads = FieldHeads(self._features.fit_transform([render_message(example) for example in self._train]), self._train)

    async def read(self, question: Question) -> Reading:
        assert self._heads is not None, "read before prepare"
        labels, shares = self._heads.decide(self._features.transform([render_message(question.message)]))
        return to_reading(labels, shares, question.message, self._taxonomy)


class FieldHeads:
    """One logistic regression a field on a matrix of features, shape (examples, features), dense or sparse.

    A field for which the train split knows one label alone needs no regression: that label is certain.
    """

    def __init__(self, features: Any, train: Sequence[Example]) -> None:
        self._models: dict[str, LogisticRegression | str] = {}
        for field in LABEL_FIELDS:
            labels = [example.labels.label(field) for example in train]
            model = LogisticRegression(C=INVERSE_REGULARISATION, max_iter=MOST_STEPS)
            with threadpool_limits(1, user_api="blas"):
                self._models[field] = model.fit(features, labels) if len(set(labels)) > 1 else labels[0]

    def decide(self, features: Any) -> tuple[dict[str, str], dict[str, float]]:
        """The likeliest label of each field and its probability, for one message: features of shape (1, features)."""
        labels, shares = dict[str, str](), dict[str, float]()
        for field, model in self._models.items():
            if isinstance(model, str):
                labels[field], shares[field] = model, 1.0
                continue
            probabilities: NDArray[np.float64] = model.predict_proba(features)[0]
            best = int(probabilities.argmax())
            labels[field], shares[field] = str(model.classes_[best]), float(probabilities[best])
        return labels, shares


def text_features() -> FeatureUnion:
    """The unfitted TF-IDF of words and characters, a row of unit length for each of the two."""
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
    return FeatureUnion([("words", words), ("characters", characters)])


def to_reading(labels: Mapping[str, str], shares: Mapping[str, float], message: Message, taxonomy: Taxonomy) -> Reading:
    """A whole ticket from decided labels and the message's lead, with the probability of each label, in [0, 1]."""
    decided = {field: json.loads(label) if field == "needs_human" else label for field, label in labels.items()}
    lead = candidate_sentences(build_prompt(message, taxonomy).newest)[0]
    answer = parse_answer(json.dumps({**decided, "summary": lead}), taxonomy)
    return Reading(with_details(answer, probabilities=shares, prompt_tokens=0, output_tokens=0))
