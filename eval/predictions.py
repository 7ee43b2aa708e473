"""Predictions on disk: what a row of the ladder said about each message of a split, and the proof of which split it was.

A folder holds `predictions.jsonl`, a line a message in the order of the split, and `run.json`, written last: a folder that has
one is finished. The run names the digests of dataset, split, taxonomy and prompt, and whoever reads predictions compares them.

Three things are kept apart. A *failed* row is the infrastructure's fault (no answer came): it is counted and never scored as a
wrong answer. An *unread* row is the model's fault (cut off, not JSON, outside the schema): it leaves as the fallback ticket. All
others are *triaged*.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from triage.answer import Failure, FailureReason, TicketAnswer
from triage.dataset import Example, list_faults, read_records
from triage.errors import DatasetError
from triage.policy import DecidedBy, decide
from triage.run import RunRecord, read_run_record
from triage.taxonomy import Taxonomy
from triage.ticket import Ticket, ticket_faults

PREDICTIONS_NAME = "predictions.jsonl"
Probability = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
INFRASTRUCTURE: tuple[FailureReason, ...] = ("timeout", "unavailable")
"""Failures that say nothing about the model."""


class PredictionRow(BaseModel):
    """One line of `predictions.jsonl`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    status: Literal["triaged", "unread", "failed"]
    before: Ticket | None
    """The model's own answer; None where there is none."""
    after: Ticket | None
    """What leaves the house: the policy's ticket, the fallback for an unread one, None for a failed one."""
    decided_by: DecidedBy | None
    reasons: list[str] = []
    confidence: dict[str, Probability] = {}
    """The probability of each decided field's label, before policy; empty where the row has none."""
    valid_json: bool | None = None
    """Whether a model that was asked with a prompt wrote a JSON object, inside a schema or freely. None for fitted rows and failed ones."""
    valid_ticket: bool | None = None
    """Whether that object was a ticket of the taxonomy. None where `valid_json` is."""
    prompt_tokens: Annotated[int, Field(ge=0)] = 0
    output_tokens: Annotated[int, Field(ge=0)] = 0
    latency_ms: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    cost: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """In the currency of the price setting; None where no price is known."""


@dataclass(frozen=True)
class Predictions:
    """The rows of a finished run, one for each example, in the examples' order."""

    folder: Path
    run: RunRecord
    rows: list[PredictionRow]


def to_row(
    identifier: str, answer: TicketAnswer | Failure, taxonomy: Taxonomy, *, latency_ms: float, cost: float | None = None, is_prompted: bool = False
) -> PredictionRow:
    """The row of one answer. `is_prompted` says that a model was asked with a prompt, so that validity is a finding."""
    if isinstance(answer, Failure) and answer.reason in INFRASTRUCTURE:
        return PredictionRow(
            id=identifier, status="failed", before=None, after=None, decided_by=None, reasons=[answer.reason], latency_ms=round(latency_ms, 3)
        )
    decision = decide(answer, taxonomy)
    failed = isinstance(answer, Failure)
    is_json = not isinstance(answer, Failure) or answer.is_json
    return PredictionRow(
        id=identifier,
        status="unread" if failed else "triaged",
        before=None if isinstance(answer, Failure) else answer.ticket,
        after=decision.ticket,
        decided_by=decision.decided_by,
        reasons=list(decision.reasons),
        confidence={} if isinstance(answer, Failure) else {field: round(value, 6) for field, value in answer.probabilities.items()},
        valid_json=is_json if is_prompted else None,
        valid_ticket=(not failed) if is_prompted else None,
        prompt_tokens=answer.prompt_tokens,
        output_tokens=answer.output_tokens,
        latency_ms=round(latency_ms, 3),
        cost=cost,
    )


def render_row(row: PredictionRow) -> str:
    """The line of a row."""
    return json.dumps(row.model_dump(exclude_none=False), ensure_ascii=False, separators=(",", ":"))


def load_predictions(folder: Path, examples: Sequence[Example], taxonomy: Taxonomy, *, dataset: str) -> Predictions:
    """Read a finished run and prove that it is about exactly these examples. `dataset` is the digest of the split's file.

    Raises:
        RunError: the run did not finish.
        DatasetError: it is about another dataset or taxonomy, or rows are missing, doubled, unknown or unreadable; every fault at once.
    """
    run = read_run_record(folder)
    for name, digest in (("dataset", dataset), ("taxonomy", taxonomy.digest)):
        if run.inputs.get(name) != digest:
            raise DatasetError(
                f"the predictions in {folder} are about the {name} {str(run.inputs.get(name))[:12]}, and this one is {digest[:12]}",
                "predict again, or name the dataset and taxonomy they were made for",
            )
    if not examples:
        raise DatasetError(f"there is nothing to score: the split that {folder} is about is empty", "name a split that holds tickets")
    path = folder / PREDICTIONS_NAME
    rows, faults = read_rows(path, taxonomy)
    wanted = {example.id for example in examples}
    faults += [f"{path}: no prediction for {example.id!r}" for example in examples if example.id not in rows]
    faults += [f"{path}: {identifier!r} is not in the split" for identifier in rows if identifier not in wanted]
    if faults:
        raise DatasetError(f"{len(faults)} faults in the predictions:\n  {list_faults(faults)}", "predict again; nothing was scored")
    return Predictions(folder, run, [rows[example.id] for example in examples])


def read_rows(path: Path, taxonomy: Taxonomy) -> tuple[dict[str, PredictionRow], list[str]]:
    """Every readable row by id, and every fault as `file:line: what is wrong`.

    Raises:
        DatasetError: the file cannot be opened.
    """
    rows: dict[str, PredictionRow] = {}
    faults: list[str] = []
    for number, row, wrong in read_records(path, PredictionRow):
        place = f"{path}:{number}"
        faults += [f"{place}: {fault}" for fault in wrong]
        if row is None:
            continue
        if row.before == row.after:
            row = row.model_copy(update={"after": row.before})  # one object in place of two equal ones: there may be 100,000 rows
        tickets = [ticket for ticket in (row.before, row.after) if ticket is not None]
        faults += [f"{place}: {fault}" for ticket in tickets for fault in ticket_faults(ticket, taxonomy)]
        if row.id in rows:
            faults.append(f"{place}: a second prediction for {row.id!r}")
        rows[row.id] = row
    return rows, faults
