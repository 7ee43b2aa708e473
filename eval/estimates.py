"""A score on paper: the number, its 95 % interval, and the name of what gave the interval.

A share gets Wilson's interval where no group has two rows, as in many a small slice: rows are independent then, and Wilson's holds
in small sets where a bootstrap does not. With too few groups for a bootstrap over groups it gets Wilson's too, which is too narrow
where one author's tickets resemble each other; its name says so. A macro-F1 gets none then.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict

from eval.intervals import (
    FEWEST_GROUPS,
    RESAMPLES,
    SEED,
    ClusteredBootstrap,
    Metric,
    ThinError,
    clustered_interval,
    ratio_of_sums,
    wilson_interval,
)
from eval.metrics import Floats, macro_f1_of_sums

WILSON_ROWS = f"Wilson, rows taken for independent: fewer than {FEWEST_GROUPS} groups"
WILSON_SINGLE = "Wilson: no group has two rows"
WILSON_GROUPS = "Wilson over groups: no resample differed"
TOO_FEW = f"no interval: fewer than {FEWEST_GROUPS} groups"
TOO_THIN = "no interval: too few groups have what the metric divides by"
NO_ANSWER = "(no answer)"
"""The guess of an unread row before policy; no label can be spelt like it."""
_CHUNK_CELLS = 500_000
_MOST_CELLS = 100_000_000
Number = Annotated[float, AfterValidator(lambda value: round(value, 6))]


class Strict(BaseModel):
    """The form of everything this room writes: frozen, no unknown key."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Estimate(Strict):
    """A number with its 95 % interval; without one where no estimator can give it, and `estimator` says why."""

    estimate: Number
    low: Number | None
    high: Number | None
    n: int
    """Rows it was taken from."""
    groups: int
    estimator: str


class RememberedBootstrap(ClusteredBootstrap):
    """The same draws as its parent's, made once for all sets of rows with as many groups: drawing is most of the work.

    A count is kept in one byte: 13 MB for 6,667 groups. Where that would take over 100 MB, nothing is kept.
    """

    def distribution(self, statistics: Floats, metric: Metric) -> Floats:
        if self.count * self.resamples > _MOST_CELLS:
            return super().distribution(statistics, metric)
        sums = self.group_sums(statistics)
        weights = _draw(self.count, self.resamples, self.seed)
        step = max(1, _CHUNK_CELLS // self.count)
        return metric(np.concatenate([weights[start : start + step].astype(np.float64) @ sums for start in range(0, self.resamples, step)]))


@lru_cache(maxsize=2)
def _draw(groups: int, resamples: int, seed: int) -> NDArray[np.uint8]:
    """What `eval.intervals.resample_groups` draws, of shape [resamples, groups]. No group is drawn 256 times: on average it is once."""
    draw = np.random.default_rng(seed)
    counts = np.empty((resamples, groups), dtype=np.uint8)
    for place in range(resamples):
        counts[place] = np.bincount(draw.integers(0, groups, groups), minlength=groups)
    return counts


class Estimator:
    """Estimates scores of one set of rows, all by the same draws of its groups. Rows are summed by group before anything else."""

    def __init__(self, groups: Sequence[str], *, resamples: int = RESAMPLES, seed: int = SEED) -> None:
        """`groups` names each row's group.

        Raises:
            ValueError: there is no row, or there are fewer than 100 resamples.
        """
        self.rows = len(groups)
        if not self.rows:
            raise ValueError("there are no rows to score")
        names, self._place = np.unique(np.asarray(groups, dtype=np.str_), return_inverse=True)
        self.names: list[str] = names.tolist()
        """The groups, in the order of the sums."""
        self.groups = len(names)
        self._bootstrap = RememberedBootstrap(self.names, resamples=resamples, seed=seed) if self.groups >= FEWEST_GROUPS else None
        self._name = f"expanded BCa bootstrap over groups, {resamples} resamples, seed {seed}"

    def share(self, hits: Sequence[bool] | NDArray[np.bool_]) -> Estimate:
        """The share of rows that are hits."""
        if self._bootstrap is None or self.groups == self.rows:
            right = int(np.sum(hits))
            low, high = wilson_interval(right, self.rows)
            return self._estimate(right / self.rows, low, high, WILSON_SINGLE if self.groups == self.rows else WILSON_ROWS)
        return self.metric(self.hit_sums(hits), ratio_of_sums)

    def macro_f1(self, truth: Sequence[str], guess: Sequence[str], labels: Sequence[str]) -> Estimate:
        """Macro-F1 over the labels that occur; `NO_ANSWER` among the guesses is a miss and no label."""
        return self.metric(self.label_sums(truth, guess, labels), macro_f1_of_sums)

    def metric(self, sums: Floats, metric: Metric) -> Estimate:
        """Any metric, with values in [0, 1], of statistics summed by group, [groups, k].

        Raises:
            ValueError: the statistics are not a matrix of finite numbers, a row for each group.
        """
        estimate = float(metric(sums.sum(axis=0)[None])[0])
        if self._bootstrap is None:
            return self._estimate(estimate, None, None, TOO_FEW)
        try:
            found = clustered_interval(self._bootstrap, sums, metric)
        except ThinError:
            return self._estimate(estimate, None, None, TOO_THIN)
        if found.low == found.high:
            return self._estimate(estimate, *wilson_interval(round(estimate * self.groups), self.groups), WILSON_GROUPS)
        return self._estimate(estimate, found.low, found.high, self._name)

    def hit_sums(self, hits: Sequence[bool] | NDArray[np.bool_]) -> Floats:
        """Hits and rows of each group, [groups, 2]."""
        return np.column_stack([np.bincount(self._place, weights=column) for column in (np.asarray(hits, dtype=np.float64), np.ones(self.rows))])

    def label_sums(self, truth: Sequence[str], guess: Sequence[str], labels: Sequence[str]) -> Floats:
        """`eval.metrics.label_statistics` summed by group, [groups, 3 * labels], in which `NO_ANSWER` is a guess of no label."""
        places = {label: place for place, label in enumerate(labels)} | {NO_ANSWER: -1}
        true, guessed = (np.asarray([places[label] for label in column], dtype=np.int64) for column in (truth, guess))
        sums = np.zeros((self.groups, 3, len(labels)))
        parts = ((true == guessed, true), (np.ones_like(true, dtype=np.bool_), true), (guessed >= 0, guessed))
        for part, (counted, label) in enumerate(parts):
            np.add.at(sums[:, part], (self._place[counted], label[counted]), 1)
        return sums.reshape(self.groups, -1)

    def _estimate(self, estimate: float, low: float | None, high: float | None, estimator: str) -> Estimate:
        return Estimate(estimate=estimate, low=low, high=high, n=self.rows, groups=self.groups, estimator=estimator)


def show(score: Estimate | None) -> str:
    """A score for people: `81.2 % [76.0, 85.9]`."""
    if score is None:
        return "–"
    interval = f" [{100 * score.low:.1f}, {100 * score.high:.1f}]" if score.low is not None and score.high is not None else " [no interval]"
    return f"{100 * score.estimate:.1f} %{interval}"


def show_p(value: float | None) -> str:
    """A p-value for people: three places, and `<0.001` below that."""
    return "–" if value is None else "<0.001" if value < 0.001 else f"{value:.3f}"
