"""The classical baseline: TF-IDF of words and characters, one logistic regression a field, trained on the train split.

It sets the bar until the ladder of baselines exists. It reads train and dev, never test.

    python -m eval.tfidf
"""

from __future__ import annotations

import json
from pathlib import Path

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline, make_union

from triage.dataset import load_examples
from triage.prompt import render_message
from triage.taxonomy import LABEL_FIELDS, load_taxonomy

TICKETS = Path(__file__).resolve().parents[1] / "data" / "tickets"


def main() -> None:
    taxonomy = load_taxonomy()
    train, dev = (load_examples([TICKETS / name], taxonomy) for name in ("train.jsonl", "dev.jsonl"))
    right = {}
    for field in LABEL_FIELDS:
        words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
        characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
        model = make_pipeline(make_union(words, characters), LogisticRegression(C=10, max_iter=500))
        model.fit([render_message(example) for example in train], [example.labels.label(field) for example in train])
        guessed = model.predict([render_message(example) for example in dev])
        right[field] = sum(label == example.labels.label(field) for label, example in zip(guessed, dev, strict=True)) / len(dev)
    print(json.dumps({"train": len(train), "dev": len(dev), "accuracy": right}, indent=2))


if __name__ == "__main__":
    main()
