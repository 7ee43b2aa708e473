"""Estimates are the intervals of `eval.intervals`, whatever is remembered and summed beforehand."""

from __future__ import annotations

import numpy as np
import pytest

from eval.estimates import NO_ANSWER, WILSON_GROUPS, Estimator, RememberedBootstrap
from eval.intervals import ClusteredBootstrap, bootstrap_macro_f1, bootstrap_mean, ratio_of_sums
from eval.metrics import label_statistics


def test_where_no_resample_differs_the_interval_is_wilsons_over_groups() -> None:
    found = Estimator([f"g{row % 8}" for row in range(80)]).share([True] * 80)
    assert found.estimator == WILSON_GROUPS
    assert [found.low, found.high] == pytest.approx([1 / (1 + 1.96**2 / 8), 1.0], abs=1e-6)


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
