"""The unlabelled texts of the distilling stage: a turn of a dialogue, a question or a sentence each, clean and as somebody in a hurry types it."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from pathlib import Path

from training.embedded_base.corpus import MIXTURE, read_source
from triage.shingles import word_shingles

SHORTEST, LONGEST = 8, 600
"""Characters of a text that is learnt from."""
_SENTENCE = re.compile(r"(?<=[.!?])\s+")
_KEYS = {"a": "sq", "e": "wr", "i": "uo", "o": "ip", "n": "bm", "r": "et", "s": "ad", "t": "ry", "l": "k", "c": "xv"}


def collect_texts(root: Path, protected_texts: Sequence[str], book_sentences: int, seed: int) -> list[str]:
    """Distinct texts of all sources, a turn of a dialogue each; of the books some sentences. Nothing near a protected message."""
    guarded = [word_shingles(text) for text in protected_texts]
    found: dict[str, None] = {}
    draw = random.Random(seed)
    for source in MIXTURE:
        documents = read_source(root, source, guarded)
        if source == "classic_books":
            sentences = [" ".join(piece.split()) for document in documents for piece in _SENTENCE.split(document.text[:200_000])]
            usable = [sentence for sentence in sentences if 30 <= len(sentence) <= 200]
            found.update(dict.fromkeys(draw.sample(usable, min(book_sentences, len(usable)))))
            continue
        for document in documents:
            pieces = [said for _, said in document.turns] or [document.text]
            if max(map(len, pieces)) > LONGEST:
                pieces = [" ".join(part.split()) for piece in pieces for part in (_SENTENCE.split(piece) if len(piece) > LONGEST else [piece])]
            found.update(dict.fromkeys(piece.strip() for piece in pieces if SHORTEST <= len(piece.strip()) <= LONGEST))
    return list(found)


def make_noisy(text: str, noise: float, draw: random.Random) -> str:
    """The text as somebody in a hurry would type it."""
    words = text.split(" ")
    for place, word in enumerate(words):
        if len(word) > 3 and draw.random() < noise:
            spot = draw.randrange(1, len(word) - 1)
            kind = draw.randrange(4)
            if kind == 0:
                word = word[:spot] + word[spot + 1 :]
            elif kind == 1:
                word = word[:spot] + word[spot + 1] + word[spot] + word[spot + 2 :]
            elif kind == 2:
                word = word[:spot] + word[spot] + word[spot:]
            else:
                word = word[:spot] + draw.choice(_KEYS.get(word[spot], word[spot])) + word[spot + 1 :]
            words[place] = word
    changed = " ".join(words)
    if draw.random() < 0.5:
        changed = changed.lower()
    if draw.random() < 0.3:
        changed = changed.rstrip(".!?").replace(",", "").replace("'", "")
    return changed
