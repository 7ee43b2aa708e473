"""Predictions that are not finished: what run they are of, which rows are done, and how a later session goes on with them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import ValidationError

from eval.predictions import PREDICTIONS_NAME, PredictionRow, render_row
from triage.errors import DatasetError
from triage.paths import canonical_json
from triage.run import RECORD_NAME, RunRecord, read_run_record

PARTIAL_NAME = "predictions.partial.jsonl"
"""The first line says what run it is, `{"run": …}`; each other line is a row. A later row of a message replaces an earlier one."""


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


def resume_run(stream: BinaryIO, partial: Path, identity: Mapping[str, Any], known: Sequence[PredictionRow]) -> dict[str, PredictionRow]:
    """The rows that are done. A last line without its end, as a killed run leaves it, is cut off; an empty file gets its first line.

    Raises:
        DatasetError: the file is of another run, or of another kind; it is left as it is.
    """
    stream.seek(0)
    lines = stream.read().split(b"\n")
    tail = lines.pop()
    try:
        if lines:
            _check_identity(partial, dict(json.loads(lines[0])["run"]), identity)
        rows = {row.id: row for row in map(PredictionRow.model_validate_json, lines[1:])}
    except (ValueError, KeyError, TypeError, ValidationError):
        raise DatasetError(f"{partial} is not a file of unfinished predictions", "remove it, or name another folder with --out") from None
    if tail:
        stream.truncate(sum(len(line) + 1 for line in lines))
    if not lines:
        rows = {row.id: row for row in known}
        _begin(stream, identity, rows)
    return {name: row for name, row in rows.items() if row.status != "failed"}


def reopen_run(stream: BinaryIO, out: Path, identity: Mapping[str, Any]) -> dict[str, PredictionRow]:
    """The answered rows of a finished run, which is unfinished again until its failed rows have been asked once more."""
    lines = (out / PREDICTIONS_NAME).read_bytes().splitlines()
    rows = {row.id: row for row in map(PredictionRow.model_validate_json, lines) if row.status != "failed"}
    stream.truncate(0)
    _begin(stream, identity, rows)
    os.fsync(stream.fileno())
    (out / RECORD_NAME).unlink()
    return rows


def _begin(stream: BinaryIO, identity: Mapping[str, Any], rows: Mapping[str, PredictionRow]) -> None:
    content = [json.dumps({"run": identity}, ensure_ascii=False), *map(render_row, rows.values())]
    stream.write("".join(f"{line}\n" for line in content).encode())
    stream.flush()
