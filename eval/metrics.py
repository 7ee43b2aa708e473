"""Scores of labels: confusion, F1, ordered labels, hand-over errors. Pure numbers; no file, no taxonomy, no model.

They compare what is there. A message that no model could read is no wrong answer: leave it out before, and count it apart.
Nothing here returns 0 for an empty set; it raises.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class LabelScore(NamedTuple):
    """How well one label was found, each in [0, 1]; `support` is the number of rows that truly have it."""

    precision: float
    recall: float
    f1: float
    support: int


class HandoverCosts(NamedTuple):
    """What an error costs. By default a customer left alone with a machine weighs as much as five needless hand-overs."""

    missed: float = 5.0
    needless: float = 1.0


class HandoverErrors(NamedTuple):
    """The two errors of `needs_human`, apart, since they are not equally bad."""

    missed: int
    """Rows that need a person and were not given one."""
    needless: int
    """Rows that need no person and were given one."""


def check_pairs(first: Sequence[Any] | NDArray[Any], second: Sequence[Any] | NDArray[Any], names: tuple[str, str] = ("truth", "guess")) -> None:
    """Check that two columns belong together.

    Raises:
        ValueError: they differ in length or are empty; the message names which.
    """
    if len(first) != len(second):
        raise ValueError(f"{names[0]} has {len(first)} rows and {names[1]} has {len(second)}")
    if not len(first):
        raise ValueError(f"{names[0]} and {names[1]} are empty: there is nothing to score")


def confusion(truth: Sequence[str], guess: Sequence[str], labels: Sequence[str]) -> Integers:
    """Counts of shape [labels, labels]: row the true label, column the guessed one, both in the order given.

    Raises:
        ValueError: the columns differ in length or are empty, `labels` repeats one, or a row has a label it lacks.
    """
    check_pairs(truth, guess)
    size = len(labels)
    cells = _codes(truth, labels, "truth") * size + _codes(guess, labels, "guess")
    return np.bincount(cells, minlength=size * size).reshape(size, size).astype(np.int64)


def f1_by_label(truth: Sequence[str], guess: Sequence[str], labels: Sequence[str]) -> dict[str, LabelScore]:
    """Precision, recall, F1 and support of every label in `labels` that occurs in truth or guess; the others have none.

    A ratio without a denominator (precision of a label never guessed, recall of one that is never true) is 0, as with
    `zero_division=0` in scikit-learn.

    Raises:
        ValueError: as `confusion`.
    """
    matrix = confusion(truth, guess, labels)
    scores = {}
    for place, label in enumerate(labels):
        right, support, guessed = int(matrix[place, place]), int(matrix[place].sum()), int(matrix[:, place].sum())
        if support + guessed:
            precision, recall = right / guessed if guessed else 0.0, right / support if support else 0.0
            scores[label] = LabelScore(precision, recall, 2 * right / (support + guessed), support)
    return scores


def macro_f1(truth: Sequence[str], guess: Sequence[str], labels: Sequence[str]) -> float:
    """The mean F1, in [0, 1], over the labels that occur in truth or guess; `labels` says which may.

    So a label of the taxonomy that a slice does not have cannot lower its score, and one that is only guessed, wrongly,
    counts as 0. This is `f1_score(average="macro", zero_division=0)` of scikit-learn without `labels=`; with
    `labels=` the whole taxonomy, scikit-learn would count every absent label as 0 too. It is the mean of F1s, not the
    F1 of mean precision and recall (Opitz and Burst 2019, arXiv:1911.03347).

    Raises:
        ValueError: as `confusion`.
    """
    return float(macro_f1_of_sums(label_statistics(truth, guess, labels).sum(axis=0)))


def label_statistics(truth: Sequence[str], guess: Sequence[str], labels: Sequence[str]) -> Floats:
    """What macro-F1 needs of each row, as 0 and 1 of shape [rows, 3 * labels]: is it right with, true of, guessed as a label.

    Raises:
        ValueError: as `confusion`.
    """
    check_pairs(truth, guess)
    true, guessed = (np.eye(len(labels))[_codes(column, labels, name)] for column, name in ((truth, "truth"), (guess, "guess")))
    return np.hstack([true * guessed, true, guessed])


def macro_f1_of_sums(sums: Floats) -> Floats:
    """Macro-F1 of summed `label_statistics` of shape [..., 3 * labels], a number for each leading place; NaN where all sums are 0."""
    right, true, guessed = np.split(sums, 3, axis=-1)
    either = true + guessed
    scores = np.divide(2 * right, either, out=np.zeros_like(either), where=either > 0).sum(axis=-1)
    present = (either > 0).sum(axis=-1).astype(np.float64)
    return np.asarray(scores / np.where(present > 0, present, np.nan))


def quadratic_kappa(truth: Sequence[str], guess: Sequence[str], order: Sequence[str]) -> float:
    """Cohen's kappa of ordered labels, weighted by the squared number of steps between them, in [-1, 1] (Cohen 1968, Psych. Bull. 70).

    1 where truth and guess are one and the same label throughout, for which scikit-learn gives NaN.

    Raises:
        ValueError: as `confusion`, `order` taking the place of `labels`.
    """
    matrix = confusion(truth, guess, order).astype(np.float64)
    places = np.arange(len(order), dtype=np.float64)
    weights = (places[:, None] - places) ** 2
    by_chance = np.outer(matrix.sum(axis=1), matrix.sum(axis=0)) / matrix.sum()
    expected = float((weights * by_chance).sum())
    return 1.0 if expected == 0 else 1.0 - float((weights * matrix).sum()) / expected


def off_by_two(truth: Sequence[str], guess: Sequence[str], order: Sequence[str]) -> float:
    """Share of rows whose guess lies two or more steps of the order from the truth, in [0, 1].

    Raises:
        ValueError: as `confusion`, `order` taking the place of `labels`.
    """
    check_pairs(truth, guess)
    steps = np.abs(_codes(truth, order, "truth") - _codes(guess, order, "guess"))
    return float(np.mean(steps >= 2))


def handover_errors(truth: Sequence[bool], guess: Sequence[bool]) -> HandoverErrors:
    """The missed and the needless hand-overs.

    Raises:
        ValueError: the columns differ in length or are empty, or hold something other than true and false.
    """
    check_pairs(truth, guess)
    for column, name in ((truth, "truth"), (guess, "guess")):
        if any(not isinstance(value, bool | np.bool_) for value in column):
            raise ValueError(f"{name} may hold only true and false")
    pairs = list(zip(truth, guess, strict=True))
    missed, needless = (sum(needed == wanted and given != wanted for needed, given in pairs) for wanted in (True, False))
    return HandoverErrors(int(missed), int(needless))


def handover_cost(missed: float, needless: float, costs: HandoverCosts = HandoverCosts()) -> float:  # noqa: B008 (immutable)
    """The weighted sum of the two errors: of counts a total, of counts divided by all rows the cost a ticket.

    Raises:
        ValueError: a number is negative or not finite.
    """
    named = {"missed": missed, "needless": needless, "costs.missed": costs.missed, "costs.needless": costs.needless}
    if faulty := [f"{name} is {value}" for name, value in named.items() if not (np.isfinite(value) and value >= 0)]:
        raise ValueError(f"{', '.join(faulty)}: neither errors nor costs can be negative or unknown")
    return missed * costs.missed + needless * costs.needless


def _codes(column: Sequence[str], labels: Sequence[str], name: str) -> Integers:
    """Each row's place in `labels`, of shape [rows]."""
    places = {label: place for place, label in enumerate(labels)}
    if len(places) != len(labels):
        raise ValueError("a label is there twice in the list of labels")
    if unknown := sorted({repr(label) for label in column if label not in places}):
        raise ValueError(f"{name} has labels that are not among the {len(labels)} known: {', '.join(unknown[:5])}")
    return np.fromiter((places[label] for label in column), dtype=np.int64, count=len(column))
