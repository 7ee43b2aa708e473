"""Word shingles and their Jaccard similarity: the project's one notion of "nearly the same text".

Broder, "On the resemblance and containment of documents" (1997). Exact sets, no hashing; for thousands of texts
against thousands the data room uses MinHash instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

Shingles = frozenset[tuple[str, ...]]

NEAR_DUPLICATE = 0.3
"""The Jaccard similarity of word 3-shingles from which a text counts as a near-duplicate of a protected message."""

_WORD = re.compile(r"\w+")


def word_shingles(text: str, *, size: int = 3) -> Shingles:
    """The set of runs of `size` words, lower case, punctuation dropped. A shorter text is one shingle of all its words."""
    words = _WORD.findall(text.lower())
    if len(words) <= size:
        return frozenset([tuple(words)]) if words else frozenset()
    return frozenset(zip(*(words[start:] for start in range(size)), strict=False))


def jaccard(left: Shingles, right: Shingles) -> float:
    """Intersection over union, in [0, 1]; 0 when both are empty."""
    union = len(left | right)
    return len(left & right) / union if union else 0.0


def is_near_any(shingles: Shingles, others: Iterable[Shingles], *, threshold: float = NEAR_DUPLICATE) -> bool:
    """True when some other text shares at least `threshold` of its shingles with this one."""
    return any(jaccard(shingles, other) >= threshold for other in others)
