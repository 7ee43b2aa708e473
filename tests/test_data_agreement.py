"""Kappa against numbers computed by hand."""

from __future__ import annotations

import pytest

from data.agreement import cohen_kappa, kappa_interval


def test_kappa_equals_the_number_computed_by_hand() -> None:
    first = ["a"] * 25 + ["b"] * 25
    second = ["a"] * 20 + ["b"] * 5 + ["a"] * 10 + ["b"] * 15
    # observed 35/50 = 0.7; chance (25*30 + 25*20) / 2500 = 0.5
    assert cohen_kappa(first, second) == pytest.approx(0.4)


def test_kappa_is_one_for_equal_labels_and_negative_for_contrary_ones() -> None:
    assert cohen_kappa(["a", "b", "a"], ["a", "b", "a"]) == 1
    assert cohen_kappa(["a", "a"], ["a", "a"]) == 1
    assert cohen_kappa(["a", "b"], ["b", "a"]) == pytest.approx(-1)


def test_kappa_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="not empty"):
        cohen_kappa([], [])
    with pytest.raises(ValueError, match="one length"):
        cohen_kappa(["a"], [])


def test_the_interval_holds_the_estimate_repeats_itself_and_is_wider_when_groups_are_few() -> None:
    first = [label for _ in range(40) for label in "aabb"]
    second = [label for place in range(40) for label in ("aabb" if place % 4 else "abab")]
    many = kappa_interval(first, second, [str(place // 4) for place in range(160)], resamples=400)
    few = kappa_interval(first, second, [str(place // 16) for place in range(160)], resamples=400)
    assert many == kappa_interval(first, second, [str(place // 4) for place in range(160)], resamples=400)
    assert many[0] < cohen_kappa(first, second) < many[1]
    assert few[1] - few[0] < 1
