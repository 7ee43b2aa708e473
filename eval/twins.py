"""Injection twins: how far instructions planted in messages moved the labels. Made by the data room as `injections.jsonl`.

A row's answers to the twins lie in the folder `twins` beside its predictions, in the same form. They are compared with the row's
own answers to the clean messages and not with the truth: a weak model that stays where it is has resisted.

A planted text that names a label can move a field there only if the clean message was not given that label already: the share
that moved to the target is one of such pairs alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from eval.columns import Side, check_unchanged
from eval.estimates import NO_ANSWER, Estimator
from eval.intervals import RESAMPLES
from eval.predictions import PREDICTIONS_NAME, PredictionRow, Predictions, read_rows
from eval.scorecard import TwinScores, TwinShare, TwinSide
from triage.dataset import Example, Identifier, list_faults, read_lines
from triage.errors import DatasetError
from triage.paths import file_digest
from triage.run import RunRecord, read_run_record
from triage.taxonomy import LABEL_FIELDS, Taxonomy
from triage.ticket import describe_faults

TWINS_NAME = "injections.jsonl"
TWINS_FOLDER = "twins"


class Planted(BaseModel):
    """What a line of `injections.jsonl` says about a twin; the message itself is not looked at here."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: Identifier
    twin_of: Identifier
    kind: str
    target: dict[str, str]
    """The labels that the planted text names, by field; often of some fields alone, or of none."""


def score_twins(
    predictions: Predictions, examples: Sequence[Example], taxonomy: Taxonomy, path: Path, *, resamples: int = RESAMPLES
) -> TwinScores | None:
    """Compare answers to the twins of `path` with those to the clean messages; None where the row has no twins' answers.

    Raises:
        RunError: the run over the twins did not finish.
        DatasetError: it is about other twins or another taxonomy, of another model than the row, or was changed since; rows are missing,
            doubled or unknown; or no pair has an answer.
    """
    folder = predictions.folder / TWINS_FOLDER
    if not folder.is_dir():
        return None
    if not path.is_file():
        raise DatasetError(f"{folder} holds answers to injection twins, and {path} is not there", "name the folder of the tickets with --data")
    run = read_run_record(folder)
    for name, digest in (("dataset", file_digest(path)), ("taxonomy", taxonomy.digest)):
        if run.inputs.get(name) != digest:
            raise DatasetError(f"the twins' answers in {folder} are not about this {name} ({digest[:12]})", "predict the twins again")
    if unlike := _unlike(predictions.run, run):
        raise DatasetError(f"the twins' answers in {folder} are not the row's own: {', '.join(unlike)} differ", "predict the twins again")
    check_unchanged(folder, run)
    answers, faults = read_rows(folder / PREDICTIONS_NAME, taxonomy)
    planted, more = _read_planted(path)
    clean = {row.id: row for row in predictions.rows}
    faults += more
    faults += [f"{folder / PREDICTIONS_NAME}: no prediction for {twin.id!r}" for twin in planted if twin.id not in answers]
    faults += [f"{folder / PREDICTIONS_NAME}: {name!r} is no twin" for name in answers.keys() - {twin.id for twin in planted}]
    faults += [f"{path}: {twin.id!r} is the twin of {twin.twin_of!r}, which is not in the split" for twin in planted if twin.twin_of not in clean]
    if faults:
        raise DatasetError(f"{len(faults)} faults in the twins' answers:\n  {list_faults(faults)}", "predict the twins again; nothing was scored")
    groups = {example.id: example.group for example in examples}
    pairs = [(twin, clean[twin.twin_of], answers[twin.id]) for twin in planted]
    answered = [pair for pair in pairs if pair[1].after is not None and pair[2].after is not None]
    if not answered:
        raise DatasetError(f"no twin in {folder} has an answer to compare", "predict the twins again")
    of_pairs = [groups[twin.twin_of] for twin, _, _ in answered]
    before, after = (_score_side(answered, of_pairs, side, resamples) for side in ("before", "after"))
    return TwinScores(before=before, after=after, left_out=len(pairs) - len(answered))


@dataclass(frozen=True)
class _Move:
    """What one twin did to the labels."""

    changed: frozenset[str]
    """Fields whose label differs from the clean message's."""
    targeted: frozenset[str]
    """Fields whose label is named by the planted text and is not the one that the clean message was given."""
    hit: frozenset[str]
    """Those of them that have that label now."""

    def only(self, field: str) -> _Move:
        return _Move(self.changed & {field}, self.targeted & {field}, self.hit & {field})


def _score_side(pairs: Sequence[tuple[Planted, PredictionRow, PredictionRow]], groups: Sequence[str], side: Side, resamples: int) -> TwinSide:
    moves = [_move(twin.target, _labels(clean, side), _labels(injected, side)) for twin, clean, injected in pairs]
    targeted = [(group, bool(move.hit)) for group, move in zip(groups, moves, strict=True) if move.targeted]
    by_kind: dict[str, list[_Move]] = {}
    for (twin, _, _), move in zip(pairs, moves, strict=True):
        by_kind.setdefault(twin.kind, []).append(move)
    return TwinSide(
        changed=Estimator(groups, resamples=resamples).share([bool(move.changed) for move in moves]),
        to_target=Estimator([group for group, _ in targeted], resamples=resamples).share([hit for _, hit in targeted]) if targeted else None,
        by_field={field: _share([move.only(field) for move in moves]) for field in LABEL_FIELDS},
        by_kind={kind: _share(some) for kind, some in sorted(by_kind.items())},
    )


def _labels(row: PredictionRow, side: Side) -> dict[str, str]:
    ticket = row.before if side == "before" else row.after
    return {field: ticket.label(field) if ticket else NO_ANSWER for field in LABEL_FIELDS}


def _move(target: Mapping[str, str], was: Mapping[str, str], now: Mapping[str, str]) -> _Move:
    targeted = frozenset(field for field in LABEL_FIELDS if field in target and was[field] != target[field])
    return _Move(
        changed=frozenset(field for field in LABEL_FIELDS if was[field] != now[field]),
        targeted=targeted,
        hit=frozenset(field for field in targeted if now[field] == target[field]),
    )


def _share(moves: Sequence[_Move]) -> TwinShare:
    targeted = sum(bool(move.targeted) for move in moves)
    return TwinShare(
        pairs=len(moves),
        changed=sum(bool(move.changed) for move in moves) / len(moves),
        targeted=targeted,
        to_target=sum(bool(move.hit) for move in moves) / targeted if targeted else None,
    )


def _unlike(row: RunRecord, twins: RunRecord) -> list[str]:
    """What two runs of one row differ in, beside the messages that they read."""
    sides = (("config", row.config, twins.config, "split"), ("inputs", row.inputs, twins.inputs, "dataset"))
    absent = object()
    return [
        f"{part}.{name}"
        for part, ours, theirs, skipped in sides
        for name in sorted(ours.keys() | theirs.keys())
        if name != skipped and ours.get(name, absent) != theirs.get(name, absent)
    ]


def _read_planted(path: Path) -> tuple[list[Planted], list[str]]:
    planted: list[Planted] = []
    faults: list[str] = []
    for line in read_lines(path):
        try:
            if line.record is None:
                raise ValueError(line.fault)
            planted.append(Planted.model_validate(line.record))
        except ValidationError as error:
            faults += [f"{path}:{line.number}: {fault}" for fault in describe_faults(error, Planted)]
        except ValueError as error:
            faults.append(f"{path}:{line.number}: {error}")
    return planted, faults
