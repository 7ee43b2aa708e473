"""Estimates are the intervals of `eval.intervals`, whatever is remembered and summed beforehand."""

from __future__ import annotations

import numpy as np
import pytest

from eval.estimates import NO_ANSWER, TOO_THIN, WILSON_GROUPS, WILSON_SINGLE, Estimator, RememberedBootstrap
from eval.intervals import ClusteredBootstrap, ratio_of_sums, wilson_interval
from eval.metrics import label_statistics
from tests.test_eval_intervals import bootstrap_macro_f1, bootstrap_mean


def test_where_no_resample_differs_the_interval_is_wilsons_over_groups() -> None:
    found = Estimator([f"g{row % 8}" for row in range(80)]).share([True] * 80)
    assert found.estimator == WILSON_GROUPS
    assert [found.low, found.high] == pytest.approx([1 / (1 + 1.96**2 / 8), 1.0], abs=1e-6)


def test_a_share_of_rows_that_each_have_a_group_of_their_own_is_wilsons_however_few_they_are() -> None:
    """A bootstrap of 11 hits of 12 rows gave an interval that ended at 100 % and covered too seldom."""
    for rows, right in ((5, 4), (12, 11), (300, 290)):
        found = Estimator([f"g{row}" for row in range(rows)]).share([row < right for row in range(rows)])
        assert found.estimator == WILSON_SINGLE
        assert [found.low, found.high] == pytest.approx(list(wilson_interval(right, rows)), abs=1e-6)
    assert Estimator([f"g{row // 2}" for row in range(40)]).share([row % 3 > 0 for row in range(40)]).estimator.startswith("expanded BCa")


def test_only_a_metric_that_resamples_lack_is_called_too_thin_and_a_fault_is_raised() -> None:
    """Any ValueError became "too few groups", so a mistake in the statistics looked like a small set."""
    estimator = Estimator([f"g{row % 10}" for row in range(60)])
    rare = np.column_stack([np.zeros(10), np.arange(10) == 0]).astype(float)
    assert estimator.metric(rare, ratio_of_sums).estimator == TOO_THIN
    with pytest.raises(ValueError, match="not finite"):
        estimator.metric(np.full((10, 2), np.nan), ratio_of_sums)
    with pytest.raises(ValueError, match="but there are 10 rows with a group"):
        estimator.metric(np.ones((9, 2)), ratio_of_sums)


def test_remembered_draws_are_those_of_the_bootstrap() -> None:
    groups = [f"g{row % 9}" for row in range(40)]
    statistics = np.random.default_rng(3).random((40, 2))
    fresh, remembered = (
        kind(groups, resamples=200, seed=5).distribution(statistics, ratio_of_sums) for kind in (ClusteredBootstrap, RememberedBootstrap)
    )
    assert np.allclose(fresh, remembered, atol=1e-12)


def test_label_sums_are_the_label_statistics_by_group_and_no_answer_is_no_guess() -> None:
    truth, guess, labels, groups = ["a", "b", "c", "a"], ["a", "a", "c", "b"], ["a", "b", "c"], ["y", "x", "x", "y"]
    rows = label_statistics(truth, guess, labels)
    assert np.array_equal(Estimator(groups).label_sums(truth, guess, labels), np.stack([rows[[1, 2]].sum(axis=0), rows[[0, 3]].sum(axis=0)]))
    assert Estimator(["x"]).label_sums(["b"], [NO_ANSWER], labels).tolist() == [[0, 0, 0, 0, 1, 0, 0, 0, 0]]


def test_an_estimate_is_the_interval_that_the_rows_themselves_give() -> None:
    draw = np.random.default_rng(11)
    groups = [f"g{row}" for row in draw.integers(0, 12, 150)]
    truth, guess = (["abc"[place] for place in draw.integers(0, 3, 150)] for _ in "ab")
    hits = [true == guessed for true, guessed in zip(truth, guess, strict=True)]
    for found, wanted in (
        (Estimator(groups).share(hits), bootstrap_mean(np.asarray(hits, dtype=np.float64), groups)),
        (Estimator(groups).macro_f1(truth, guess, ["a", "b", "c"]), bootstrap_macro_f1(truth, guess, ["a", "b", "c"], groups)),
    ):
        assert [found.estimate, found.low, found.high] == pytest.approx([wanted.estimate, wanted.low, wanted.high], abs=1e-6)
