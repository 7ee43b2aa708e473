"""Predictions that are not finished: what run they are of, which rows are done, and how a later session goes on with them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import ValidationError

from eval.predictions import PREDICTIONS_NAME, PredictionRow, render_row
from triage.dataset import list_faults
from triage.errors import DatasetError
from triage.paths import canonical_json, file_digest
from triage.run import RECORD_NAME, RunRecord, read_run_record

PARTIAL_NAME = "predictions.partial.jsonl"
"""The first line says what run it is and of which code, `{"run": …, "code_version": …}`; each other line is a row.

A later row of a message replaces an earlier one.
"""


def read_finished_run(out: Path, identity: Mapping[str, Any]) -> RunRecord | None:
    """The record of a finished run of the same identity; None where there is no record."""
    if not (out / RECORD_NAME).exists():
        return None
    record = read_run_record(out)
    _check_identity(out, {"config": record.config, "inputs": record.inputs}, identity)
    return record


def _check_identity(place: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse a run of another rung, dataset or configuration, naming both sides of every difference.

    Raises:
        DatasetError: they differ.
    """
    faults = []
    for part in ("config", "inputs"):
        there, here = found.get(part), wanted[part]
        there = there if isinstance(there, dict) else {}
        for key in sorted({*there, *here}):
            if there.get(key) != here.get(key):
                faults.append(f"{key} is {_short(there.get(key))} there and {_short(here.get(key))} here")
    if faults:
        raise DatasetError(f"{place} holds another run: {'; '.join(faults)}", "name another folder with --out, or remove that one")


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else canonical_json(value)
    return text[:12] if len(text) == 64 else text[:80]


def check_outputs(out: Path, record: RunRecord) -> None:
    """Prove that the predictions of a finished run are those it was finished with.

    Raises:
        DatasetError: they are gone, or others.
    """
    path = out / PREDICTIONS_NAME
    if not path.is_file() or file_digest(path) != record.outputs.get(PREDICTIONS_NAME):
        what = "is not the file that its run.json names" if path.is_file() else "is missing"
        raise DatasetError(f"{path} {what}", "restore it, or remove the folder to run it anew")


def resume_run(
    stream: BinaryIO, partial: Path, identity: Mapping[str, Any], version: str, known: Sequence[PredictionRow]
) -> tuple[dict[str, PredictionRow], str | None]:
    """The rows that are done, and the other version of the code that began the run; None where it was this one.

    A last line without its end, as a killed run leaves it, is cut off. An empty file, and one of another version, begins anew
    with the rows of `known`.

    Raises:
        DatasetError: the file is of another run or of another kind, or a line is damaged; it is left as it is.
    """
    stream.seek(0)
    lines = stream.read().split(b"\n")
    tail = lines.pop()
    other: str | None = None
    if lines:
        try:
            head = dict(json.loads(lines[0]))
            found, began = dict(head["run"]), str(head.get("code_version", ""))
        except (ValueError, KeyError, TypeError):
            raise DatasetError(f"{partial} is not a file of unfinished predictions", "remove it, or name another folder with --out") from None
        _check_identity(partial, found, identity)
        other = began if began != version else None
    if not lines or other is not None:
        rows = {row.id: row for row in known}
        stream.truncate(0)
        _begin(stream, identity, version, rows)
    else:
        rows = _read_rows(partial, lines[1:], first=2)
        if tail:
            stream.truncate(sum(len(line) + 1 for line in lines))
    return {name: row for name, row in rows.items() if row.status != "failed"}, other


def reopen_run(stream: BinaryIO, out: Path, record: RunRecord, identity: Mapping[str, Any], version: str) -> dict[str, PredictionRow]:
    """The answered rows of a finished run, to go on from; the run itself stays until another replaces it.

    Raises:
        DatasetError: its predictions are not those it was finished with, or a line is damaged.
    """
    check_outputs(out, record)
    path = out / PREDICTIONS_NAME
    found = _read_rows(path, path.read_bytes().split(b"\n")[:-1], first=1)
    rows = {name: row for name, row in found.items() if row.status != "failed"}
    _begin(stream, identity, version, rows)
    return rows


def _read_rows(path: Path, lines: Sequence[bytes], *, first: int) -> dict[str, PredictionRow]:
    """Rows by id, the last one of each; `first` is the number of the first line in its file."""
    rows: dict[str, PredictionRow] = {}
    faults: list[str] = []
    for number, line in enumerate(lines, first):
        try:
            row = PredictionRow.model_validate_json(line)
        except ValidationError:
            faults.append(f"{path}:{number}: not a row of predictions")
        else:
            rows[row.id] = row
    if faults:
        raise DatasetError(f"{len(faults)} damaged lines in unfinished predictions:\n  {list_faults(faults)}", "remove these lines, or the folder")
    return rows


def _begin(stream: BinaryIO, identity: Mapping[str, Any], version: str, rows: Mapping[str, PredictionRow]) -> None:
    content = [json.dumps({"run": identity, "code_version": version}, ensure_ascii=False), *map(render_row, rows.values())]
    stream.write("".join(f"{line}\n" for line in content).encode())
    stream.flush()
