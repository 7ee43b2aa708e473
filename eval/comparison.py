"""Two rows on the same messages: how far apart they are, how sure that is, and what this set could have shown at all.

Every difference is *this row less the other*, after policy, over the rows that neither failed, with the interval estimate ±
t[G - 1] × the standard error of the paired bootstrap over groups.

Two metrics are named here before a run is scored, `PRIMARY`: they alone have p-values, and Holm's method spans those of one file. `p`
comes from the same standard error and Student's t; McNemar's exact test is given beside it and takes rows for independent. Where
fewer than ten rows are right with one of the two alone, the bootstrap sees too little of how the difference could have gone, and
its p is too small: then `p` is no less than McNemar's, macro-F1's no less than that of the category. Intervals are too narrow there
too. The other metrics have an interval that is adjusted for nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from scipy import stats

from eval.columns import Columns, row_name, to_columns
from eval.estimates import TOO_FEW, Estimator, Number, Strict, show_p
from eval.intervals import (
    FEWEST_GROUPS,
    RESAMPLES,
    SEED,
    Metric,
    holm,
    mcnemar_exact,
    paired_difference,
    ratio_of_sums,
    smallest_detectable_difference,
)
from eval.metrics import Floats, macro_f1_of_sums
from eval.predictions import Predictions
from triage.dataset import Example
from triage.errors import DatasetError
from triage.paths import file_digest
from triage.run import RECORD_NAME
from triage.taxonomy import LABEL_FIELDS, Taxonomy

PRIMARY = ("category_macro_f1", "exact_match")
METRICS = (*PRIMARY, *(f"{field}_accuracy" for field in LABEL_FIELDS))
FEWEST_DISCORDANT = 10
"""Rows right with one of the two alone, under which a p from the t distribution is not believed without McNemar's."""
ALPHA = 0.05


class Difference(Strict):
    """One metric of this row less that of the other. What no estimator can give is None."""

    estimate: Number
    low: Number | None
    high: Number | None
    smallest_detectable: Number | None
    """The smallest true difference that a test at `ALPHA`, unadjusted, would find here with a chance of 80 %; None where there is no interval."""
    p: float | None
    """None of a metric that is not in `PRIMARY`, or where no interval can be given."""
    p_holm: float | None = None
    only_this_right: int | None = None
    """Rows that this one has right and the other has not; macro-F1 has none of these three."""
    only_other_right: int | None = None
    mcnemar_p: float | None = None
    """Of exact match alone, unadjusted: macro-F1 has no right and wrong rows, and other metrics have no p-values."""


class Comparison(Strict):
    """One row against another."""

    row: str
    against: str
    run: str
    """Digest of the row's `run.json`."""
    against_run: str
    n: int
    groups: int
    left_out: int
    """Rows that one or both failed."""
    differences: dict[str, Difference]
    """Some of `METRICS`, by the headline's names."""
    estimator: str


def compare(
    predictions: Predictions,
    against: Predictions,
    examples: Sequence[Example],
    taxonomy: Taxonomy,
    *,
    metrics: Sequence[str] = METRICS,
    resamples: int = RESAMPLES,
) -> Comparison:
    """Set one row's scores in some `METRICS` against another's, message by message; Holm's numbers are still missing.

    Raises:
        DatasetError: as `to_columns`, or no message has an answer of both.
    """
    kept = [place for place, pair in enumerate(zip(predictions.rows, against.rows, strict=True)) if all(row.status != "failed" for row in pair)]
    if not kept:
        raise DatasetError(f"no message has an answer in both {predictions.folder} and {against.folder}", "predict again")
    both = [examples[place] for place in kept]
    this, other = (to_columns(Predictions(each.folder, each.run, [each.rows[place] for place in kept]), both) for each in (predictions, against))
    estimator = Estimator(this.groups, resamples=resamples)
    reach = f"estimate ± t[{estimator.groups - 1}] × standard error of the paired bootstrap over groups, {resamples} resamples, seed {SEED}"
    return Comparison(
        row=row_name(predictions),
        against=row_name(against),
        run=file_digest(predictions.folder / RECORD_NAME),
        against_run=file_digest(against.folder / RECORD_NAME),
        n=len(kept),
        groups=estimator.groups,
        left_out=len(examples) - len(kept),
        differences={name: _compare_metric(name, this, other, estimator, taxonomy, resamples) for name in METRICS if name in metrics},
        estimator=reach if estimator.groups >= FEWEST_GROUPS else TOO_FEW,
    )


def _compare_metric(name: str, this: Columns, other: Columns, estimator: Estimator, taxonomy: Taxonomy, resamples: int) -> Difference:
    """One of `METRICS`, with p-values where it is primary."""
    field = "category" if name == "category_macro_f1" else name.removesuffix("_accuracy")
    ours, theirs = (columns.exact("after") if name == "exact_match" else columns.hits("after", field) for columns in (this, other))
    only_this, only_other = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    if name == "category_macro_f1":
        labels = taxonomy.labels("category")
        label_sums = [estimator.label_sums(columns.truth["category"], columns.after["category"], labels) for columns in (this, other)]
        found = _differ(label_sums[0], label_sums[1], macro_f1_of_sums, estimator.names, resamples)
    else:
        found = _differ(estimator.hit_sums(ours), estimator.hit_sums(theirs), ratio_of_sums, estimator.names, resamples)
        found = found.model_copy(update={"only_this_right": only_this, "only_other_right": only_other})
    if name not in PRIMARY:
        return found.model_copy(update={"p": None})
    exact_p = mcnemar_exact(only_this, only_other)
    p = found.p if found.p is None or only_this + only_other >= FEWEST_DISCORDANT else max(found.p, exact_p)
    return found.model_copy(update={"p": p, "mcnemar_p": None if name == "category_macro_f1" else exact_p})


def adjust(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The same with Holm's p-values, which hold for all primary differences of all these comparisons together."""
    every = [(place, name) for place, comparison in enumerate(comparisons) for name in comparison.differences]
    found = {key: comparisons[key[0]].differences[key[1]] for key in every}
    raw = {key: each.p for key, each in found.items() if each.p is not None}
    if raw:
        for key, value in zip(raw, holm(list(raw.values())), strict=True):
            found[key] = found[key].model_copy(update={"p_holm": value})
    return [
        comparison.model_copy(update={"differences": {name: found[place, name] for name in comparison.differences}})
        for place, comparison in enumerate(comparisons)
    ]


def render_comparisons(comparisons: Sequence[Comparison]) -> Iterator[str]:
    """The lines of a table of differences, one a row, opponent and metric."""
    family = sum(each.p is not None for comparison in comparisons for each in comparison.differences.values())
    yield "*Row* less *against*, in points, with the 95 % interval, estimate ± t × standard error of the paired bootstrap over groups. Holm's p"
    yield f"spans the {family} differences of this table that have one, those of {' and '.join(PRIMARY)}; the other intervals are unadjusted."
    yield f"Where fewer than {FEWEST_DISCORDANT} messages are right with one row alone, p is no less than McNemar's (macro-F1's: than the category's)"
    yield "and the interval is too narrow. McNemar takes messages for independent. *Can show*: the true difference that a test at alpha"
    yield f"{ALPHA:g}, unadjusted, would find on this set in four cases of five."
    yield ""
    heads = ("row", "against", "metric", "difference", "p, Holm", "only row / only against right", "McNemar, unadjusted")
    yield f"| {' | '.join(heads)} | can show, alpha {ALPHA:g} unadjusted |"
    yield "|---|---|---|---|---|---|---|---|"
    for comparison in comparisons:
        for name, each in comparison.differences.items():
            interval = f" [{100 * each.low:+.1f}, {100 * each.high:+.1f}]" if each.low is not None and each.high is not None else ""
            counts = "–" if each.only_this_right is None else f"{each.only_this_right} / {each.only_other_right}"
            smallest = "–" if each.smallest_detectable is None else f"{100 * each.smallest_detectable:.1f}"
            p_values = [show_p(each.p_holm), counts, show_p(each.mcnemar_p)]
            yield f"| {comparison.row} | {comparison.against} | {name} | {100 * each.estimate:+.1f}{interval} | {' | '.join(p_values)} | {smallest} |"


def _differ(ours: Floats, theirs: Floats, metric: Metric, groups: Sequence[str], resamples: int) -> Difference:
    """The difference of a metric of two rows' statistics, each summed by group, [groups, k]."""
    estimate = float((metric(ours.sum(axis=0)[None]) - metric(theirs.sum(axis=0)[None]))[0])
    if len(groups) < FEWEST_GROUPS:
        return Difference(estimate=estimate, low=None, high=None, smallest_detectable=None, p=None)
    found = paired_difference(ours, theirs, groups, metric, resamples=resamples)
    if found.standard_error == 0:  # the same answers, or answers that differ alike in every group
        return Difference(estimate=estimate, low=found.low, high=found.high, smallest_detectable=None, p=None if estimate else 1.0)
    return Difference(
        estimate=estimate,
        low=found.low,
        high=found.high,
        smallest_detectable=smallest_detectable_difference(found.standard_error, found.groups, alpha=ALPHA),
        p=float(2 * stats.t.sf(abs(estimate) / found.standard_error, found.groups - 1)),
    )
