"""Calibration and selective answering against numbers computed by hand."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss

from eval.calibration import (
    ReliabilityBin,
    aurc,
    brier,
    coverage_at_risk,
    ece,
    ece_if_perfect,
    reliability_bins,
    risk_coverage,
)

SURE = [0.9, 0.9, 0.6, 0.4]
RIGHT = [True, False, True, False]

rows = st.lists(st.tuples(st.sampled_from([0.0, 0.25, 0.5, 0.8, 1.0]), st.booleans()), min_size=1, max_size=40)


def test_brier_equals_the_number_computed_by_hand() -> None:
    # 0.1² + 0.9² + 0.4² + 0.4² = 0.01 + 0.81 + 0.16 + 0.16 = 1.14
    assert brier(SURE, RIGHT) == pytest.approx(1.14 / 4)
    assert brier(SURE, RIGHT) == pytest.approx(brier_score_loss(RIGHT, SURE))


def test_ece_equals_the_number_computed_by_hand() -> None:
    # two bins: 0.4 and 0.6 with half right, gap 0; 0.9 and 0.9 with half right, gap 0.4 for half of the rows
    assert ece(SURE, RIGHT, bins=2) == pytest.approx(0.2)
    # one bin: 0.7 against 0.5
    assert ece(SURE, RIGHT, bins=1) == pytest.approx(0.2)
    # more bins than rows: one row a bin, but the tie shares its right row: 0.4 + 0.4 + 0.4 + 0.4
    assert ece(SURE, RIGHT, bins=10) == pytest.approx(0.4)


def test_ece_cuts_bins_of_equal_mass_when_rows_do_not_divide() -> None:
    # 5 rows in 2 bins are 2 and 3: (0.1 + 0.2 - 0) and (0.7 + 0.8 + 0.9 - 3), together 0.3 + 0.6 of 5
    assert ece([0.1, 0.2, 0.7, 0.8, 0.9], [False, False, True, True, True], bins=2) == pytest.approx(0.9 / 5)


def test_reliability_bins_hold_the_numbers_of_the_diagram() -> None:
    low, high = reliability_bins(SURE, RIGHT, bins=2)
    assert low == ReliabilityBin(2, 0.4, 0.6, 0.5, 0.5)
    assert high == pytest.approx((2, 0.9, 0.9, 0.9, 0.5))


def test_a_tie_that_a_bin_splits_gives_both_sides_the_same_share() -> None:
    assert [each.share_correct for each in reliability_bins([0.5] * 4, [True, False, False, False], bins=2)] == [0.25, 0.25]
    assert ece([0.5] * 4, [True, False, False, False], bins=2) == pytest.approx(0.25)


@given(rows, st.integers(1, 12), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_order_of_rows_changes_nothing_and_bins_add_up(pairs: list[tuple[float, bool]], bins: int, shuffle: random.Random) -> None:
    moved = shuffle.sample(pairs, len(pairs))
    first, second = ([list(column) for column in zip(*each, strict=True)] for each in (pairs, moved))
    assert ece(first[0], first[1], bins) == pytest.approx(ece(second[0], second[1], bins))
    assert aurc(first[0], first[1]) == pytest.approx(aurc(second[0], second[1]))
    assert np.array_equal(risk_coverage(first[0], first[1]), risk_coverage(second[0], second[1]))
    found = reliability_bins(first[0], first[1], bins)
    assert sum(each.rows for each in found) == len(pairs)
    assert sum(each.rows * each.share_correct for each in found) == pytest.approx(sum(right for _, right in pairs))
    assert ece(first[0], first[1], bins) == pytest.approx(
        sum(each.rows * abs(each.mean_confidence - each.share_correct) for each in found) / len(pairs)
    )


def test_perfect_calibration_still_shows_an_error_at_small_n() -> None:
    # one row of confidence 0.5 is off by 0.5 whatever happens
    assert ece_if_perfect([0.5], 50, seed=1) == pytest.approx((0.5, 0.5))
    # four rows in one bin: |right / 4 - 0.5| is 0.5 in 2 of 16 cases and 0.25 in 8 of 16
    found = ece_if_perfect([0.5] * 4, 20_000, seed=1, bins=1)
    assert found.mean == pytest.approx(0.1875, abs=0.005)
    assert found.quantile_95 == 0.5
    assert ece_if_perfect([0.0, 1.0, 1.0], 10, seed=1) == (0, 0)


def test_perfect_calibration_is_seeded_and_its_error_shrinks_with_n() -> None:
    sure = np.linspace(0.5, 0.99, 600)
    assert ece_if_perfect(sure, 200, seed=3) == ece_if_perfect(sure, 200, seed=3)
    assert ece_if_perfect(sure, 200, seed=3) != ece_if_perfect(sure, 200, seed=4)
    assert ece_if_perfect(np.repeat(sure, 16), 200, seed=3).mean < 0.4 * ece_if_perfect(sure, 200, seed=3).mean


def test_a_perfectly_calibrated_simulation_lies_below_its_quantile_in_about_95_of_100_cases() -> None:
    draw = np.random.default_rng(5)
    sure = draw.uniform(0.4, 1.0, 300)
    limit = ece_if_perfect(sure, 1_000, seed=6).quantile_95
    below = [ece(sure, list(draw.random(300) < sure)) <= limit for _ in range(400)]
    assert 0.92 <= np.mean(below) <= 0.98


def test_risk_and_coverage_have_a_point_for_each_threshold() -> None:
    coverage, risk = risk_coverage(SURE, RIGHT)
    assert coverage.tolist() == [0.5, 0.75, 1.0]
    assert risk == pytest.approx([1 / 2, 1 / 3, 2 / 4])


def test_coverage_at_risk_is_the_largest_that_keeps_the_risk() -> None:
    assert coverage_at_risk(SURE, RIGHT, 0.34) == 0.75
    assert coverage_at_risk(SURE, RIGHT, 0.5) == 1.0
    assert coverage_at_risk(SURE, RIGHT, 0.3) == 0.0
    # stricter thresholds may be worse than laxer ones, and the larger coverage counts
    assert coverage_at_risk([0.9, 0.8, 0.7, 0.6], [False, True, True, True], 0.25) == 1.0


def test_aurc_is_the_mean_risk_over_all_ranks_and_averages_ties() -> None:
    # ranks 1 to 4: 0.5 / 1, 1 / 2, 1 / 3, 2 / 4
    assert aurc(SURE, RIGHT) == pytest.approx((1 / 2 + 1 / 2 + 1 / 3 + 1 / 2) / 4)
    # wrong last: 0 + 0 + 1/3; wrong first: 1 + 1/2 + 1/3
    assert aurc([0.9, 0.8, 0.1], [True, True, False]) == pytest.approx(1 / 9)
    assert aurc([0.1, 0.2, 0.9], [True, True, False]) == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)


@pytest.mark.parametrize("score", [brier, ece, reliability_bins, risk_coverage, aurc, lambda sure, right: coverage_at_risk(sure, right, 0.1)])
def test_what_is_no_confidence_is_refused(score: object) -> None:
    assert callable(score)
    with pytest.raises(ValueError, match="empty"):
        score([], [])
    with pytest.raises(ValueError, match="confidence has 1 rows and correct has 2"):
        score([0.5], [True, False])
    with pytest.raises(ValueError, match="2 of 3 confidences are not numbers from 0 to 1"):
        score([0.5, math.nan, 1.01], [True, True, True])
    with pytest.raises(ValueError, match="only true and false"):
        score([0.5], [0.5])


def test_bins_samples_and_risks_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="0 bins"):
        ece(SURE, RIGHT, bins=0)
    with pytest.raises(ValueError, match="0 samples"):
        ece_if_perfect(SURE, 0, seed=1)
    with pytest.raises(ValueError, match="empty"):
        ece_if_perfect([], 10, seed=1)
    with pytest.raises(ValueError, match="a risk lies between"):
        coverage_at_risk(SURE, RIGHT, 5)
