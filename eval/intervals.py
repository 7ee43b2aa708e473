"""Intervals and tests for scores of tickets that come in groups: one author's tickets resemble each other.

Scores are recomputed from sums of a few numbers a row, so a resample of groups is a matrix product and copies no row.
Resamples are seeded: two systems, and any two scores, are judged by the same draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from scipy import stats

from eval.metrics import Floats, Integers

RESAMPLES = 2_000
SEED = 20261122
FEWEST_GROUPS = 8
"""With 5, `clustered_interval` covered only 87.5 to 90 % of simulated truths."""
UNDEFINED_SHARE = 0.05
"""How many resamples may lack what the metric divides by."""
_CHUNK_CELLS = 2_000_000  # numbers held at once: 16 MB of float64


class ThinError(ValueError):
    """Too few groups have what the metric divides by."""

    def __init__(self) -> None:
        super().__init__("too few groups have what the metric divides by: no interval can be given")


Metric = Callable[[Floats], Floats]
"""Summed statistics [n, k] -> scores [n]; NaN where a score is not defined."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A score with its 95 % interval. Where `low == high` no resample differed: that is ignorance, not certainty; show Wilson's over groups."""

    estimate: float
    low: float
    high: float
    standard_error: float
    groups: int


def wilson_interval(right: int, total: int, *, z: float = 1.96) -> tuple[float, float]:
    """Wilson's score interval for a share, both ends in [0, 1] (Wilson 1927, JASA 22). It takes rows for independent.

    Raises:
        ValueError: there is nothing to take a share of, or `right` is no part of it.
    """
    if total < 1:
        raise ValueError("no messages were scored")
    if not 0 <= right <= total:
        raise ValueError(f"{right} right of {total} is no share")
    share = right / total
    centre = share + z * z / (2 * total)
    spread = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def resample_groups(groups: int, resamples: int, seed: int) -> Iterator[Integers]:
    """How often each of `groups` groups is drawn: chunks of shape [≤ resamples, groups], rows summing to `groups`.

    `groups` draws with replacement a resample (Field and Welsh 2007, JRSS-B 69). The draws do not depend on the chunks.
    """
    draw = np.random.default_rng(seed)
    step = max(1, _CHUNK_CELLS // groups)
    for start in range(0, resamples, step):
        count = min(step, resamples - start)
        drawn = draw.integers(0, groups, (count, groups)) + np.arange(count)[:, None] * groups
        yield np.bincount(drawn.ravel(), minlength=count * groups).reshape(count, groups).astype(np.int64, copy=False)


class ClusteredBootstrap:
    """Resamples whole groups of rows. Memory stays under about 200 MB beside the statistics, whatever the number of resamples."""

    def __init__(self, groups: Sequence[str], *, resamples: int = RESAMPLES, seed: int = SEED) -> None:
        """`groups` names each row's group; the order of rows does not matter.

        Raises:
            ValueError: there are fewer than `FEWEST_GROUPS` groups, or fewer than 100 resamples.
        """
        names, self._group_of_row = np.unique(np.asarray(groups, dtype=np.str_), return_inverse=True)
        self.count, self.resamples, self.seed = len(names), resamples, seed
        if self.count < FEWEST_GROUPS:
            raise ValueError(f"the rows come from {self.count} groups; an interval needs at least {FEWEST_GROUPS}")
        if resamples < 100:
            raise ValueError(f"{resamples} resamples are too few; 100 is the least, {RESAMPLES} usual")

    def group_sums(self, statistics: Floats) -> Floats:
        """Sums a group, [groups, k], of statistics a row, [rows, k].

        Raises:
            ValueError: the rows are not as many as group names, not a matrix, or not finite.
        """
        if statistics.ndim != 2 or len(statistics) != len(self._group_of_row):
            raise ValueError(f"the statistics have shape {statistics.shape}, but there are {len(self._group_of_row)} rows with a group")
        if not np.isfinite(statistics).all():
            raise ValueError("a row's statistics are not finite")
        order = np.argsort(self._group_of_row, kind="stable")
        return np.asarray(np.add.reduceat(statistics[order], np.searchsorted(self._group_of_row[order], np.arange(self.count)), axis=0))

    def distribution(self, statistics: Floats, metric: Metric) -> Floats:
        """The metric of every resample, of shape [resamples], from statistics a row, [rows, k]. Same seed, same draws."""
        sums = self.group_sums(statistics)
        chunks = resample_groups(self.count, self.resamples, self.seed)
        # not `@`: a BLAS that starts threads took forty times as long on a busy machine
        return metric(np.concatenate([np.einsum("rg,gk->rk", weights.astype(np.float64), sums) for weights in chunks]))

    def without_each_group(self, statistics: Floats, metric: Metric) -> Floats:
        """The metric with one group left out (the jackknife's values), of shape [groups]."""
        sums = self.group_sums(statistics)
        total, step = sums.sum(axis=0), max(1, _CHUNK_CELLS // sums.shape[1])
        return np.concatenate([metric(total - sums[start : start + step]) for start in range(0, self.count, step)])


def clustered_interval(bootstrap: ClusteredBootstrap, statistics: Floats, metric: Metric) -> Interval:
    """The 95 % interval of a metric of summed statistics, [rows, k], by the expanded BCa bootstrap over groups.

    BCa (Efron 1987, JASA 82) with the acceleration from leaving out each group, and the normal quantile replaced by
    sqrt(G / (G - 1)) times that of Student's t with G - 1 degrees of freedom, which makes up for a bootstrap that is too
    narrow when groups are few (Hesterberg 2015, arXiv:1411.5279; `CI.bca(expand = TRUE)` of the R package resample).

    Coverage in %, least and most over the four regimes of tests/test_eval_intervals.py (the test set's 40 groups of 15;
    4,000 experiments each), for accuracy, macro-F1 of 11 categories, and a difference of two systems' macro-F1:

        percentile              93.5–93.8   93.0–94.0   92.7–94.1
        basic                   92.3–93.3   93.0–93.5   94.8–95.2
        BCa                     93.5–94.3   93.5–94.4   92.0–93.8
        expanded percentile     94.4–94.8   93.9–95.0   93.7–95.2
        expanded BCa            94.5–95.1   94.4–95.2   93.0–94.7   taken here: it misses above and below about equally often
        ± t × bootstrap error   94.0–94.3   94.6–95.2   95.3–95.6   taken by `paired_difference`
        ± t × jackknife error   94.0–94.5   94.7–95.2   95.1–95.5   near 1, like the row above, it misses nearly always on one side
        percentile-t            94.4–96.1   94.6–96.5   95.0        seven like regimes, 1,000 or 2,000 each; G times the cost

    Its worst was macro-F1 of authors as unlike as a deviation of 1.5 and a concentration of 2 make them: 93.9 (percentile 90.5).
    With fewer groups, down to 8, it covered 93.2 to 95.4.

    Raises:
        ThinError: the metric is undefined on all rows, without one of the groups, or in over 5 % of the resamples.
        ValueError: as `ClusteredBootstrap.group_sums`.
    """
    estimate, values, error = _resampled(bootstrap, statistics, metric)
    left_out = bootstrap.without_each_group(statistics, metric)
    if np.isnan(left_out).any():
        raise ThinError
    if not error:
        return Interval(estimate, estimate, estimate, error, bootstrap.count)
    centred = left_out.mean() - left_out
    squares = float((centred**2).sum())
    acceleration = float((centred**3).sum()) / (6 * squares**1.5) if squares else 0.0
    equal = np.abs(values - estimate) < 1e-12
    below = float(((values < estimate) & ~equal).mean() + equal.mean() / 2)
    normal = NormalDist()
    shift = normal.inv_cdf(min(max(below, 1e-4), 1 - 1e-4))
    reach = math.sqrt(bootstrap.count / (bootstrap.count - 1)) * float(stats.t.ppf(0.975, bootstrap.count - 1))
    levels = [normal.cdf(shift + (shift + side) / max(1 - acceleration * (shift + side), 1e-9)) for side in (-reach, reach)]
    low, high = np.quantile(values, levels)
    return Interval(estimate, float(low), float(high), error, bootstrap.count)


def _resampled(bootstrap: ClusteredBootstrap, statistics: Floats, metric: Metric) -> tuple[float, Floats, float]:
    """The metric of all rows, of the resamples that have it, and its standard error, exactly 0 where no resample differs."""
    estimate, values = float(metric(statistics.sum(axis=0)[None])[0]), bootstrap.distribution(statistics, metric)
    values = values[~np.isnan(values)]
    if math.isnan(estimate) or len(values) < (1 - UNDEFINED_SHARE) * bootstrap.resamples:
        raise ThinError
    error = float(values.std(ddof=1)) * math.sqrt(bootstrap.count / (bootstrap.count - 1))
    return estimate, values, error if np.ptp(values) > 1e-12 else 0.0


def ratio_of_sums(sums: Floats) -> Floats:
    """The first summed statistic over the second, [n, 2] -> [n]: a mean, or a share of the rows that count; NaN over 0."""
    return np.asarray(sums[:, 0] / np.where(sums[:, 1] != 0, sums[:, 1], np.nan))


def paired_difference(
    statistics_a: Floats, statistics_b: Floats, groups: Sequence[str], metric: Metric, *, resamples: int = RESAMPLES, seed: int = SEED
) -> Interval:
    """The metric of A less that of B on the same rows, each [rows, k], with its 95 % interval from the same resamples of both.

    The estimate ± t times the bootstrap's standard error, G - 1 degrees of freedom: a difference is nearly symmetric, and
    this covers it better than what `clustered_interval` takes for a score (its table). Under some ten differing rows it is
    too bold: `eval.comparison` then takes no p below that of `mcnemar_exact`.

    Raises:
        ThinError: the metric is undefined for one on all rows or in over 5 % of the resamples.
        ValueError: the two differ in shape, or as `ClusteredBootstrap`.
    """
    if statistics_a.shape != statistics_b.shape:
        raise ValueError(f"A has statistics of shape {statistics_a.shape} and B of {statistics_b.shape}")
    bootstrap, width = ClusteredBootstrap(groups, resamples=resamples, seed=seed), statistics_a.shape[1]
    both = np.hstack([statistics_a, statistics_b])
    estimate, _, error = _resampled(bootstrap, both, lambda sums: metric(sums[:, :width]) - metric(sums[:, width:]))
    reach = float(stats.t.ppf(0.975, bootstrap.count - 1)) * error
    return Interval(estimate, estimate - reach, estimate + reach, error, bootstrap.count)


def mcnemar_exact(only_a_right: int, only_b_right: int) -> float:
    """Two-sided p-value, in (0, 1], of the exact test that A and B are right equally often (McNemar 1947, Psychometrika 12).

    It takes rows for independent: with groups it is a hint, and `paired_difference` decides. 1 where they never differ.

    Raises:
        ValueError: a count is negative.
    """
    if min(only_a_right, only_b_right) < 0:
        raise ValueError(f"counts may not be negative: {only_a_right}, {only_b_right}")
    differing = only_a_right + only_b_right
    return float(stats.binomtest(only_a_right, differing, 0.5).pvalue) if differing else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values in the order given: reject where ≤ alpha, and the chance of any false one is ≤ alpha (Holm 1979, Scand. J. Stat. 6).

    Raises:
        ValueError: there is none, or one is outside [0, 1].
    """
    if not p_values or not all(0 <= value <= 1 for value in p_values):
        raise ValueError("Holm's method needs p-values, each from 0 to 1")
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda place: p_values[place])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = highest
    return adjusted


def smallest_detectable_difference(standard_error: float, groups: int, *, alpha: float = 0.05, power: float = 0.8) -> float:
    """The smallest true difference that a two-sided test at `alpha` finds with probability `power`, in the metric's own unit.

    (t[1 - alpha / 2] + t[power]) times the standard error of `paired_difference`, with G - 1 degrees of freedom (Bloom
    1995, Evaluation Review 19, "minimum detectable effect"). The standard error is taken not to grow with the difference.

    Raises:
        ValueError: the standard error is not positive, there are fewer than two groups, or a probability is not between 0 and 1.
    """
    if not (math.isfinite(standard_error) and standard_error > 0 and groups >= 2 and 0 < alpha < 1 and 0 < power < 1):
        raise ValueError(f"standard error {standard_error}, groups {groups}, alpha {alpha}, power {power}: no difference can be computed")
    return float(stats.t.ppf(1 - alpha / 2, groups - 1) + stats.t.ppf(power, groups - 1)) * standard_error
