"""The ladder: rows in order, the best baseline, differences from it, rows that are absent, incomplete or from outside."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eval.comparison import Comparison
from eval.ladder import Ladder, write_ladder
from eval.scorecard import Scorecard
from tests.test_eval_outside import write_outside
from tests.test_eval_scorecard import DATASET, TRUTH, make_answers, make_examples, make_ticket, write_run
from triage.answer import Answer, Failure, TicketAnswer
from triage.errors import DatasetError
from triage.taxonomy import Taxonomy

EXAMPLES = make_examples()


def _one_label() -> list[Answer]:
    return [TicketAnswer(make_ticket(("billing", "low", True, "check_billing")), {"category": 0.2}) for _ in TRUTH]


@pytest.fixture
def folder(tmp_path: Path, taxonomy: Taxonomy) -> Path:
    """A majority row, a better tfidf row, and a release that is right throughout."""
    write_run(tmp_path / "release", EXAMPLES, [TicketAnswer(make_ticket(labels)) for labels in TRUTH], taxonomy, row="release")
    write_run(tmp_path / "majority", EXAMPLES, _one_label(), taxonomy, row="majority")
    write_run(tmp_path / "tfidf", EXAMPLES, make_answers(), taxonomy, row="tfidf")
    return tmp_path


def _write(folder: Path, taxonomy: Taxonomy) -> tuple[Ladder, str]:
    path = write_ladder(folder, EXAMPLES, taxonomy, dataset=DATASET, resamples=200)
    assert path == folder / "ladder.md"
    return Ladder.model_validate_json((folder / "ladder.json").read_bytes()), path.read_text(encoding="utf-8")


def _against(comparisons: list[Comparison], row: str) -> Comparison:
    return next(comparison for comparison in comparisons if comparison.row == row)


def test_rows_stand_in_the_ladders_order_with_their_headlines(folder: Path, taxonomy: Taxonomy) -> None:
    ladder, table = _write(folder, taxonomy)
    assert [row.row for row in ladder.rows] == ["majority", "tfidf", "release"]
    majority, tfidf, release = ladder.rows
    assert majority.scores is not None
    assert tfidf.scores is not None
    assert release.scores is not None
    # billing is 2 of 10: F1 of 4/12, and seven labels occur
    assert majority.scores["category_macro_f1"].estimate == pytest.approx(4 / 12 / 7, abs=1e-6)
    assert majority.scores["missed_handovers"].estimate == 0
    assert tfidf.scores["missed_handovers"].estimate == 0.2
    assert release.scores["exact_match"].estimate == 1
    assert majority.category_brier == pytest.approx((2 * 0.64 + 8 * 0.04) / 10)
    assert release.category_brier is None
    assert (tfidf.latency_p50_ms, tfidf.cost_per_1000, tfidf.unread) == (5.5, 2.0, 1)
    assert [line.split(" | ")[0] for line in table.splitlines() if line.startswith("| ")][:4] == ["| row", "| majority", "| tfidf", "| release"]
    assert "| 100.0 % [" in table


def test_every_row_is_compared_with_the_best_baseline_and_holm_spans_them_all(folder: Path, taxonomy: Taxonomy) -> None:
    ladder, table = _write(folder, taxonomy)
    assert ladder.best_baseline == "tfidf"
    assert [comparison.row for comparison in ladder.comparisons] == ["majority", "release"]
    release = _against(ladder.comparisons, "release").differences["exact_match"]
    assert (release.estimate, release.mcnemar_p) == (0.4, 0.125)
    raw = [each.mcnemar_p for comparison in ladder.comparisons for each in comparison.differences.values() if each.mcnemar_p is not None]
    assert len(raw) == 10
    smallest = min(range(10), key=lambda place: raw[place])
    adjusted = [each.mcnemar_p_holm for comparison in ladder.comparisons for each in comparison.differences.values() if each.mcnemar_p is not None]
    assert adjusted[smallest] == pytest.approx(min(1, 10 * raw[smallest]))
    assert "## Against tfidf, the best baseline" in table
    assert "| release | exact_match | +40.0 [" in table


def test_each_row_gets_its_own_scorecard(folder: Path, taxonomy: Taxonomy) -> None:
    _write(folder, taxonomy)
    for name in ("majority", "tfidf", "release"):
        assert Scorecard.model_validate_json((folder / name / "scorecard.json").read_bytes()).row == name


def test_absent_rows_stand_with_their_reason(folder: Path, taxonomy: Taxonomy) -> None:
    (folder / "absent.json").write_text(json.dumps({"encoder": "not installed | see README"}), encoding="utf-8")
    ladder, table = _write(folder, taxonomy)
    assert ladder.absent == {"encoder": "not installed | see README"}
    assert "| encoder | absent: not installed / see README |" in table
    (folder / "absent.json").write_text("[]", encoding="utf-8")
    with pytest.raises(DatasetError, match=r"absent\.json is not an object"):
        _write(folder, taxonomy)


def test_an_incomplete_row_has_no_numbers_and_is_no_baseline(folder: Path, taxonomy: Taxonomy) -> None:
    answers: list[Answer] = [TicketAnswer(make_ticket(labels)) for labels in TRUTH]
    answers[0] = Failure("timeout")
    write_run(folder / "endpoint_zero_shot", EXAMPLES, answers, taxonomy, row="endpoint_zero_shot")
    ladder, table = _write(folder, taxonomy)
    [row] = [row for row in ladder.rows if row.row == "endpoint_zero_shot"]
    assert (row.scores, row.failed) == (None, 1)
    assert ladder.best_baseline == "tfidf"
    assert all("endpoint_zero_shot" not in (each.row, each.against) for each in ladder.comparisons)
    assert "| endpoint_zero_shot | incomplete |" in table


def test_rows_from_outside_are_a_group_of_their_own(folder: Path, taxonomy: Taxonomy) -> None:
    write_outside(folder / "outside_bank_release", folder / "bank.jsonl", taxonomy)
    ladder, table = _write(folder, taxonomy)
    assert list(ladder.outside) == ["outside_bank_release"]
    assert [row.row for row in ladder.rows] == ["majority", "tfidf", "release"]
    assert "| outside_bank_release | bank | " in table


def test_unfinished_rows_are_left_out_and_an_empty_ladder_is_refused(folder: Path, tmp_path: Path, taxonomy: Taxonomy) -> None:
    (folder / "release" / "run.json").unlink()
    ladder, _ = _write(folder, taxonomy)
    assert [row.row for row in ladder.rows] == ["majority", "tfidf"]
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DatasetError, match="no finished row"):
        write_ladder(empty, EXAMPLES, taxonomy, dataset=DATASET)


def test_a_row_on_another_dataset_or_of_a_name_that_is_taken_is_refused(folder: Path, taxonomy: Taxonomy) -> None:
    write_run(folder / "tfidf-again", EXAMPLES, make_answers(), taxonomy, row="tfidf")
    with pytest.raises(DatasetError, match="are both the row tfidf"):
        _write(folder, taxonomy)
    write_run(folder / "tfidf-again", EXAMPLES, make_answers(), taxonomy, row="other", dataset="e" * 64)
    with pytest.raises(DatasetError, match="about the dataset eeeeeeeeeeee"):
        _write(folder, taxonomy)
