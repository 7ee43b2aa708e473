"""The outside check, on six messages whose numbers can be counted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from eval.outside import OutsideScore, load_candidates, load_outside, mean_recall_of_sums, score_outside, to_question
from eval.outside_command import outside
from tests.conftest import ROOT
from tests.test_eval_scorecard import make_examples, make_ticket, write_rows, write_run
from triage.answer import Answer, Failure, TicketAnswer
from triage.errors import DatasetError, RunError
from triage.paths import file_digest, write_bytes_atomically
from triage.taxonomy import Taxonomy

TRUTH = ("billing", "billing", "billing", "how_to", "how_to", "security")
GUESS = ("billing", "billing", "how_to", "how_to", "other", "security")

app = typer.Typer()
app.command()(outside)


def make_candidate(number: int, **changes: Any) -> dict[str, Any]:
    """A line as `triage data import` writes it, terms and all."""
    record = {"id": f"bank-{number}", "group": f"bank-g{number}", "language": "en", "channel": "chat", "message": f"why was I charged {number}"}
    terms = {"provenance": "bank", "licence": "CC-BY-4.0", "consent": "published for research"}
    return {**record, **terms, "labels": {"category": TRUTH[number]}, **changes}


def write_candidates(path: Path, records: Sequence[object] = tuple(map(make_candidate, range(6)))) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def write_outside(folder: Path, path: Path, taxonomy: Taxonomy, answers: Sequence[Answer] | None = None) -> OutsideScore:
    """A finished run on six candidates and its `outside.json`."""
    write_candidates(path)
    said = answers or [TicketAnswer(make_ticket((category, "low", False, "close"))) for category in GUESS]
    names = [str(make_candidate(number)["id"]) for number in range(6)]
    write_run(folder, make_examples()[:6], said, taxonomy, row="release", dataset=file_digest(path), ids=names)
    score = score_outside(folder, path, taxonomy, resamples=200)
    write_bytes_atomically(folder / "outside.json", score.model_dump_json().encode())
    return score


def test_accuracy_and_mean_recall_are_those_counted_by_hand(tmp_path: Path, taxonomy: Taxonomy) -> None:
    score = write_outside(tmp_path / "run", tmp_path / "bank.jsonl", taxonomy)
    assert (score.source, score.row, score.n, score.unread, score.failed) == ("bank", "release", 6, 0, 0)
    assert score.accuracy.estimate == pytest.approx(4 / 6, abs=1e-6)
    assert score.mean_recall.estimate == pytest.approx((2 / 3 + 1 / 2 + 1) / 3, abs=1e-6)
    assert {label: each.support for label, each in score.by_category.items()} == {"billing": 3, "how_to": 2, "security": 1}
    billing = score.by_category["billing"]
    assert [billing.recall, billing.low, billing.high] == pytest.approx([2 / 3, 0.208, 0.939], abs=5e-4)
    assert "outage" in score.without_messages
    assert len(score.without_messages) == len(taxonomy.labels("category")) - 3
    assert load_outside(tmp_path / "run" / "outside.json") == score


def test_a_category_without_messages_does_not_lower_the_mean() -> None:
    # right with a, b, c and true of a, b, c: b has no message
    assert mean_recall_of_sums(np.array([[1.0, 0.0, 3.0, 2.0, 0.0, 4.0]])).tolist() == [(0.5 + 0.75) / 2]
    assert np.isnan(mean_recall_of_sums(np.zeros((1, 6)))).all()


def test_an_unread_message_is_its_fallback_and_a_failed_one_is_not_scored(tmp_path: Path, taxonomy: Taxonomy) -> None:
    answers: list[Answer] = [TicketAnswer(make_ticket((category, "low", False, "close"))) for category in GUESS]
    answers[0], answers[5] = Failure("invalid"), Failure("timeout")
    score = write_outside(tmp_path / "run", tmp_path / "bank.jsonl", taxonomy, answers)
    assert (score.n, score.unread, score.failed) == (5, 1, 1)
    assert score.accuracy.estimate == 0.4
    assert score.mean_recall.estimate == pytest.approx((1 / 3 + 1 / 2) / 2, abs=1e-6)


def test_a_question_holds_the_message_and_no_label(tmp_path: Path, taxonomy: Taxonomy) -> None:
    [first, *_] = load_candidates(write_candidates(tmp_path / "bank.jsonl"), taxonomy)
    question = to_question(first)
    assert (question.id, question.group, question.message.message, question.message.channel) == ("bank-0", "bank-g0", "why was I charged 0", "chat")


def test_a_split_of_the_dataset_is_no_outside_set(tmp_path: Path, taxonomy: Taxonomy) -> None:
    """It would be a look at the test split that the ledger does not know of."""
    path = write_candidates(tmp_path / "test.jsonl", [make_candidate(0, split="test")])
    with pytest.raises(DatasetError, match=r"test\.jsonl:1: split"):
        load_candidates(path, taxonomy)


@pytest.mark.parametrize(
    ("records", "fault"),
    [
        ([make_candidate(0), make_candidate(0)], "bank.jsonl:2: the id 'bank-0' is also at line 1"),
        ([make_candidate(0, labels={"category": "loans"})], "bank.jsonl:1: labels.category: 'loans' is not one of"),
        ([make_candidate(0, labels={})], "bank.jsonl:1: labels.category: Field required"),
        ([make_candidate(0), [1]], "bank.jsonl:2: not an object"),
        ([], "holds no message"),
    ],
)
def test_faulty_candidates_are_refused_with_file_and_line(tmp_path: Path, taxonomy: Taxonomy, records: list[object], fault: str) -> None:
    with pytest.raises(DatasetError) as raised:
        load_candidates(write_candidates(tmp_path / "bank.jsonl", records), taxonomy)
    assert fault in str(raised.value)
    assert "triage data import" in raised.value.hint


def test_answers_that_were_changed_lack_rows_or_are_about_other_candidates_are_refused(tmp_path: Path, taxonomy: Taxonomy) -> None:
    folder, path = tmp_path / "run", tmp_path / "bank.jsonl"
    write_outside(folder, path, taxonomy)
    lines = (folder / "predictions.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / "predictions.jsonl").write_text("".join(lines[1:]), encoding="utf-8")
    with pytest.raises(DatasetError, match="is not the file that its run wrote"):
        score_outside(folder, path, taxonomy)
    write_rows(folder, [line.rstrip("\n") for line in lines[1:]], taxonomy, dataset=file_digest(path))
    with pytest.raises(DatasetError, match="no prediction for 'bank-0'"):
        score_outside(folder, path, taxonomy)
    write_candidates(path, [make_candidate(1)])
    with pytest.raises(DatasetError, match="not about this dataset"):
        score_outside(folder, path, taxonomy)
    (folder / "run.json").unlink()
    with pytest.raises(RunError, match="not a finished run"):
        score_outside(folder, path, taxonomy)


def test_an_outside_score_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "outside.json").write_text("{}", encoding="utf-8")
    with pytest.raises(DatasetError, match="no outside score"):
        load_outside(tmp_path / "outside.json")


def test_the_command_predicts_scores_and_finds_its_work_done_the_second_time(tmp_path: Path) -> None:
    path = write_candidates(tmp_path / "bank.jsonl")
    words = [str(path), "--row", "majority", "--out", str(tmp_path / "run"), "--data", str(ROOT / "data" / "tickets")]
    printed = [CliRunner().invoke(app, words, catch_exceptions=False) for _ in range(2)]
    assert [done.exit_code for done in printed] == [0, 0]
    assert "majority on 6 messages of bank:" in printed[0].stdout
    assert printed[0].stdout == printed[1].stdout
    assert load_outside(tmp_path / "run" / "outside.json").n == 6
    refused = CliRunner().invoke(app, [*words[:2], "base_few_shot"])
    assert refused.exit_code == 2
