"""A run's predictions beside the examples they are about, as columns of labels: what every score is computed from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from sys import intern
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from eval.estimates import NO_ANSWER
from eval.predictions import PREDICTIONS_NAME, PredictionRow, Predictions, load_predictions
from triage.dataset import Example, list_faults
from triage.errors import DatasetError
from triage.paths import file_digest
from triage.run import RunRecord
from triage.taxonomy import LABEL_FIELDS, Taxonomy
from triage.ticket import Ticket

Side = Literal["before", "after"]
"""Before or after the policy."""
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Columns:
    """The rows that have an answer or should have: all but the failed ones, as columns."""

    examples: list[Example]
    rows: list[PredictionRow]
    truth: dict[str, list[str]]
    before: dict[str, list[str]]
    after: dict[str, list[str]]

    @cached_property
    def groups(self) -> list[str]:
        return [example.group for example in self.examples]

    def guess(self, side: Side) -> dict[str, list[str]]:
        """The guesses by field; before policy an unread row's is `NO_ANSWER`."""
        return self.before if side == "before" else self.after

    def hits(self, side: Side, field: str) -> Flags:
        """Which rows have the right label, of shape [rows]."""
        return np.asarray([true == guess for true, guess in zip(self.truth[field], self.guess(side)[field], strict=True)], dtype=np.bool_)

    def exact(self, side: Side) -> Flags:
        """Which rows have all four labels right, of shape [rows]."""
        return np.asarray(np.logical_and.reduce([self.hits(side, field) for field in LABEL_FIELDS]))


def to_columns(predictions: Predictions, examples: Sequence[Example]) -> Columns:
    """Set predictions beside the examples they are about.

    Raises:
        DatasetError: a row's status and its tickets contradict each other, or every row failed.
    """
    wanted = {"triaged": (True, True), "unread": (False, True), "failed": (False, False)}
    faults = [
        f"{predictions.folder / PREDICTIONS_NAME}: {row.id!r} is {row.status}, which does not go with its tickets"
        for row in predictions.rows
        if (row.before is not None, row.after is not None) != wanted[row.status]
    ]
    if faults:
        raise DatasetError(f"{len(faults)} faults in the predictions:\n  {list_faults(faults)}", "predict again; nothing was scored")
    pairs = [(example, row) for example, row in zip(examples, predictions.rows, strict=True) if row.status != "failed"]
    if not pairs:
        raise DatasetError(
            f"all {len(examples)} rows of {predictions.folder} failed: there is nothing to score", "mend the endpoint and predict again"
        )
    before, after = ([row.before for _, row in pairs], [row.after for _, row in pairs])
    truth = [example.labels for example, _ in pairs]
    return Columns([example for example, _ in pairs], [row for _, row in pairs], _by_field(truth), _by_field(before), _by_field(after))


def _by_field(tickets: Sequence[Ticket | None]) -> dict[str, list[str]]:
    """Each label is one string however often it occurs: a hundred thousand rows make a difference."""
    return {field: [intern(ticket.label(field)) if ticket else NO_ANSWER for ticket in tickets] for field in LABEL_FIELDS}


def load_row(folder: Path, examples: Sequence[Example], taxonomy: Taxonomy, *, dataset: str) -> Predictions:
    """`load_predictions`, and the proof that the file is the one the run wrote.

    Raises:
        RunError: the run did not finish.
        DatasetError: as `load_predictions`, or the file was changed after the run.
    """
    predictions = load_predictions(folder, examples, taxonomy, dataset=dataset)
    check_unchanged(folder, predictions.run)
    return predictions


def check_unchanged(folder: Path, run: RunRecord) -> None:
    """Check that a folder's predictions are the file that its run wrote.

    Raises:
        DatasetError: the file was changed after the run, or cannot be read.
    """
    path = folder / PREDICTIONS_NAME
    if (claimed := run.outputs.get(PREDICTIONS_NAME)) != (file_digest(path) if path.is_file() else None):
        raise DatasetError(f"{path} is not the file that its run wrote ({str(claimed)[:12]}): it was changed since", "predict again")


def row_name(predictions: Predictions) -> str:
    """What the row is called: the run's own word, else its folder's name."""
    return str(predictions.run.config.get("row", predictions.folder.name))
