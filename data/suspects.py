"""Labels that the rest of the dataset does not bear out: candidates for a second look, not faults.

Each ticket is judged by a model that has not seen its author: TF-IDF and logistic regression, cross-validated by group, per
field. A label is suspicious when the model gives it less than `UNLIKELY` and another one more than `LIKELY`. The idea is that of
confident learning (Northcutt, Jiang and Chuang, "Confident Learning", 2021) with fixed thresholds in place of class averages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from triage.dataset import PlacedExample
from triage.errors import DatasetError
from triage.prompt import render_message
from triage.taxonomy import LABEL_FIELDS

FOLDS = 5
UNLIKELY, LIKELY = 0.05, 0.7
FEWEST_GROUPS, FEWEST_TICKETS = 10, 50


@dataclass(frozen=True, slots=True)
class Suspect:
    """One label that is worth a second look. Probabilities are out of fold, in [0, 1], uncalibrated."""

    place: str
    id: str
    field: str
    label: str
    probability: float
    likelier: str
    likelier_probability: float


def find_suspects(placed: Sequence[PlacedExample]) -> list[Suspect]:
    """The suspicious labels of some tickets, the most suspicious first. Deterministic.

    Raises:
        DatasetError: there are too few groups, or too few words, to cross-validate.
    """
    import numpy as np
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold
    from sklearn.pipeline import make_pipeline, make_union

    groups = [each.example.group for each in placed]
    if len(set(groups)) < FEWEST_GROUPS or len(placed) < FEWEST_TICKETS:
        raise DatasetError(
            f"{len(placed)} tickets of {len(set(groups))} groups are too few to cross-validate labels",
            f"check without --suspicious, or collect {FEWEST_TICKETS} tickets of {FEWEST_GROUPS} groups",
        )
    texts = np.array([render_message(each.example) for each in placed], dtype=object)
    found = []
    for field in LABEL_FIELDS:
        labels = np.array([each.example.labels.label(field) for each in placed])
        if len(set(labels)) < 2:
            continue
        for fitted, held in GroupKFold(n_splits=FOLDS).split(texts, labels, groups):
            if len(set(labels[fitted])) < 2:
                continue
            words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
            characters = TfidfVectorizer(analyzer="char", ngram_range=(2, 4), sublinear_tf=True)
            model = make_pipeline(make_union(words, characters), LogisticRegression(C=10, max_iter=300))
            model.fit(texts[fitted], labels[fitted])
            known = list(model.classes_)
            for place, shares in zip(held, model.predict_proba(texts[held]), strict=True):
                label, best = str(labels[place]), int(shares.argmax())
                share = float(shares[known.index(label)]) if label in known else 0.0
                if share < UNLIKELY and shares[best] > LIKELY:
                    each = placed[place]
                    found.append(Suspect(each.place, each.example.id, field, label, round(share, 4), str(known[best]), round(float(shares[best]), 4)))
    return sorted(found, key=lambda suspect: (suspect.probability - suspect.likelier_probability, suspect.id, suspect.field))
