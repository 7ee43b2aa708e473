"""Intervals and tests against numbers computed by hand, scipy, brute force, and simulated experiments."""

from __future__ import annotations

import itertools
import json
import math
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats  # type: ignore[import-untyped, unused-ignore]

from eval.intervals import (
    RESAMPLES,
    SEED,
    ClusteredBootstrap,
    Interval,
    ThinError,
    clustered_interval,
    holm,
    mcnemar_exact,
    paired_difference,
    ratio_of_sums,
    resample_groups,
    smallest_detectable_difference,
    wilson_interval,
)
from eval.metrics import Floats, Integers, label_statistics, macro_f1, macro_f1_of_sums
from tests.conftest import ROOT

LABELS = ["a", "b", "c"]
GROUPS = [f"g{row % 10}" for row in range(60)]
DRAW = np.random.default_rng(8)
TRUTH = [LABELS[place] for place in DRAW.integers(0, 3, 60)]
GUESS = [label if DRAW.random() < 0.7 else "a" for label in TRUTH]


def bootstrap_mean(values: Sequence[float] | Floats, groups: Sequence[str], *, resamples: int = RESAMPLES, seed: int = SEED) -> Interval:
    """The mean of a number a row with its interval, as a ratio of sums."""
    rows = np.asarray(values, dtype=np.float64)
    return clustered_interval(ClusteredBootstrap(groups, resamples=resamples, seed=seed), np.column_stack([rows, np.ones_like(rows)]), ratio_of_sums)


def bootstrap_macro_f1(truth: Sequence[str], guess: Sequence[str], labels: Sequence[str], groups: Sequence[str]) -> Interval:
    """Macro-F1 with its interval, from statistics a row."""
    return clustered_interval(ClusteredBootstrap(groups), label_statistics(truth, guess, labels), macro_f1_of_sums)


def test_wilson_refuses_more_right_than_there_are() -> None:
    with pytest.raises(ValueError, match="5 right of 4"):
        wilson_interval(5, 4)


@given(st.integers(1, 500).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total))))
@settings(deadline=None)
def test_wilson_agrees_with_scipy(counts: tuple[int, int]) -> None:
    low, high = wilson_interval(*counts, z=float(stats.norm.ppf(0.975)))
    expected = stats.binomtest(*counts).proportion_ci(method="wilson")
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_a_resample_draws_as_many_groups_as_there_are() -> None:
    (weights,) = resample_groups(40, 500, seed=1)
    assert weights.shape == (500, 40)
    assert (weights.sum(axis=1) == 40).all()
    assert weights.min() == 0
    assert weights.mean() == 1
    assert weights.var() == pytest.approx(1 - 1 / 40, rel=0.05)  # multinomial


def test_the_draws_do_not_depend_on_how_they_are_cut_into_chunks() -> None:
    groups = 700_001
    chunks = list(resample_groups(groups, 5, seed=2))
    assert len(chunks) > 1
    drawn = np.random.default_rng(2).integers(0, groups, (5, groups))
    assert np.array_equal(np.concatenate(chunks), np.stack([np.bincount(row, minlength=groups) for row in drawn]))


def test_the_distribution_is_that_of_copying_the_rows_of_drawn_groups() -> None:
    values = ClusteredBootstrap(GROUPS, resamples=100, seed=4).distribution(label_statistics(TRUTH, GUESS, LABELS), macro_f1_of_sums)
    names = sorted(set(GROUPS))
    (weights,) = resample_groups(len(names), 100, seed=4)
    for value, counts in zip(values[:20], weights[:20], strict=True):
        rows = [row for name, count in zip(names, counts, strict=True) for row in range(60) if GROUPS[row] == name for _ in range(count)]
        assert value == pytest.approx(macro_f1([TRUTH[row] for row in rows], [GUESS[row] for row in rows], LABELS))


def test_leaving_out_each_group_is_scoring_the_rest() -> None:
    values = ClusteredBootstrap(GROUPS, resamples=100).without_each_group(label_statistics(TRUTH, GUESS, LABELS), macro_f1_of_sums)
    rest = [row for row in range(60) if GROUPS[row] != "g3"]
    assert len(values) == 10
    assert values[3] == pytest.approx(macro_f1([TRUTH[row] for row in rest], [GUESS[row] for row in rest], LABELS))


def test_the_order_of_rows_and_the_names_of_groups_change_nothing() -> None:
    hits = [float(left == right) for left, right in zip(TRUTH, GUESS, strict=True)]
    backwards = bootstrap_mean(hits[::-1], GROUPS[::-1])
    assert bootstrap_mean(hits, GROUPS) == backwards
    assert bootstrap_mean(hits, [f"author-{name}" for name in GROUPS]) == backwards
    assert bootstrap_mean(hits, GROUPS, seed=5) != backwards


def test_the_estimate_is_the_score_and_its_error_is_that_of_the_group_means() -> None:
    means = np.array([0.2, 0.4, 0.4, 0.6, 0.6, 0.6, 0.8, 0.8, 1.0, 1.0])
    values = [float(place < mean * 5) for mean in means for place in range(5)]
    found = bootstrap_mean(values, [f"g{row // 5}" for row in range(50)], resamples=20_000)
    assert found.estimate == pytest.approx(0.64)
    # ten groups of one size: the standard error of a mean of ten, by hand sqrt(0.624 / 9) / sqrt(10) = 0.08327
    assert found.standard_error == pytest.approx(0.08327, rel=0.02)
    assert found.low < 0.64 < found.high
    assert found.groups == 10


def test_the_interval_is_scipys_bca_at_the_widened_level() -> None:
    values = np.random.default_rng(9).exponential(size=30)
    ours = bootstrap_mean(values, [str(row) for row in range(30)], resamples=40_000)
    reach = math.sqrt(30 / 29) * float(stats.t.ppf(0.975, 29))
    level = 1 - 2 * float(stats.norm.cdf(-reach))
    theirs = stats.bootstrap((values,), np.mean, n_resamples=40_000, confidence_level=level, method="BCa", rng=np.random.default_rng(10))
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs.confidence_interval), rel=0.01)


def test_macro_f1_and_its_interval_belong_together() -> None:
    found = bootstrap_macro_f1(TRUTH, GUESS, LABELS, GROUPS)
    assert found.estimate == pytest.approx(macro_f1(TRUTH, GUESS, LABELS))
    assert 0 <= found.low < found.estimate < found.high <= 1


def test_rows_that_resemble_each_other_widen_the_interval() -> None:
    hits = [1.0] * 60 + [0.0] * 60
    alike = bootstrap_mean(hits, [f"g{row // 6}" for row in range(120)])
    mixed = bootstrap_mean(hits, [f"g{row % 20}" for row in range(120)])
    single = bootstrap_mean(hits, [f"g{row}" for row in range(120)])
    assert alike.high - alike.low > 2 * (single.high - single.low)
    assert mixed == Interval(0.5, 0.5, 0.5, 0.0, 20)  # every group is half right: no resample differs


def test_a_share_of_some_rows_is_a_ratio_of_sums() -> None:
    needs, missed = np.arange(60) % 3 == 0, np.arange(60) % 12 == 0
    found = clustered_interval(ClusteredBootstrap(GROUPS), np.column_stack([missed, needs]).astype(float), ratio_of_sums)
    assert found.estimate == pytest.approx(5 / 20)


def test_a_metric_that_resamples_lack_is_refused() -> None:
    rare = np.column_stack([np.zeros(60), np.arange(60) == 0]).astype(float)
    with pytest.raises(ThinError, match="too few groups have what the metric divides by"):
        clustered_interval(ClusteredBootstrap(GROUPS), rare, ratio_of_sums)
    with pytest.raises(ThinError):
        clustered_interval(ClusteredBootstrap(GROUPS), np.zeros((60, 2)), ratio_of_sums)


def test_what_cannot_be_resampled_is_refused() -> None:
    with pytest.raises(ValueError, match="come from 7 groups; an interval needs at least 8"):
        bootstrap_mean([1.0] * 70, [f"g{row % 7}" for row in range(70)])
    with pytest.raises(ValueError, match="not finite"):
        bootstrap_mean([math.nan] + [1.0] * 59, GROUPS)
    with pytest.raises(ValueError, match="99 resamples are too few"):
        ClusteredBootstrap(GROUPS, resamples=99)
    with pytest.raises(ValueError, match=r"shape \(59, 3\), but there are 60 rows"):
        ClusteredBootstrap(GROUPS).distribution(np.zeros((59, 3)), macro_f1_of_sums)
    with pytest.raises(ValueError, match="A has statistics of shape"):
        paired_difference(np.zeros((60, 2)), np.zeros((60, 3)), GROUPS, ratio_of_sums)


def test_a_difference_is_that_of_the_scores_and_narrower_than_the_two_intervals() -> None:
    better = [label if row % 7 else "a" for row, label in enumerate(TRUTH)]
    first, second = label_statistics(TRUTH, better, LABELS), label_statistics(TRUTH, GUESS, LABELS)
    found = paired_difference(first, second, GROUPS, macro_f1_of_sums)
    assert found.estimate == pytest.approx(macro_f1(TRUTH, better, LABELS) - macro_f1(TRUTH, GUESS, LABELS))
    assert found.low < found.estimate < found.high
    back = paired_difference(second, first, GROUPS, macro_f1_of_sums)
    assert (back.low, back.high) == pytest.approx((-found.high, -found.low))


def test_a_difference_of_means_has_the_t_interval_of_its_group_means() -> None:
    # 8 groups of 3 rows; A is right where B is not in so many of them
    gained = [0, 0, 1, 1, 1, 2, 2, 3]
    first = np.array([[float(place < count), 1.0] for count in gained for place in range(3)])
    second = np.column_stack([np.zeros(24), np.ones(24)])
    found = paired_difference(first, second, [f"g{row // 3}" for row in range(24)], ratio_of_sums, resamples=40_000)
    assert found.estimate == pytest.approx(10 / 24)
    # by hand: the gains' sum of squares about 1.25 is 7.5, so sqrt(7.5 / 7 / 8) / 3 = 0.12199; t with 7 degrees of freedom 2.3646
    assert found.standard_error == pytest.approx(0.12199, rel=0.02)
    assert found.high - found.estimate == pytest.approx(2.3646 * found.standard_error, rel=1e-4)
    assert found.low + found.high == pytest.approx(2 * found.estimate)


def test_a_system_does_not_differ_from_itself() -> None:
    same = label_statistics(TRUTH, GUESS, LABELS)
    assert paired_difference(same, same, GROUPS, macro_f1_of_sums) == Interval(0.0, 0.0, 0.0, 0.0, 10)


def test_mcnemar_equals_the_numbers_computed_by_hand() -> None:
    # 1 of 6: 2 * (1 + 6) / 64; 0 of 5: 2 / 32; 3 of 6 is the middle
    assert mcnemar_exact(1, 5) == pytest.approx(14 / 64)
    assert mcnemar_exact(5, 0) == pytest.approx(2 / 32)
    assert mcnemar_exact(3, 3) == 1
    assert mcnemar_exact(0, 0) == 1
    with pytest.raises(ValueError, match="negative"):
        mcnemar_exact(-1, 2)


def test_holm_equals_the_numbers_computed_by_hand() -> None:
    # in rising order 0.01 * 3, 0.03 * 2, 0.04 * 1, none less than the one before it
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([0.2]) == [0.2]
    for wrong in ([], [0.5, 1.5], [math.nan]):
        with pytest.raises(ValueError, match="needs p-values"):
            holm(wrong)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_keeps_the_order_and_lies_between_one_and_m_times_the_value(values: list[float]) -> None:
    adjusted = holm(values)
    for (first, first_adjusted), (second, second_adjusted) in itertools.pairwise(sorted(zip(values, adjusted, strict=True))):
        assert first <= second
        assert first_adjusted <= second_adjusted
    assert all(value <= each <= min(1, len(values) * value) + 1e-12 for value, each in zip(values, adjusted, strict=True))


def test_the_smallest_detectable_difference_equals_the_tables() -> None:
    # t with 39 degrees of freedom: 2.0227 and 0.8509; with very many, the normal's 1.9600 and 0.8416
    assert smallest_detectable_difference(0.02, 40) == pytest.approx(0.02 * (2.0227 + 0.8509), rel=1e-4)
    assert smallest_detectable_difference(0.02, 10**7) == pytest.approx(0.02 * 2.8016, rel=1e-4)
    for error, groups, power in ((0.0, 40, 0.8), (math.nan, 40, 0.8), (0.1, 1, 0.8), (0.1, 40, 1.0)):
        with pytest.raises(ValueError, match="no difference can be computed"):
            smallest_detectable_difference(error, groups, power=power)


@pytest.mark.parametrize("groups", [2_000, 100_000])
def test_a_hundred_thousand_predictions_are_resampled_two_thousand_times_within_a_minute_and_a_gigabyte(groups: int) -> None:
    draw = np.random.default_rng(3)
    truth = draw.integers(0, 11, 100_000)
    guess = np.where(draw.random(100_000) < 0.8, truth, draw.integers(0, 11, 100_000))
    names = [f"l{place:02}" for place in range(11)]
    left, right = ([names[place] for place in column] for column in (truth, guess))
    tracemalloc.start()
    begun = time.process_time()
    found = bootstrap_macro_f1(left, right, names, [f"g{row % groups}" for row in range(100_000)])
    taken_s = time.process_time() - begun
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken_s < 60  # of the processor, since it uses one thread
    assert peak_bytes < 1e9
    # rows are independent here: the error of macro-F1 is near that of a share of 100,000
    assert found.standard_error == pytest.approx(math.sqrt(0.818 * 0.182 / 100_000), rel=0.15)


@dataclass(frozen=True)
class Regime:
    """How simulated authors differ: mean and deviation of the logit of being right; concentration of their label mixes, None for the file's own."""

    name: str
    base: float
    deviation: float
    concentration: float | None


REGIMES = [
    Regime("three quarters right", 1.3, 0.8, 8),
    Regime("nine tenths right", 2.6, 0.8, 8),
    Regime("the test set's own label mixes", 1.3, 0.8, None),
    Regime("authors very unlike", 1.3, 1.2, 4),
]


class Design:
    """Simulates the scoring of the test set: its groups and their sizes, two systems, each [rows, 3 * labels] statistics an experiment."""

    def __init__(self, regime: Regime) -> None:
        lines = (ROOT / "data" / "tickets" / "test.jsonl").read_text(encoding="utf-8").splitlines()
        records = [json.loads(line) for line in lines]
        self.regime = regime
        self.groups = [record["group"] for record in records]
        self.names, self.group_of_row = np.unique(self.groups, return_inverse=True)
        labels = sorted({record["labels"]["category"] for record in records})
        counts = Counter((record["group"], record["labels"]["category"]) for record in records)
        mixes = np.array([[counts[name, label] for label in labels] for name in self.names], dtype=np.float64)
        self.mixes = mixes / mixes.sum(axis=1, keepdims=True)
        self.mix = mixes.sum(axis=0) / mixes.sum()
        self.labels = len(labels)
        fixed = np.random.default_rng(1)
        self.logits = regime.base + fixed.normal(0, 0.6, self.labels)
        confused = fixed.dirichlet(np.full(self.labels, 0.4), self.labels)
        np.fill_diagonal(confused, 0)
        self.confused = confused / confused.sum(axis=1, keepdims=True)

    def draw(self, draw: np.random.Generator, experiments: int) -> tuple[Integers, Integers, Integers]:
        """Truth and the guesses of two systems, each [experiments, rows]. The second repeats four of five guesses of the first."""
        shape = (experiments, len(self.names))
        if self.regime.concentration is None:
            mixes = self.mixes[draw.integers(0, len(self.names), shape)]
        else:
            mixes = draw.dirichlet(self.regime.concentration * self.mix, shape)
        effects = draw.normal(0, self.regime.deviation, shape)[:, self.group_of_row]
        truth = self._pick(draw, np.cumsum(mixes, axis=-1)[:, self.group_of_row])
        first, other = (self._guess(draw, truth, self.logits[truth] + effects + shift) for shift in (0.0, -0.3))
        return truth, first, np.where(draw.random(truth.shape) < 0.8, first, other)

    def _guess(self, draw: np.random.Generator, truth: Integers, logits: Floats) -> Integers:
        right = draw.random(truth.shape) < 1 / (1 + np.exp(-logits))
        return np.where(right, truth, self._pick(draw, np.cumsum(self.confused, axis=1)[truth]))

    @staticmethod
    def _pick(draw: np.random.Generator, cumulated: Floats) -> Integers:
        return np.asarray((draw.random((*cumulated.shape[:-1], 1)) > cumulated[..., :-1]).sum(axis=-1), dtype=np.int64)

    def statistics(self, truth: Integers, guess: Integers) -> Floats:
        one = np.eye(self.labels)
        return np.concatenate([one[truth] * one[guess], one[truth], one[guess]], axis=-1)

    def experiments(self, seed: int, count: int, at_once: int = 50) -> Iterator[tuple[Floats, Floats]]:
        draw = np.random.default_rng(seed)
        for _ in range(0, count, at_once):
            truth, first, second = self.draw(draw, at_once)
            yield from zip(self.statistics(truth, first), self.statistics(truth, second), strict=True)


def accuracy_of_sums(sums: Floats) -> Floats:
    right, true, _ = np.split(sums, 3, axis=-1)
    return np.asarray(right.sum(axis=-1) / true.sum(axis=-1))


def covered_shares(regime: Regime, experiments: int, *, population: int, resamples: int = RESAMPLES) -> dict[str, float]:
    """How often the interval holds the score of a population of `population` test sets."""
    design = Design(regime)
    firsts, seconds = np.zeros(3 * design.labels), np.zeros(3 * design.labels)
    for first, second in design.experiments(20261, population):
        firsts, seconds = firsts + first.sum(axis=0), seconds + second.sum(axis=0)
    true = {
        "accuracy": accuracy_of_sums(firsts),
        "macro-F1": macro_f1_of_sums(firsts),
        "difference": macro_f1_of_sums(firsts) - macro_f1_of_sums(seconds),
    }
    held: Counter[str] = Counter()
    for number, (first, second) in enumerate(design.experiments(20262, experiments)):
        bootstrap = ClusteredBootstrap(design.groups, resamples=resamples, seed=number)
        found = {
            "accuracy": clustered_interval(bootstrap, first, accuracy_of_sums),
            "macro-F1": clustered_interval(bootstrap, first, macro_f1_of_sums),
            "difference": paired_difference(first, second, design.groups, macro_f1_of_sums, resamples=resamples, seed=number),
        }
        held.update(name for name, interval in found.items() if interval.low <= true[name] <= interval.high)
    return {name: held[name] / experiments for name in true}


def test_the_interval_covers_the_truth_in_most_of_a_few_simulated_experiments() -> None:
    shares = covered_shares(REGIMES[0], 150, population=400, resamples=400)
    assert all(0.90 <= share <= 0.99 for share in shares.values()), shares


@pytest.mark.slow
@pytest.mark.parametrize("regime", REGIMES, ids=lambda regime: regime.name)
def test_the_interval_covers_the_truth_in_95_of_100_of_two_thousand_simulated_experiments(regime: Regime) -> None:
    shares = covered_shares(regime, 2_000, population=4_000)
    assert all(0.93 <= share <= 0.97 for share in shares.values()), shares
