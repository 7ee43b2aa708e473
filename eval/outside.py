"""The outside check: the category that a row gives messages which strangers wrote, labelled by a map from another set's intents.

It reads the candidates that `triage data import FILE --mapping data/outside/….toml` made. A score is agreement with that map
(data/outside/README.md); nothing else of a ticket is scored, and nothing is chosen by it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from eval.columns import check_unchanged
from eval.estimates import Estimate, Estimator, Number, Strict
from eval.intervals import RESAMPLES, wilson_interval
from eval.metrics import Floats
from eval.predictions import PREDICTIONS_NAME, PredictionRow, read_rows
from eval.questions import Question
from triage.dataset import Identifier, list_faults, read_records
from triage.errors import DatasetError
from triage.paths import file_digest
from triage.run import RECORD_NAME, RunRecord, read_run_record
from triage.taxonomy import Taxonomy
from triage.ticket import Message

OUTSIDE_NAME = "outside.json"
OUTSIDE_PREFIX = "outside_"
"""Begins the name of a run's folder, by which the ladder knows it."""
OUTSIDE_SPLIT = "outside"


class OutsideLabels(BaseModel):
    """Of a candidate's labels, the one that is scored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    category: str


class OutsideMessage(Message):
    """A candidate, without its licence and the like."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: Identifier
    group: Identifier
    labels: OutsideLabels
    split: None = None
    """Candidates of an outside set have none; a ticket with one belongs to a dataset, whose test split is read through the ledger alone."""


class CategoryRecall(Strict):
    """Of the messages that the map gives one category, the share that the row gives it too; Wilson's interval."""

    recall: Number
    low: Number
    high: Number
    support: int


class OutsideScore(Strict):
    """The file `outside.json`."""

    format: int = 1
    source: str
    """Name of the file of candidates."""
    dataset: str
    taxonomy: str
    run: str
    """Digest of `run.json`."""
    row: str
    release: str
    """Name of the release, or `none` of a row that has none."""
    code_version: str
    n: int
    """Messages with an answer."""
    unread: int
    """Messages answered by the fallback ticket, which are scored as such."""
    failed: int
    """Messages without an answer, which are not scored."""
    accuracy: Estimate
    mean_recall: Estimate
    """The mean over the categories that have a message: what a set's lean cannot lift."""
    by_category: dict[str, CategoryRecall]
    without_messages: list[str]
    """Categories that the set does not have."""


def load_candidates(path: Path, taxonomy: Taxonomy) -> list[OutsideMessage]:
    """Read a file of candidates.

    Raises:
        DatasetError: naming file and line of every fault, or saying that there is no message.
    """
    messages: list[OutsideMessage] = []
    faults: list[str] = []
    seen: dict[str, int] = {}
    for number, message, wrong in read_records(path, OutsideMessage):
        place = f"{path}:{number}"
        faults += [f"{place}: {fault}" for fault in wrong]
        if message is None:
            continue
        if message.labels.category not in taxonomy.labels("category"):
            faults.append(f"{place}: labels.category: {message.labels.category!r} is not one of {', '.join(taxonomy.labels('category'))}")
        if message.id in seen:
            faults.append(f"{place}: the id {message.id!r} is also at line {seen[message.id]}")
        seen[message.id] = number
        messages.append(message)
    hint = "make the file with `triage data import FILE --mapping data/outside/….toml`"
    if faults:
        raise DatasetError(f"{len(faults)} faults in the candidates:\n  {list_faults(faults)}", hint)
    if not messages:
        raise DatasetError(f"{path} holds no message: there is nothing to score", hint)
    return messages


def to_question(message: OutsideMessage) -> Question:
    """The message as a rung sees it, without its label."""
    fields = message.model_dump(by_alias=True, include=set(Message.model_fields))
    return Question(message.id, message.group, Message.model_validate(fields))


def load_answers(folder: Path, run: RunRecord, messages: Sequence[OutsideMessage], taxonomy: Taxonomy) -> dict[str, PredictionRow]:
    """A finished run's rows by id.

    Raises:
        DatasetError: the file was changed after the run, or rows are missing, doubled, unknown or unreadable.
    """
    check_unchanged(folder, run)
    path = folder / PREDICTIONS_NAME
    rows, faults = read_rows(path, taxonomy)
    wanted = {message.id for message in messages}
    faults += [f"{path}: no prediction for {name!r}" for name in sorted(wanted - rows.keys())]
    faults += [f"{path}: {name!r} is not among the candidates" for name in sorted(rows.keys() - wanted)]
    if faults:
        raise DatasetError(f"{len(faults)} faults in the predictions:\n  {list_faults(faults)}", "predict again; nothing was scored")
    return rows


def score_outside(folder: Path, path: Path, taxonomy: Taxonomy, *, resamples: int = RESAMPLES) -> OutsideScore:
    """Score the finished run in `folder` on the candidates of `path`.

    Raises:
        RunError: the run did not finish.
        DatasetError: it is about other candidates or another taxonomy, as `load_candidates` and `load_answers`, or every row failed.
    """
    run = read_run_record(folder)
    digests = {"dataset": file_digest(path), "taxonomy": taxonomy.digest}
    for name, digest in digests.items():
        if run.inputs.get(name) != digest:
            raise DatasetError(f"the answers in {folder} are not about this {name} ({digest[:12]})", "name another folder with --out")
    messages = load_candidates(path, taxonomy)
    rows = load_answers(folder, run, messages, taxonomy)
    answered = {name: row.after.category for name, row in rows.items() if row.after is not None}
    scored = [message for message in messages if message.id in answered]
    if not scored:
        raise DatasetError(f"all {len(rows)} rows of {folder} failed: nothing can be scored", "predict again")
    truth, guess = [message.labels.category for message in scored], [answered[message.id] for message in scored]
    estimator = Estimator([message.group for message in scored], resamples=resamples)
    labels = taxonomy.labels("category")
    return OutsideScore(
        source=path.stem,
        **digests,
        run=file_digest(folder / RECORD_NAME),
        row=str(run.config.get("row", folder.name)),
        release=str(run.config.get("release", "none")),
        code_version=run.code_version,
        n=len(scored),
        unread=sum(row.status == "unread" for row in rows.values()),
        failed=len(rows) - len(scored),
        accuracy=estimator.share([true == guessed for true, guessed in zip(truth, guess, strict=True)]),
        mean_recall=estimator.metric(estimator.label_sums(truth, guess, labels)[:, : 2 * len(labels)], mean_recall_of_sums),
        by_category=_recalls(truth, guess, taxonomy),
        without_messages=[label for label in labels if label not in truth],
    )


def load_outside(path: Path) -> OutsideScore:
    """Read an `outside.json`.

    Raises:
        DatasetError: it is not of that form.
    """
    try:
        return OutsideScore.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise DatasetError(f"{path} is no outside score: {error.error_count()} faults", "run `triage outside` again") from None


def mean_recall_of_sums(sums: Floats) -> Floats:
    """Mean recall of summed rows [n, 2 * labels] (right with a label, true of it) over the labels that are true of any; NaN without one."""
    right, true = np.split(sums, 2, axis=-1)
    recalls = np.divide(right, true, out=np.zeros_like(right), where=true > 0).sum(axis=-1)
    present = (true > 0).sum(axis=-1).astype(np.float64)
    return np.asarray(recalls / np.where(present > 0, present, np.nan))


def _recalls(truth: Sequence[str], guess: Sequence[str], taxonomy: Taxonomy) -> dict[str, CategoryRecall]:
    support = Counter(truth)
    right: Mapping[str, int] = Counter(label for label, guessed in zip(truth, guess, strict=True) if label == guessed)
    found = {}
    for label in taxonomy.labels("category"):
        if support[label]:
            low, high = wilson_interval(right.get(label, 0), support[label])
            found[label] = CategoryRecall(recall=right.get(label, 0) / support[label], low=low, high=high, support=support[label])
    return found
