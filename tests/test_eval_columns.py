"""Predictions that cannot be scored are refused with file, line and the next step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from eval.columns import load_row, to_columns
from eval.predictions import PREDICTIONS_NAME, Predictions
from tests.test_eval_scorecard import DATASET, make_answers, make_examples, write_rows, write_run
from triage.errors import DatasetError, RunError
from triage.taxonomy import Taxonomy, parse_taxonomy


def test_predictions_changed_after_the_run_are_refused(tmp_path: Path, taxonomy: Taxonomy) -> None:
    examples = make_examples()
    folder = write_run(tmp_path / "run", examples, make_answers(), taxonomy)
    path = folder / PREDICTIONS_NAME
    path.write_text(path.read_text(encoding="utf-8").replace("0.6", "0.5"), encoding="utf-8")
    with pytest.raises(DatasetError, match="changed since"):
        load_row(folder, examples, taxonomy, dataset=DATASET)


def test_a_status_that_does_not_go_with_its_tickets_is_refused(tmp_path: Path, taxonomy: Taxonomy) -> None:
    examples = make_examples()
    folder = write_run(tmp_path / "run", examples, make_answers(), taxonomy)
    predictions = load_row(folder, examples, taxonomy, dataset=DATASET)
    broken = [row.model_copy(update={"after": None}) if row.id == "t3" else row for row in predictions.rows]
    with pytest.raises(DatasetError, match="'t3' is triaged, which does not go with its tickets"):
        to_columns(Predictions(folder, predictions.run, broken), examples)


def _edit_row(line: str, **changes: object) -> str:
    return json.dumps({**json.loads(line), **changes})


@pytest.mark.parametrize(
    ("edit", "fault"),
    [
        (lambda lines: lines[:-1], "no prediction for 't9'"),
        (lambda lines: [*lines, lines[0]], "predictions.jsonl:11: a second prediction for 't0'"),
        (lambda lines: [*lines[:-1], _edit_row(lines[-1], id="t99")], "'t99' is not in the split"),
        (lambda lines: [lines[0].replace("0.9", "NaN"), *lines[1:]], "predictions.jsonl:1: not JSON: NaN is no JSON number"),
        (lambda lines: [_edit_row(lines[0], confidence={"category": 1.5}), *lines[1:]], "predictions.jsonl:1: confidence.category"),
        (lambda lines: [lines[0].replace("billing", "bills"), *lines[1:]], "predictions.jsonl:1: category: 'bills' is not one of"),
        (lambda lines: [*lines[:4], lines[4][:-9], *lines[5:]], "predictions.jsonl:5: not JSON"),
        (lambda lines: [], "no prediction for 't0'"),
    ],
)
def test_faulty_predictions_are_refused_with_file_and_line(tmp_path: Path, taxonomy: Taxonomy, edit: Any, fault: str) -> None:
    examples = make_examples()
    folder = write_run(tmp_path / "whole", examples, make_answers(), taxonomy)
    lines = (folder / PREDICTIONS_NAME).read_text(encoding="utf-8").splitlines()
    broken = write_rows(tmp_path / "broken", edit(lines), taxonomy)
    with pytest.raises(DatasetError) as raised:
        load_row(broken, examples, taxonomy, dataset=DATASET)
    assert fault in str(raised.value)
    assert "predict again" in raised.value.hint


def test_predictions_of_another_dataset_or_taxonomy_or_an_unfinished_run_are_refused(tmp_path: Path, taxonomy: Taxonomy) -> None:
    examples = make_examples()
    folder = write_run(tmp_path / "run", examples, make_answers(), taxonomy)
    with pytest.raises(DatasetError, match="about the dataset dddddddddddd, and this one is eeeeeeeeeeee"):
        load_row(folder, examples, taxonomy, dataset="e" * 64)
    with pytest.raises(DatasetError, match="about the taxonomy"):
        load_row(folder, examples, parse_taxonomy({**taxonomy.model_dump(), "version": "2"}, source="a test"), dataset=DATASET)
    (folder / "run.json").unlink()
    with pytest.raises(RunError, match="not a finished run"):
        load_row(folder, examples, taxonomy, dataset=DATASET)
