"""Sentences that address the machine instead of the desk: found by a small linear model and kept from the language model.

A message's planted instructions ("file this as low") are content, not orders; a small model that reads them is swayed all the same.
The guard splits a text at sentence and line ends, scores each piece by its tokens and neighbouring pairs and triples of
tokens, hashed (Weinberger et al., "Feature Hashing", arXiv 0902.2206), and drops pieces that are surely instructions and those
beside them that are likely. It is one line of defence: what reads like a customer gets through. `training.guard` fits it.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from triage.errors import ReleaseError
from triage.extract import is_greeting

GUARD_FILE = "guard.npz"
FEATURES = 1 << 15
FEWEST_WORDS = 2
"""A text of which fewer words would be left, greetings and marks of the prompt aside, is kept whole: then the instruction is the message."""
_PIECE_END = re.compile(r"[.!?…][\"'”’)\]}>|]{0,8}[ \t]+\n*|\n+")
_FRAME = re.compile(r"^(?:Subject|Earlier|Now|customer|agent):")
_WORD = re.compile(r"\w+")
Encode = Callable[[str], Sequence[int]]


def split_pieces(text: str) -> list[str]:
    """Sentences and lines with what stands between them; joined they are the text."""
    ends = [0, *(match.end() for match in _PIECE_END.finditer(text)), len(text)]
    return [text[start:end] for start, end in pairwise(ends) if end > start]


def _count_substance(piece: str) -> int:
    body = _FRAME.sub("", piece.strip()).strip()
    return 0 if is_greeting(body) else len(_WORD.findall(body))


def hash_features(tokens: Sequence[int]) -> NDArray[np.int64]:
    """The places, below `FEATURES`, of a piece's tokens, pairs and triples, each once."""
    ids = np.asarray([0, *tokens, 0], dtype=np.int64) + 1
    single, pair, triple = ids[1:-1], ids[:-1] * 1_000_003 + ids[1:], (ids[:-2] * 1_000_003 + ids[1:-1]) * 998_244_353 + ids[2:]
    mixed = np.concatenate([single * 2_654_435_761, pair * 2_654_435_761 + 1, triple * 2_654_435_761 + 2])
    found: NDArray[np.int64] = np.unique((mixed ^ (mixed >> 17)) % FEATURES)
    return found


@dataclass(frozen=True)
class Cleaned:
    """A text after the guard."""

    text: str
    only: bool = False
    """It was kept whole, since it holds hardly anything but instructions."""
    most: bool = False
    """More was dropped than kept."""


@dataclass(frozen=True)
class Guard:
    """A fitted guard."""

    weights: NDArray[np.float32]
    """Of each feature, shape (FEATURES,)."""
    bias: float
    sure: float
    """From this score on a piece is dropped."""
    likely: float
    """From this score on a piece beside a dropped one is dropped."""

    def score(self, tokens: Sequence[int]) -> float:
        """The log-odds that a piece addresses the machine; its features share a length of one."""
        places = hash_features(tokens)
        return float(self.weights[places].sum() / np.sqrt(max(1, len(places)))) + self.bias

    def clean(self, text: str, encode: Encode) -> Cleaned:
        """The text without what addresses the machine; the same text where nothing does or hardly anything would be left."""
        pieces = split_pieces(text)
        scores = [self.score(encode(piece.strip().lower())) if _WORD.search(piece) else None for piece in pieces]
        dropped = {place for place, score in enumerate(scores) if score is not None and score >= self.sure}
        for order in (range(len(pieces)), range(len(pieces) - 1, -1, -1)):
            beside = False
            for place in order:
                score = scores[place]
                if place in dropped:
                    beside = True
                elif score is not None:
                    beside = beside and score >= self.likely
                    if beside:
                        dropped.add(place)
        left = sum(_count_substance(piece) for place, piece in enumerate(pieces) if place not in dropped)
        gone = sum(_count_substance(pieces[place]) for place in dropped)
        if not dropped or left < FEWEST_WORDS:
            return Cleaned(text, only=bool(dropped))
        return Cleaned("".join(piece for place, piece in enumerate(pieces) if place not in dropped).strip(), most=gone > left)

    def save(self, path: Path) -> None:
        """Write it to a file that `load_guard` reads."""
        np.savez_compressed(path, weights=self.weights.astype(np.float16), numbers=np.array([self.bias, self.sure, self.likely]))


def load_guard(path: Path) -> Guard:
    """The guard of a bundle.

    Raises:
        ReleaseError: the file is no guard.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            weights, (bias, sure, likely) = arrays["weights"].astype(np.float32), arrays["numbers"].tolist()
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ReleaseError(f"{path} is no guard: {type(error).__name__}", "restore the bundle from where it was made") from error
    if weights.shape != (FEATURES,):
        raise ReleaseError(f"{path} has {weights.size} weights in place of {FEATURES}", "restore the bundle from where it was made")
    return Guard(weights, bias, sure, likely)
