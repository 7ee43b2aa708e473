"""How far a confidence can be believed: Brier score, calibration error, and what is gained by answering only when sure.

A confidence is the probability that the chosen label is right, in [0, 1]; `correct` says whether it was. Rows of equal
confidence are exchangeable: their order never changes a number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from eval.metrics import Floats, Integers, check_pairs

_CHUNK_CELLS = 2_000_000  # numbers held at once


class ReliabilityBin(NamedTuple):
    """One bin of a reliability diagram. `low` and `high` are the least and greatest confidence in it; where ties are split, bins share it."""

    rows: int
    low: float
    high: float
    mean_confidence: float
    share_correct: float


class PerfectEce(NamedTuple):
    """The calibration error that a perfectly calibrated model would show at this n, from nothing but chance."""

    mean: float
    quantile_95: float


def brier(confidence: Sequence[float] | Floats, correct: Sequence[bool]) -> float:
    """Mean squared distance of the confidence from 1 where right and 0 where wrong, in [0, 1] (Brier 1950, Mon. Weather Rev. 78).

    It is the score of the chosen label alone, not Brier's sum over all labels.

    Raises:
        ValueError: columns unequal or empty, a confidence outside [0, 1] or NaN, or something in `correct` other than true and false.
    """
    sure, right = _columns(confidence, correct)
    return float(np.mean((sure - right) ** 2))


def ece(confidence: Sequence[float] | Floats, correct: Sequence[bool], bins: int = 10) -> float:
    """Expected calibration error, in [0, 1]: the mean distance of confidence and accuracy over bins of equal mass, weighted by their rows.

    Equal mass, since with equal width nearly all rows of a good model fall in the last bin (Nguyen and O'Connor 2015,
    arXiv:1508.05154; Roelofs et al. 2022, arXiv:2012.08668, find it less biased). It is above 0 even under perfect
    calibration: read it beside `ece_if_perfect`. Fewer rows than bins make one bin a row. A tie that a bin's edge
    splits gives each side its share of the right rows.

    Raises:
        ValueError: as `brier`, or `bins` is less than 1.
    """
    levels, counts, right = _by_level(*_columns(confidence, correct))
    return float(_gaps(levels, counts, right[None], _bin_shares(counts, bins))[0])


def ece_if_perfect(confidence: Sequence[float] | Floats, n_samples: int, seed: int, bins: int = 10) -> PerfectEce:
    """Mean and 95 % quantile of `ece` over `n_samples` draws in which a row is right with exactly its confidence.

    Consistency resampling (Bröcker and Smith 2007, Weather and Forecasting 22; Vaicenavicius et al. 2019, arXiv:1902.06977).

    Raises:
        ValueError: the confidences are empty, outside [0, 1] or NaN, or `n_samples` or `bins` is less than 1.
    """
    if n_samples < 1:
        raise ValueError(f"{n_samples} samples: at least 1 is needed")
    sure, none = _columns(confidence, [False] * len(confidence))
    levels, counts, _ = _by_level(sure, none)
    shares = _bin_shares(counts, bins)
    draw = np.random.default_rng(seed)
    step = max(1, _CHUNK_CELLS // len(levels))
    sizes = [min(step, n_samples - start) for start in range(0, n_samples, step)]
    drawn = (draw.binomial(counts, levels, (size, len(levels))).astype(np.float64) for size in sizes)
    values = np.concatenate([_gaps(levels, counts, right, shares) for right in drawn])
    return PerfectEce(float(values.mean()), float(np.quantile(values, 0.95)))


def reliability_bins(confidence: Sequence[float] | Floats, correct: Sequence[bool], bins: int = 10) -> list[ReliabilityBin]:
    """The bins of `ece`, from the least confidence up.

    Raises:
        ValueError: as `ece`.
    """
    levels, counts, right = _by_level(*_columns(confidence, correct))
    found = []
    for share in _bin_shares(counts, bins).T:
        inside, rows = levels[share > 0], float((share * counts).sum())
        means = [float((share * total).sum()) / rows for total in (counts * levels, right)]
        found.append(ReliabilityBin(round(rows), float(inside[0]), float(inside[-1]), *means))
    return found


def risk_coverage(confidence: Sequence[float] | Floats, correct: Sequence[bool]) -> tuple[Floats, Floats]:
    """Coverage and risk, each of shape [distinct confidences], for every threshold there is, the strictest first.

    Coverage, rising to 1, is the share of rows at or above the threshold; risk, in [0, 1], the share of these that are
    wrong (El-Yaniv and Wiener 2010, JMLR 11). A tie is answered whole or not at all, as a threshold would.

    Raises:
        ValueError: as `brier`.
    """
    _, counts, right = _by_level(*_columns(confidence, correct))
    answered = np.cumsum(counts[::-1])
    return answered / answered[-1], np.cumsum((counts - right)[::-1]) / answered


def coverage_at_risk(confidence: Sequence[float] | Floats, correct: Sequence[bool], max_risk: float) -> float:
    """The largest coverage, in [0, 1], of a threshold whose risk is at most `max_risk`; 0 if even the surest rows are wrong more often.

    The risk is that of these rows: chosen on one set, a threshold has to be checked on another.

    Raises:
        ValueError: as `brier`, or `max_risk` is outside [0, 1].
    """
    if not 0 <= max_risk <= 1:
        raise ValueError(f"a risk lies between 0 and 1, not at {max_risk}")
    coverage, risk = risk_coverage(confidence, correct)
    return float(coverage[risk <= max_risk].max(initial=0.0))


def aurc(confidence: Sequence[float] | Floats, correct: Sequence[bool]) -> float:
    """Area under the risk-coverage curve, in [0, 1], less is better: the mean risk of answering the surest 1, 2, ... n rows.

    Geifman, Uziel and El-Yaniv 2019 (arXiv:1805.08206). Inside a tie it takes the expectation over all orders.

    Raises:
        ValueError: as `brier`.
    """
    _, counts, right = _by_level(*_columns(confidence, correct))
    wrong = np.cumsum(np.repeat(((counts - right) / counts)[::-1], counts[::-1]))
    return float(np.mean(wrong / np.arange(1, len(wrong) + 1)))


def _columns(confidence: Sequence[float] | Floats, correct: Sequence[bool]) -> tuple[Floats, Floats]:
    check_pairs(confidence, correct, ("confidence", "correct"))
    sure, right = np.asarray(confidence, dtype=np.float64), np.asarray(correct)
    if faulty := int((~((sure >= 0) & (sure <= 1))).sum()):
        raise ValueError(f"{faulty} of {len(sure)} confidences are not numbers from 0 to 1")
    if right.dtype != np.bool_:
        raise ValueError("correct may hold only true and false")
    return sure, right.astype(np.float64)


def _by_level(sure: Floats, right: Floats) -> tuple[Floats, Integers, Floats]:
    """The distinct confidences in rising order, how many rows have each, and how many of these are right, each of shape [levels]."""
    levels, place, counts = np.unique(sure, return_inverse=True, return_counts=True)
    return levels, counts.astype(np.int64), np.bincount(place, weights=right).astype(np.float64)


def _bin_shares(counts: Integers, bins: int) -> Floats:
    """Which share of each level's rows lies in each bin, [levels, bins], once the rows are sorted and cut into bins of equal mass."""
    if bins < 1:
        raise ValueError(f"{bins} bins: at least 1 is needed")
    ends = np.cumsum(counts)
    used = min(bins, int(ends[-1]))
    edges = np.arange(used + 1) * ends[-1] // used
    overlap = np.minimum(ends[:, None], edges[1:]) - np.maximum((ends - counts)[:, None], edges[:-1])
    return np.asarray(np.clip(overlap, 0, None) / counts[:, None])


def _gaps(levels: Floats, counts: Integers, right: Floats, shares: Floats) -> Floats:
    """The calibration error, [n], of counts of right rows a level, [n, levels]."""
    return np.asarray(np.abs((counts * levels - right) @ shares).sum(axis=1) / counts.sum())
