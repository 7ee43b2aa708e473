"""The ladder: rows in order, the best baseline, differences from it, rows that are absent, incomplete or from outside."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eval.columns import load_row
from eval.intervals import holm
from eval.ladder import Ladder, write_ladder
from eval.metrics import HandoverCosts
from eval.scorecard import Scorecard, write_scorecard
from eval.scoring import score_predictions
from tests.test_eval_outside import write_outside
from tests.test_eval_scorecard import DATASET, TRUTH, make_answers, make_examples, make_ticket, write_run
from triage.answer import Answer, Failure, TicketAnswer
from triage.errors import DatasetError
from triage.paths import file_digest
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


def test_a_release_meets_the_best_baseline_of_each_metric(folder: Path, taxonomy: Taxonomy) -> None:
    """The opponent was the best in category macro-F1 for every metric, so a release could beat a weak number in the others."""
    answers: list[Answer] = [TicketAnswer(make_ticket(("billing", *labels[1:]))) for labels in TRUTH]
    write_run(folder / "base_zero_shot", EXAMPLES, answers, taxonomy, row="base_zero_shot")
    ladder, table = _write(folder, taxonomy)
    others = {"urgency_accuracy", "needs_human_accuracy", "next_action_accuracy"}
    whole = {"category_macro_f1", "category_accuracy", "exact_match"}
    assert ladder.best_baselines == dict.fromkeys(others, "base_zero_shot") | dict.fromkeys(whole, "tfidf")
    assert {(each.row, each.against): set(each.differences) for each in ladder.comparisons} == {
        ("release", "tfidf"): whole,
        ("release", "base_zero_shot"): others,
    }
    assert "| release | tfidf | exact_match | +40.0 [" in table
    assert "| release | base_zero_shot | urgency_accuracy | +0.0 [" in table
    assert "its value of that metric is a little too high" in table


def test_only_releases_are_compared_and_only_two_metrics_named_before_have_p_values(folder: Path, taxonomy: Taxonomy) -> None:
    """Holm's family held baselines against each other and six metrics each, and cost the release its own differences."""
    write_run(folder / "candidate", EXAMPLES, make_answers(), taxonomy, row="candidate")
    write_run(folder / "release_free", EXAMPLES, make_answers(), taxonomy, row="release_free", is_free=True)
    ladder, table = _write(folder, taxonomy)
    assert [(each.row, each.against) for each in ladder.comparisons] == [("release", "tfidf"), ("candidate", "tfidf")]
    found = {(each.row, name): difference for each in ladder.comparisons for name, difference in each.differences.items()}
    with_p = [key for key, difference in found.items() if difference.p is not None]
    assert with_p == [(row, name) for row in ("release", "candidate") for name in ("category_macro_f1", "exact_match")]
    assert [found[key].p_holm for key in with_p] == pytest.approx(holm([found[key].p or 0.0 for key in with_p]), abs=1e-6)
    urgency = found["release", "urgency_accuracy"]
    assert urgency.low is not None
    assert (urgency.p_holm, urgency.mcnemar_p, urgency.only_this_right) == (None, None, 2)
    assert "spans the 4 differences of this table that have one, those of category_macro_f1 and exact_match" in table
    assert "can show, alpha 0.05 unadjusted |" in table


def test_rows_and_comparisons_name_their_runs_by_digest(folder: Path, taxonomy: Taxonomy) -> None:
    ladder, _ = _write(folder, taxonomy)
    digests = {name: file_digest(folder / name / "run.json") for name in ("majority", "tfidf", "release")}
    assert {row.row: row.run for row in ladder.rows} == digests
    [comparison] = ladder.comparisons
    assert (comparison.run, comparison.against_run) == (digests["release"], digests["tfidf"])


def test_costs_that_a_row_was_scored_with_are_kept_until_its_run_is_another(folder: Path, taxonomy: Taxonomy) -> None:
    """`triage score --missed-cost 10` was undone by the next ladder, without a word."""
    _write(folder, taxonomy)
    predictions = load_row(folder / "tfidf", EXAMPLES, taxonomy, dataset=DATASET)
    write_scorecard(folder / "tfidf", score_predictions(predictions, EXAMPLES, taxonomy, costs=HandoverCosts(10, 0.5)))
    _write(folder, taxonomy)
    cards = [Scorecard.model_validate_json((folder / name / "scorecard.json").read_bytes()) for name in ("tfidf", "majority")]
    assert [card.after.handover.cost_of_missed for card in cards] == [10, 5]
    write_run(folder / "tfidf", EXAMPLES, make_answers()[::-1], taxonomy, row="tfidf")
    _write(folder, taxonomy)
    assert Scorecard.model_validate_json((folder / "tfidf" / "scorecard.json").read_bytes()).after.handover.cost_of_missed == 5


def test_an_unreadable_scorecard_is_written_anew(folder: Path, taxonomy: Taxonomy) -> None:
    for content in ("[]", "{", '{"after": {}}'):
        (folder / "tfidf" / "scorecard.json").write_text(content, encoding="utf-8")
        _write(folder, taxonomy)
        assert Scorecard.model_validate_json((folder / "tfidf" / "scorecard.json").read_bytes()).row == "tfidf"


def test_a_row_with_answers_to_twins_has_their_scores_and_others_have_none(folder: Path, taxonomy: Taxonomy) -> None:
    path = folder / "injections.jsonl"
    path.write_text(json.dumps({"id": "t0.injected", "twin_of": "t0", "kind": "override", "target": {}}) + "\n", encoding="utf-8")
    write_run(folder / "tfidf" / "twins", EXAMPLES[:1], make_answers()[:1], taxonomy, row="tfidf", dataset=file_digest(path), ids=["t0.injected"])
    write_ladder(folder, EXAMPLES, taxonomy, dataset=DATASET, twins=path, resamples=200)
    cards = [Scorecard.model_validate_json((folder / name / "scorecard.json").read_bytes()) for name in ("tfidf", "release")]
    assert [card.twins is not None for card in cards] == [True, False]


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
    assert set(ladder.best_baselines.values()) == {"tfidf"}
    assert all("endpoint_zero_shot" not in (each.row, each.against) for each in ladder.comparisons)
    assert "| endpoint_zero_shot | incomplete |" in table


def test_rows_from_outside_are_a_group_of_their_own(folder: Path, taxonomy: Taxonomy) -> None:
    write_outside(folder / "outside_bank_release", folder / "bank.jsonl", taxonomy)
    ladder, table = _write(folder, taxonomy)
    assert list(ladder.outside) == ["outside_bank_release"]
    assert [row.row for row in ladder.rows] == ["majority", "tfidf", "release"]
    assert "| outside_bank_release | bank | " in table


def test_an_outside_score_of_another_taxonomy_or_run_is_left_out_with_its_reason(folder: Path, taxonomy: Taxonomy) -> None:
    """An `outside.json` was shown whatever lay beside it, also after the run was made anew."""
    score = write_outside(folder / "outside_bank_release", folder / "bank.jsonl", taxonomy)
    path = folder / "outside_bank_release" / "outside.json"
    for changed, reason in (({"taxonomy": "e" * 64}, "its taxonomy is eeeeeeeeeeee, not"), ({"run": "f" * 64}, "of another run (ffffffffffff)")):
        path.write_text(score.model_copy(update=changed).model_dump_json(), encoding="utf-8")
        ladder, table = _write(folder, taxonomy)
        assert ladder.outside == {}
        assert reason in ladder.outside_left_out["outside_bank_release"]
        assert reason in table
    path.write_text("{}", encoding="utf-8")
    ladder, _ = _write(folder, taxonomy)
    assert "is no outside score" in ladder.outside_left_out["outside_bank_release"]


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
