"""Texts that are the same, or nearly, among thousands: MinHash and locality-sensitive hashing find pairs, exact Jaccard decides.

Broder, "On the resemblance and containment of documents" (1997); Leskovec et al., "Mining of Massive Datasets", chapter 3.
Texts are compared as word 5-shingles of everything a model reads (subject, earlier turns, message), and messages of `ALONE_WORDS`
words and more by themselves too, since desks put ticket numbers into subjects. A text of at most five words is one shingle,
so only its equals are near it; one without any word ("???") is near what is written the same.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from triage.dataset import Example
from triage.prompt import render_message
from triage.shingles import Shingles, jaccard, word_shingles

NEAR = 0.6
"""The Jaccard similarity of word 5-shingles from which two messages are near-duplicates."""
SHINGLE_WORDS = 5
BANDS, ROWS = 42, 3
"""The index. A pair at 0.6 is missed with probability (1 - 0.6³)⁴² = 0.00004; what is found without being near is sorted out."""
ALONE_WORDS = 8
_WORD = re.compile(r"\w+")
REPEATED_SHARE = 0.5
REPEATED_WORDS = 30
"""A message of at least so many words of which more than `REPEATED_SHARE` lie in repeated runs of five repeats itself."""


@dataclass(frozen=True, slots=True)
class NearPair:
    """Two places in a list of texts, the first one smaller, and their Jaccard similarity in [0, 1]."""

    first: int
    second: int
    similarity: float


def find_near_examples(examples: Sequence[Example]) -> list[NearPair]:
    """The pairs of examples that are near by all that a model reads, or by their newest message alone; in order of place."""
    whole = [_shingles(render_message(example)) for example in examples]
    alone = [_shingles(example.message) if len(_WORD.findall(example.message)) >= ALONE_WORDS else frozenset() for example in examples]
    found: dict[tuple[int, int], NearPair] = {}
    for pair in (*find_near_pairs(whole), *find_near_pairs(alone)):
        earlier = found.get((pair.first, pair.second))
        if earlier is None or earlier.similarity < pair.similarity:
            found[pair.first, pair.second] = pair
    return [found[places] for places in sorted(found)]


def _shingles(text: str) -> Shingles:
    return word_shingles(text, size=SHINGLE_WORDS) or frozenset([(text.strip(),)])


def find_near_pairs(shingles: Sequence[Shingles], *, threshold: float = NEAR) -> list[NearPair]:
    """The pairs whose Jaccard similarity is at least `threshold`, in order of place. Empty sets are near nothing.

    Of sets that are equal, each is paired with the first of them alone, and with whatever the first is near: with all
    with all, a thousand equal messages would be half a million pairs. `threshold` is in (0, 1]. Seeded, so the same
    texts give the same pairs.
    """
    places: dict[Shingles, list[int]] = {}
    for place, each in enumerate(shingles):
        if each:
            places.setdefault(each, []).append(place)
    distinct = list(places)
    found = {(same[0], other): 1.0 for same in places.values() for other in same[1:]}
    for pair in _near_pairs(distinct, threshold):
        left, right = places[distinct[pair.first]], places[distinct[pair.second]]
        for one, other in [(left[0], each) for each in right] + [(each, right[0]) for each in left]:
            found[min(one, other), max(one, other)] = pair.similarity
    return [NearPair(*pair, found[pair]) for pair in sorted(found)]


def _near_pairs(shingles: Sequence[Shingles], threshold: float) -> Iterator[NearPair]:
    """Pairs among distinct, filled sets."""
    from datasketch import MinHash, MinHashLSH

    filled = range(len(shingles))
    encoded = ([" ".join(shingle).encode("utf-8", "surrogatepass") for shingle in shingles[place]] for place in filled)
    index = MinHashLSH(num_perm=BANDS * ROWS, params=(BANDS, ROWS))
    for place, sketch in zip(filled, MinHash.bulk(encoded, num_perm=BANDS * ROWS, seed=1, hashfunc=zlib.crc32), strict=True):
        for other in index.query(sketch):
            if (similarity := jaccard(shingles[other], shingles[place])) >= threshold:
                yield NearPair(other, place, similarity)
        index.insert(place, sketch)


def repeated_share(text: str) -> float:
    """The share of a text's words that lie in a run of five which stands in it more than once, in [0, 1]."""
    words = _WORD.findall(text.lower())
    runs: dict[tuple[str, ...], list[int]] = {}
    for start in range(len(words) - SHINGLE_WORDS + 1):
        runs.setdefault(tuple(words[start : start + SHINGLE_WORDS]), []).append(start)
    covered = {start + step for starts in runs.values() if len(starts) > 1 for start in starts for step in range(SHINGLE_WORDS)}
    return len(covered) / len(words) if words else 0.0


def repeats_itself(text: str) -> bool:
    """Whether more than half of a longer text is one thing said again and again, which a model would learn to say again too."""
    return len(_WORD.findall(text)) >= REPEATED_WORDS and repeated_share(text) > REPEATED_SHARE
