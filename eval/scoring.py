"""From predictions to a scorecard. Reads a run's folder and examples; writes nothing."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np

from eval.calibration import aurc, brier, coverage_at_risk, ece, ece_if_perfect
from eval.columns import Columns, Side, row_name, to_columns
from eval.estimates import NO_ANSWER, Estimate, Estimator
from eval.intervals import RESAMPLES, SEED
from eval.metrics import HandoverCosts, confusion, f1_by_label, handover_cost, handover_errors, off_by_two, quadratic_kappa
from eval.predictions import PredictionRow, Predictions
from eval.scorecard import (
    Calibration,
    FieldScore,
    HandoverScore,
    LabelNumbers,
    Scorecard,
    SideScores,
    SliceScore,
    Speed,
    SummaryScores,
    TwinScores,
    Validity,
)
from eval.summaries import content_words_not_in, contract_faults, copied_run_length, rouge_l, split_words
from triage.dataset import Example
from triage.errors import DatasetError
from triage.paths import file_digest
from triage.prompt import render_message
from triage.run import RECORD_NAME, RunRecord
from triage.taxonomy import LABEL_FIELDS, Taxonomy

MOST_FAILED = 0.05
"""The share of failed rows up to which there is a headline."""
RISK = 0.05
COPIED_RUN_WORDS = 8
MENDED = frozenset({"summary_cut", "summary_redacted"})
"""The reasons with which `triage.answer` says that it changed a summary."""
WORD_ROWS = 10_000
"""The hints about words are taken from this many messages at most, a seeded sample: each costs near a millisecond."""
PERFECT_DRAWS = 1_000
SLICE_ROWS_FOR_F1 = 100
SLICE_ROWS_FOR_WORST = 10


def score_predictions(
    predictions: Predictions,
    examples: Sequence[Example],
    taxonomy: Taxonomy,
    *,
    costs: HandoverCosts = HandoverCosts(),  # noqa: B008 (immutable)
    resamples: int = RESAMPLES,
    twins: TwinScores | None = None,
) -> Scorecard:
    """Everything there is to say about one row's predictions.

    Raises:
        DatasetError: as `to_columns`.
    """
    columns = to_columns(predictions, examples)
    estimator = Estimator(columns.groups, resamples=resamples)
    statuses = [row.status for row in predictions.rows]
    failed, run = statuses.count("failed"), predictions.run
    after = _score_side(columns, "after", estimator, taxonomy, costs, resamples)
    before = _score_side(columns, "before", estimator, taxonomy, costs, resamples) if columns.before != columns.after else after
    headline = {"category_macro_f1": after.fields["category"].macro_f1, "exact_match": after.exact_match}
    headline |= {f"{field}_accuracy": after.fields[field].accuracy for field in LABEL_FIELDS}
    headline |= {"missed_handovers": after.handover.missed} if after.handover.missed else {}
    incomplete = failed > MOST_FAILED * len(statuses)
    slices = _score_slices(columns, taxonomy, resamples)
    large = {name: score.exact_match.estimate for name, score in slices.items() if score.n >= SLICE_ROWS_FOR_WORST}
    return Scorecard(
        row=row_name(predictions),
        split=examples[0].split,
        taxonomy=taxonomy.digest,
        run=file_digest(predictions.folder / RECORD_NAME),
        inputs=run.inputs,
        code_version=run.code_version,
        n=len(statuses),
        groups=len({example.group for example in examples}),
        triaged=statuses.count("triaged"),
        unread=statuses.count("unread"),
        failed=failed,
        incomplete=incomplete,
        headline=None if incomplete else headline,
        before=before,
        after=after,
        validity=_score_validity(columns, resamples),
        summary=_score_summaries(columns, resamples),
        calibration=_score_calibration(columns),
        slices=slices,
        worst_slice=min(large, key=lambda name: large[name]) if large else None,
        twins=twins,
        speed=_score_speed(columns.rows, run),
    )


def check_complete(predictions: Predictions) -> None:
    """Check that so few rows failed that the others stand for all.

    Raises:
        DatasetError: more than `MOST_FAILED` of them failed.
    """
    failed = sum(row.status == "failed" for row in predictions.rows)
    if failed > MOST_FAILED * len(predictions.rows):
        raise DatasetError(
            f"{predictions.folder} is incomplete, {failed} of {len(predictions.rows)} messages got no answer: it cannot be compared",
            "run its `triage predict` or `triage baseline` again",
        )


def _score_side(columns: Columns, side: Side, estimator: Estimator, taxonomy: Taxonomy, costs: HandoverCosts, resamples: int) -> SideScores:
    guess = columns.guess(side)
    return SideScores(
        fields={field: _score_field(field, columns.truth[field], guess[field], estimator, taxonomy) for field in LABEL_FIELDS},
        handover=_score_handover(columns, side, costs, resamples),
        exact_match=estimator.share(columns.exact(side)),
    )


def _score_field(field: str, truth: list[str], guess: list[str], estimator: Estimator, taxonomy: Taxonomy) -> FieldScore:
    labels = taxonomy.labels(field)
    known = (*labels, NO_ANSWER) if NO_ANSWER in guess else labels
    by_label = f1_by_label(truth, guess, known)
    answered = [(true, guessed) for true, guessed in zip(truth, guess, strict=True) if guessed != NO_ANSWER]
    ordered = ([true for true, _ in answered], [guessed for _, guessed in answered]) if field == "urgency" and answered else None
    return FieldScore(
        accuracy=estimator.share([true == guessed for true, guessed in zip(truth, guess, strict=True)]),
        macro_f1=estimator.macro_f1(truth, guess, labels),
        by_label={label: LabelNumbers(**score._asdict()) for label, score in by_label.items() if label != NO_ANSWER},
        labels=list(known),
        confusion=confusion(truth, guess, known).tolist(),
        kappa=quadratic_kappa(*ordered, labels) if ordered else None,
        off_by_two=off_by_two(*ordered, labels) if ordered else None,
    )


def _score_handover(columns: Columns, side: Side, costs: HandoverCosts, resamples: int) -> HandoverScore:
    """An unread row before policy counts as wrong: a missed hand-over where one is needed, a needless one elsewhere."""
    needed = [label == "true" for label in columns.truth["needs_human"]]
    hits = columns.hits(side, "needs_human")
    errors = handover_errors(needed, [bool(need == hit) for need, hit in zip(needed, hits, strict=True)])
    shares: list[Estimate | None] = []
    for wanted in (True, False):
        places = [place for place, need in enumerate(needed) if need == wanted]
        groups = [columns.groups[place] for place in places]
        shares.append(Estimator(groups, resamples=resamples).share([not hits[place] for place in places]) if places else None)
    return HandoverScore(
        missed=shares[0],
        needless=shares[1],
        missed_rows=errors.missed,
        needless_rows=errors.needless,
        cost_a_ticket=handover_cost(errors.missed / len(needed), errors.needless / len(needed), costs),
        cost_of_missed=costs.missed,
        cost_of_needless=costs.needless,
    )


def _score_validity(columns: Columns, resamples: int) -> Validity | None:
    places = [place for place, row in enumerate(columns.rows) if row.valid_ticket is not None]
    if not places:
        return None
    estimator = Estimator([columns.groups[place] for place in places], resamples=resamples)
    free = [columns.rows[place] for place in places]
    return Validity(
        valid_json=estimator.share([bool(row.valid_json) for row in free]), valid_ticket=estimator.share([bool(row.valid_ticket) for row in free])
    )


def _score_summaries(columns: Columns, resamples: int) -> SummaryScores | None:
    """Judge the summaries of the triaged rows as they left the model.

    A row holds the summary as it was mended: personal data replaced, cut to length. One that had to be mended did not keep the
    contract, whatever it looks like now. Line ends were joined without a note, so they are no fault here. The hints about words
    are taken from the mended text, which is all there is.
    """
    said = [(example, row.before.summary) for example, row in zip(columns.examples, columns.rows, strict=True) if row.before]
    if not said:
        return None
    kept = [not MENDED.intersection(row.reasons) and not contract_faults(row.before.summary) for row in columns.rows if row.before]
    within = Estimator([example.group for example, _ in said], resamples=resamples).share(kept)
    english = [(example, summary) for example, summary in said if example.language == "en"]
    if len(english) > WORD_ROWS:
        english = random.Random(SEED).sample(english, WORD_ROWS)
    if not english:
        return SummaryScores(within_contract=within, word_rows=0, made_up_share=None, with_made_up=None, with_copied_run=None, rouge_l=None)
    estimator = Estimator([example.group for example, _ in english], resamples=resamples)
    made_up, copied, likeness = [], [], []
    for example, summary in english:
        text = render_message(example)
        content = content_words_not_in(summary, "")
        made_up.append(len(content_words_not_in(summary, text)) / len(content) if content else 0.0)
        copied.append(copied_run_length(summary, text) >= COPIED_RUN_WORDS)
        if split_words(example.labels.summary):
            likeness.append(rouge_l(summary, example.labels.summary))
    return SummaryScores(
        within_contract=within,
        word_rows=len(english),
        made_up_share=float(np.mean(made_up)),
        with_made_up=estimator.share([share > 0 for share in made_up]),
        with_copied_run=estimator.share(copied),
        rouge_l=float(np.mean(likeness)) if likeness else None,
    )


def _score_calibration(columns: Columns) -> dict[str, Calibration]:
    found = {}
    for field in LABEL_FIELDS:
        hits = columns.hits("before", field)
        places = [place for place, row in enumerate(columns.rows) if field in row.confidence]
        if not places:
            continue
        sure, right = [columns.rows[place].confidence[field] for place in places], [bool(hits[place]) for place in places]
        rounded = np.round(sure, 3)  # few distinct values make both errors cheap, and move them by less than 0.001
        perfect = ece_if_perfect(rounded, PERFECT_DRAWS, SEED)
        found[field] = Calibration(
            n=len(places),
            brier=brier(sure, right),
            ece=ece(rounded, right),
            ece_if_perfect=perfect.mean,
            ece_if_perfect_95=perfect.quantile_95,
            coverage_at_5_percent_risk=coverage_at_risk(sure, right, RISK),
            aurc=aurc(sure, right),
        )
    return found


def _score_slices(columns: Columns, taxonomy: Taxonomy, resamples: int) -> dict[str, SliceScore]:
    members: dict[str, list[int]] = {}
    for place, example in enumerate(columns.examples):
        names = [*(f"slice:{name}" for name in example.slices), f"language:{example.language}", f"channel:{example.channel or 'none'}"]
        for name in names:
            members.setdefault(name, []).append(place)
    truth, guess = columns.truth["category"], columns.after["category"]
    right, exact = columns.hits("after", "category"), columns.exact("after")
    scores = {}
    for name, places in sorted(members.items()):
        estimator = Estimator([columns.groups[place] for place in places], resamples=resamples)
        labels = [truth[place] for place in places], [guess[place] for place in places]
        scores[name] = SliceScore(
            n=len(places),
            groups=estimator.groups,
            category_accuracy=estimator.share(right[places]),
            category_macro_f1=estimator.macro_f1(*labels, taxonomy.labels("category")) if len(places) >= SLICE_ROWS_FOR_F1 else None,
            exact_match=estimator.share(exact[places]),
        )
    return scores


def _score_speed(rows: Sequence[PredictionRow], run: RunRecord) -> Speed:
    p50, p95, p99 = np.percentile([row.latency_ms for row in rows], [50, 95, 99])
    prompt, output = [row.prompt_tokens for row in rows], [row.output_tokens for row in rows]
    costs = [row.cost for row in rows if row.cost is not None]
    peak = run.metrics.get("peak_rss_mib")
    return Speed(
        latency_p50_ms=float(p50),
        latency_p95_ms=float(p95),
        latency_p99_ms=float(p99),
        prompt_tokens_mean=float(np.mean(prompt)),
        prompt_tokens_p95=float(np.percentile(prompt, 95)),
        output_tokens_mean=float(np.mean(output)),
        output_tokens_p95=float(np.percentile(output, 95)),
        cost_per_1000=1000 * float(np.mean(costs)) if len(costs) == len(rows) else None,
        peak_rss_mib=float(peak) if isinstance(peak, int | float) else None,
    )
