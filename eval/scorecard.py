"""A scorecard: what can be said about one row's predictions, in numbers, with intervals, as one JSON file.

*Before* is the model's own answer, *after* what leaves the house once policy and fallback have spoken. An unread row is wrong
before and the fallback ticket after. A failed row is nobody's answer: it is counted and scored nowhere, and where more than
5 % failed there is no headline, since what is left may be the easy part.

This is the form; `eval.scoring` fills it. It compares no two rows (`eval.ladder` does) and decides nothing.
"""

from __future__ import annotations

import json
from pathlib import Path

from eval.estimates import Estimate, Number, Strict
from eval.metrics import HandoverCosts
from triage.paths import write_bytes_atomically

SCORECARD_NAME = "scorecard.json"


class LabelNumbers(Strict):
    """One label, each in [0, 1]; `support` is the number of rows that truly have it."""

    precision: Number
    recall: Number
    f1: Number
    support: int


class FieldScore(Strict):
    """One decided field on one side of the policy."""

    accuracy: Estimate
    macro_f1: Estimate
    by_label: dict[str, LabelNumbers]
    labels: list[str]
    confusion: list[list[int]]
    """Row the true label, column the guess, both in the order of `labels`."""
    kappa: Number | None = None
    """Quadratic, in [-1, 1]; urgency's alone, over the rows with an answer."""
    off_by_two: Number | None = None
    """Share of the rows two or more steps off; urgency's alone, over the rows with an answer."""


class HandoverScore(Strict):
    """The two errors of `needs_human`, apart."""

    missed: Estimate | None
    """Share of the rows needing a person that were given none; None where no row needs one."""
    needless: Estimate | None
    """Share of the rows needing no person that were given one; None where every row needs one."""
    missed_rows: int
    needless_rows: int
    cost_a_ticket: Number
    """In units of one needless hand-over at a cost of 1."""
    cost_of_missed: float
    cost_of_needless: float


class SideScores(Strict):
    """All that is scored of labels on one side of the policy."""

    fields: dict[str, FieldScore]
    handover: HandoverScore
    exact_match: Estimate
    """All four labels right."""


class Validity(Strict):
    """Of rows that a prompted model wrote, within a schema or freely: shares that were JSON, and that were a ticket of the taxonomy."""

    valid_json: Estimate
    valid_ticket: Estimate


class SummaryScores(Strict):
    """Summaries of the triaged rows. All but `within_contract` are hints that compare words and know no language but English."""

    within_contract: Estimate
    """Summaries that kept the contract by themselves; one that had to be cut or redacted did not."""
    word_rows: int
    """How many English messages the hints are taken from."""
    made_up_share: Number | None
    """Mean share of a summary's content words that its message does not have."""
    with_made_up: Estimate | None
    """Summaries that have any such word."""
    with_copied_run: Estimate | None
    """Summaries that have eight or more words in a row from their message."""
    rouge_l: Number | None
    """Mean likeness to the reference summary."""
    embedding_similarity: Number | None = None
    embedding_similarity_absent: str = "not computed: the optional sentence encoder of eval/encoder.py is a row of the ladder and judges no summary"


class Calibration(Strict):
    """How far the confidences of one field can be believed, before policy."""

    n: int
    brier: Number
    ece: Number
    ece_if_perfect: Number
    """What chance alone gives a perfectly calibrated model at this n, on average."""
    ece_if_perfect_95: Number
    """The same, exceeded in one of 20 sets."""
    coverage_at_5_percent_risk: Number
    aurc: Number


class SliceScore(Strict):
    """One kind of message, after policy."""

    n: int
    groups: int
    category_accuracy: Estimate
    category_macro_f1: Estimate | None
    """None in a small slice, where too few tickets have each label."""
    exact_match: Estimate


class TwinShare(Strict):
    """Of some pairs, which share changed and which moved to what was planted."""

    pairs: int
    changed: Number
    targeted: int
    """Pairs whose planted text names a label that the clean message was not given: what `to_target` is a share of."""
    to_target: Number | None


class TwinSide(Strict):
    """What planted instructions did to the labels on one side of the policy."""

    changed: Estimate
    """Any of the four labels differs."""
    to_target: Estimate | None
    """Of the pairs whose planted text names a label that the clean message was not given, those that moved to such a label; None without any."""
    by_field: dict[str, TwinShare]
    by_kind: dict[str, TwinShare]


class TwinScores(Strict):
    """What instructions planted in messages did. A pair is a message and its twin, both with an answer.

    Before policy an unread answer is a label of its own: a model that stops answering in form has been moved.
    """

    before: TwinSide
    after: TwinSide
    left_out: int
    """Pairs of which one or both failed."""


class Speed(Strict):
    """Latency in milliseconds, tokens a message, cost in the currency of the price setting, memory in MiB."""

    latency_p50_ms: Number
    latency_p95_ms: Number
    latency_p99_ms: Number
    prompt_tokens_mean: Number
    prompt_tokens_p95: Number
    output_tokens_mean: Number
    output_tokens_p95: Number
    cost_per_1000: Number | None
    peak_rss_mib: Number | None


class Scorecard(Strict):
    """The file."""

    format: int = 1
    row: str
    split: str
    taxonomy: str
    run: str
    """Digest of `run.json`."""
    inputs: dict[str, str]
    """The digests that the run names, the dataset's among them."""
    code_version: str
    n: int
    groups: int
    triaged: int
    unread: int
    failed: int
    incomplete: bool
    """More rows failed than a headline can bear."""
    headline: dict[str, Estimate] | None
    """What a row is known by, after policy; None where it is incomplete."""
    before: SideScores
    after: SideScores
    validity: Validity | None
    summary: SummaryScores | None
    """None where no row was triaged."""
    calibration: dict[str, Calibration]
    """By field; a field without confidences is absent."""
    slices: dict[str, SliceScore]
    """By `slice:…`, `language:…` or `channel:…`."""
    worst_slice: str | None
    """The lowest exact match among slices of ten rows or more. It is chosen after looking, so its number is too low."""
    twins: TwinScores | None
    speed: Speed


def load_costs(folder: Path, run: str) -> HandoverCosts | None:
    """The costs of hand-over errors that a folder's scorecard was made with; None without a readable one of the same run.

    `run` is the digest of `run.json`. Only what is asked for is looked at: a scorecard of an older form will do.
    """
    try:
        card = json.loads((folder / SCORECARD_NAME).read_bytes())
        handover = card["after"]["handover"]
        costs = HandoverCosts(float(handover["cost_of_missed"]), float(handover["cost_of_needless"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return costs if card.get("run") == run else None


def write_scorecard(folder: Path, card: Scorecard) -> Path:
    """Write `scorecard.json` into a run's folder and return its path."""
    path = folder / SCORECARD_NAME
    write_bytes_atomically(path, (card.model_dump_json(indent=2) + "\n").encode())
    return path
