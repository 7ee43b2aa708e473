"""The teacher that counts: TF-IDF and a logistic regression a field, on the message and the labels before."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix, hstack
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion

from training.pool import Pool, label_indices, labels_before, one_hot
from triage.dataset import Example
from triage.prompt import render_message
from triage.taxonomy import LABEL_FIELDS, Taxonomy


class TfidfTeacher:
    """TF-IDF of words and characters with a logistic regression a field, on the message and the labels before."""

    def __init__(self, examples: Sequence[Example], taxonomy: Taxonomy, inverse_regularisation: float) -> None:
        words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
        characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
        self._features = FeatureUnion([("words", words), ("characters", characters)])
        features = self._features.fit_transform([render_message(example) for example in examples])
        labels = label_indices(examples, taxonomy)
        self._models: dict[str, Any] = {}
        for field in LABEL_FIELDS:
            known = hstack([features, csr_matrix(one_hot(labels, field, taxonomy))]).tocsr()
            self._models[field] = LogisticRegression(C=inverse_regularisation, max_iter=2_000).fit(known, labels[field])
        self._taxonomy = taxonomy

    def read(self, texts: Sequence[str]) -> Pool:
        """Logits of all messages; a label that no ticket has gets the lowest."""
        features = self._features.transform(texts)
        width = features.shape[1]
        found: dict[str, np.ndarray] = {}
        before: dict[str, dict[str, np.ndarray]] = {field: {} for field in LABEL_FIELDS}
        for field in LABEL_FIELDS:
            matrix, bias = self._spread(field)
            found[field] = np.asarray(features @ matrix[:, :width].T, dtype=np.float32) + bias
            start = width
            for earlier in labels_before(field):
                end = start + len(self._taxonomy.labels(earlier))
                before[field][earlier] = matrix[:, start:end].T
                start = end
        return Pool(found, before)

    def _spread(self, field: str) -> tuple[np.ndarray, np.ndarray]:
        """Coefficients and bias with a row for each label of the taxonomy."""
        model, count = self._models[field], len(self._taxonomy.labels(field))
        matrix, bias = np.zeros((count, model.coef_.shape[1]), dtype=np.float32), np.full(count, -20.0, dtype=np.float32)
        if len(model.classes_) == 2:
            matrix[model.classes_[1]], bias[model.classes_] = model.coef_[0], (0.0, model.intercept_[0])
        else:
            matrix[model.classes_], bias[model.classes_] = model.coef_, model.intercept_
        return matrix, bias


_TFIDF: TfidfTeacher | None = None


def _start_reader(teacher: TfidfTeacher) -> None:
    global _TFIDF
    _TFIDF = teacher


def _read_part(texts: list[str]) -> Pool:
    assert _TFIDF is not None
    return _TFIDF.read(texts)


def read_with_tfidf(examples: Sequence[Example], texts: list[str], taxonomy: Taxonomy, inverse_regularisation: float, workers: int) -> Pool:
    """What TF-IDF learnt from the tickets says of the texts, in several processes: counting character n-grams takes most of the time."""
    teacher = TfidfTeacher(examples, taxonomy, inverse_regularisation)
    parts = [texts[start : start + 4_000] for start in range(0, len(texts), 4_000)]
    with ProcessPoolExecutor(workers, initializer=_start_reader, initargs=(teacher,)) as pools:
        read = list(pools.map(_read_part, parts))
    return Pool({field: np.concatenate([part.of_message[field] for part in read]) for field in LABEL_FIELDS}, read[0].of_before)
