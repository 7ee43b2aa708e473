"""Scores of labels against numbers computed by hand, and against scikit-learn where it has them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score, confusion_matrix, f1_score, precision_recall_fscore_support

from eval.metrics import (
    HandoverCosts,
    HandoverErrors,
    confusion,
    f1_by_label,
    handover_cost,
    handover_errors,
    label_statistics,
    macro_f1,
    macro_f1_of_sums,
    off_by_two,
    quadratic_kappa,
)

TRUTH = ["a", "a", "a", "b", "b", "c"]
GUESS = ["a", "a", "b", "b", "c", "c"]
LABELS = ["a", "b", "c", "d"]
ORDER = ["low", "medium", "high"]

pairs = st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from(LABELS)), min_size=1, max_size=40)


def test_confusion_equals_the_numbers_counted_by_hand() -> None:
    matrix = confusion(TRUTH, GUESS, LABELS)
    assert matrix.tolist() == [[2, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert np.array_equal(matrix, confusion_matrix(TRUTH, GUESS, labels=LABELS))


def test_f1_by_label_equals_the_numbers_computed_by_hand() -> None:
    scores = f1_by_label(TRUTH, GUESS, LABELS)
    assert scores["a"] == pytest.approx((1.0, 2 / 3, 0.8, 3))
    assert scores["b"] == pytest.approx((0.5, 0.5, 0.5, 2))
    assert scores["c"] == pytest.approx((0.5, 1.0, 2 / 3, 1))
    assert "d" not in scores
    expected = np.array(precision_recall_fscore_support(TRUTH, GUESS, labels=LABELS[:3]))
    assert np.array(list(scores.values())) == pytest.approx(expected.T)


def test_macro_f1_is_the_mean_over_the_labels_that_occur() -> None:
    assert macro_f1(TRUTH, GUESS, LABELS) == pytest.approx((0.8 + 0.5 + 2 / 3) / 3)
    # scikit-learn counts the absent label d as 0 once it is told of it, and agrees once it is not
    assert f1_score(TRUTH, GUESS, average="macro") == pytest.approx((0.8 + 0.5 + 2 / 3) / 3)
    assert f1_score(TRUTH, GUESS, labels=LABELS, average="macro", zero_division=0) == pytest.approx((0.8 + 0.5 + 2 / 3) / 4)


def test_macro_f1_counts_a_label_that_is_only_guessed_as_zero() -> None:
    # a: 2 right of 2 + 3 guessed or true, so 2 * 2 / 5 = 0.8; b is guessed once and never true
    assert macro_f1(["a", "a", "a"], ["a", "a", "b"], LABELS) == pytest.approx((0.8 + 0) / 2)


@given(pairs)
@settings(deadline=None)
def test_macro_f1_agrees_with_scikit_learn_on_any_labels(rows: list[tuple[str, str]]) -> None:
    truth, guess = [left for left, _ in rows], [right for _, right in rows]
    assert macro_f1(truth, guess, LABELS) == pytest.approx(f1_score(truth, guess, average="macro", zero_division=0))
    assert macro_f1(truth, guess, LABELS) == pytest.approx(float(np.mean([score.f1 for score in f1_by_label(truth, guess, LABELS).values()])))


def test_macro_f1_of_sums_takes_many_sums_at_once_and_gives_nan_for_none() -> None:
    sums = label_statistics(TRUTH, GUESS, LABELS).sum(axis=0)
    assert sums.tolist() == [2, 1, 1, 0, 3, 2, 1, 0, 2, 2, 2, 0]
    values = macro_f1_of_sums(np.stack([sums, sums * 3, np.zeros(12)]))
    assert values[:2] == pytest.approx([macro_f1(TRUTH, GUESS, LABELS)] * 2)
    assert math.isnan(values[2])


def test_quadratic_kappa_and_off_by_two_equal_the_numbers_computed_by_hand() -> None:
    truth = ["low", "low", "medium", "medium", "high", "high"]
    guess = ["low", "medium", "medium", "high", "high", "low"]
    # squared steps 0 + 1 + 0 + 1 + 0 + 4 = 6; by chance every cell holds 2 * 2 / 6, and the weights add up to 12: 8
    assert quadratic_kappa(truth, guess, ORDER) == pytest.approx(1 - 6 / 8)
    assert off_by_two(truth, guess, ORDER) == pytest.approx(1 / 6)


def test_quadratic_kappa_is_one_when_both_have_one_and_the_same_label() -> None:
    assert quadratic_kappa(["low"] * 3, ["low"] * 3, ORDER) == 1
    assert quadratic_kappa(["low"] * 3, ["high"] * 3, ORDER) == 0


@given(st.lists(st.tuples(st.sampled_from(ORDER), st.sampled_from(ORDER)), min_size=2, max_size=40))
@settings(deadline=None)
def test_quadratic_kappa_agrees_with_scikit_learn(rows: list[tuple[str, str]]) -> None:
    truth, guess = [left for left, _ in rows], [right for _, right in rows]
    kappa = quadratic_kappa(truth, guess, ORDER)
    assert -1 - 1e-9 <= kappa <= 1
    if len({*truth, *guess}) > 1:
        assert kappa == pytest.approx(cohen_kappa_score(truth, guess, labels=ORDER, weights="quadratic"))


def test_the_two_handover_errors_are_counted_apart() -> None:
    errors = handover_errors([True, True, True, False, False], [True, False, False, True, False])
    assert errors == HandoverErrors(missed=2, needless=1)


def test_a_missed_handover_costs_five_needless_ones_unless_told_otherwise() -> None:
    assert handover_cost(2, 1) == 11
    assert handover_cost(2 / 5, 1 / 5) == pytest.approx(2.2)
    assert handover_cost(2, 1, HandoverCosts(missed=10, needless=0.5)) == 20.5
    with pytest.raises(ValueError, match=r"missed is -1"):
        handover_cost(-1, 0)
    with pytest.raises(ValueError, match=r"costs.needless is nan"):
        handover_cost(1, 0, HandoverCosts(5, math.nan))


def test_an_empty_set_is_refused_and_never_scores_zero() -> None:
    for refused in (
        lambda: confusion([], [], LABELS),
        lambda: f1_by_label([], [], LABELS),
        lambda: macro_f1([], [], LABELS),
        lambda: quadratic_kappa([], [], ORDER),
        lambda: off_by_two([], [], ORDER),
        lambda: handover_errors([], []),
    ):
        with pytest.raises(ValueError, match="empty"):
            refused()


def test_columns_of_different_length_are_refused_with_both_lengths() -> None:
    with pytest.raises(ValueError, match="truth has 2 rows and guess has 1"):
        macro_f1(["a", "b"], ["a"], LABELS)


def test_a_label_outside_the_list_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="guess has labels that are not among the 4 known: 'z'"):
        macro_f1(["a"], ["z"], LABELS)
    with pytest.raises(ValueError, match="truth has labels"):
        off_by_two(["urgent"], ["low"], ORDER)
    with pytest.raises(ValueError, match="twice"):
        confusion(["a"], ["a"], ["a", "a"])
    with pytest.raises(ValueError, match="only true and false"):
        handover_errors([True], ["true"])  # type: ignore[list-item]
