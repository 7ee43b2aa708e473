"""Two rows on the same messages: how far apart they are, how sure that is, and what this set could have shown at all.

Every difference is *this row less the other*, after policy, over the rows that neither failed. `p` comes from the standard error
of the paired bootstrap over groups and Student's t; McNemar's exact test is given beside it and takes rows for independent. Holm's
method spans every difference of one file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from scipy import stats

from eval.columns import row_name, to_columns
from eval.estimates import Estimator, Number, Strict, show_p
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
from triage.taxonomy import LABEL_FIELDS, Taxonomy


class Difference(Strict):
    """One metric of this row less that of the other. What no estimator can give is None."""

    estimate: Number
    low: Number | None
    high: Number | None
    smallest_detectable: Number | None
    """The smallest true difference that a test at 5 % would find here with a chance of 80 %; None where no interval can be given."""
    p: float | None
    p_holm: float | None = None
    only_this_right: int | None = None
    """Rows that this one has right and the other has not; macro-F1 has none of these three."""
    only_other_right: int | None = None
    mcnemar_p: float | None = None
    mcnemar_p_holm: float | None = None


class Comparison(Strict):
    """One row against another."""

    row: str
    against: str
    n: int
    groups: int
    left_out: int
    """Rows that one or both failed."""
    differences: dict[str, Difference]
    """By the headline's names."""
    estimator: str


def compare(
    predictions: Predictions, against: Predictions, examples: Sequence[Example], taxonomy: Taxonomy, *, resamples: int = RESAMPLES
) -> Comparison:
    """Set one row's scores against another's, message by message; Holm's numbers are still missing.

    Raises:
        DatasetError: as `to_columns`, or no message has an answer of both.
    """
    kept = [place for place, pair in enumerate(zip(predictions.rows, against.rows, strict=True)) if all(row.status != "failed" for row in pair)]
    if not kept:
        raise DatasetError(f"no message has an answer in both {predictions.folder} and {against.folder}", "predict again")
    both = [examples[place] for place in kept]
    this, other = (to_columns(Predictions(each.folder, each.run, [each.rows[place] for place in kept]), both) for each in (predictions, against))
    estimator, labels = Estimator(this.groups, resamples=resamples), taxonomy.labels("category")
    sums = tuple(estimator.label_sums(columns.truth["category"], columns.after["category"], labels) for columns in (this, other))
    differences = {"category_macro_f1": _differ(sums, macro_f1_of_sums, estimator.names, resamples)}
    hits = {"exact_match": (this.exact("after"), other.exact("after"))}
    hits |= {f"{field}_accuracy": (this.hits("after", field), other.hits("after", field)) for field in LABEL_FIELDS}
    for name, (ours, theirs) in hits.items():
        sums = tuple(estimator.hit_sums(flags) for flags in (ours, theirs))
        only_this, only_other = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
        found = _differ(sums, ratio_of_sums, estimator.names, resamples)
        differences[name] = found.model_copy(
            update={"only_this_right": only_this, "only_other_right": only_other, "mcnemar_p": mcnemar_exact(only_this, only_other)}
        )
    return Comparison(
        row=row_name(predictions),
        against=row_name(against),
        n=len(kept),
        groups=estimator.groups,
        left_out=len(examples) - len(kept),
        differences=differences,
        estimator=f"paired expanded BCa bootstrap over groups, {resamples} resamples, seed {SEED}",
    )


def adjust(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The same with Holm's p-values, which hold for all differences of all these comparisons together."""
    every = [(place, name) for place, comparison in enumerate(comparisons) for name in comparison.differences]
    found = {key: comparisons[key[0]].differences[key[1]] for key in every}
    for field in ("p", "mcnemar_p"):
        raw = {key: value for key, each in found.items() if (value := getattr(each, field)) is not None}
        if raw:
            for key, value in zip(raw, holm(list(raw.values())), strict=True):
                found[key] = found[key].model_copy(update={f"{field}_holm": value})
    return [
        comparison.model_copy(update={"differences": {name: found[place, name] for name in comparison.differences}})
        for place, comparison in enumerate(comparisons)
    ]


def render_comparisons(comparisons: Sequence[Comparison]) -> Iterator[str]:
    """The lines of a table of differences, one a row and metric."""
    family = sum(each.p is not None for comparison in comparisons for each in comparison.differences.values())
    yield f"Row less the other, in points, with the 95 % interval of the paired bootstrap over groups. Holm's p spans the {family} differences of"
    yield "this table. *Can show*: the true difference that this set would find in four cases of five. McNemar takes messages for independent."
    yield ""
    yield "| row | metric | difference | p, Holm | only row / only other right | McNemar, Holm | can show |"
    yield "|---|---|---|---|---|---|---|"
    for comparison in comparisons:
        for name, each in comparison.differences.items():
            interval = f" [{100 * each.low:+.1f}, {100 * each.high:+.1f}]" if each.low is not None and each.high is not None else ""
            counts = "–" if each.only_this_right is None else f"{each.only_this_right} / {each.only_other_right}"
            smallest = "–" if each.smallest_detectable is None else f"{100 * each.smallest_detectable:.1f}"
            p_values = [show_p(each.p_holm), counts, show_p(each.mcnemar_p_holm)]
            yield f"| {comparison.row} | {name} | {100 * each.estimate:+.1f}{interval} | {' | '.join(p_values)} | {smallest} |"


def _differ(sums: tuple[Floats, ...], metric: Metric, groups: Sequence[str], resamples: int) -> Difference:
    """The difference of a metric of two rows' statistics, each summed by group, [groups, k]."""
    ours, theirs = sums
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
        smallest_detectable=smallest_detectable_difference(found.standard_error, found.groups),
        p=float(2 * stats.t.sf(abs(estimate) / found.standard_error, found.groups - 1)),
    )
