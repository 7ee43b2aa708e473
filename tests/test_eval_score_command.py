"""`triage score` from files to files: what it writes, prints and compares, and what it refuses with exit code 3."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from scipy import stats
from typer.testing import CliRunner

from eval.columns import load_row
from eval.comparison import adjust, compare
from eval.intervals import holm
from eval.reads import HEAD, LEDGER_PATH
from eval.score_command import score
from eval.scorecard import Scorecard
from tests.test_eval_scorecard import DATASET, TRUTH, make_answers, make_examples, make_ticket, write_run
from triage.answer import Answer, Failure, TicketAnswer
from triage.dataset import Example, render_example
from triage.errors import DatasetError
from triage.paths import file_digest
from triage.taxonomy import Taxonomy

app = typer.Typer()
app.command()(score)


def _write_data(folder: Path, examples: list[Example]) -> str:
    """Write the examples as a dataset of one split and return the digest of its file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{examples[0].split}.jsonl"
    path.write_text("".join(render_example(example) + "\n" for example in examples), encoding="utf-8")
    return file_digest(path)


def _perfect_answers(repeat: int = 1) -> list[Answer]:
    return [TicketAnswer(make_ticket(labels)) for labels in TRUTH * repeat]


def _invoke(*words: str | Path) -> str:
    done = CliRunner().invoke(app, list(map(str, words)), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture
def run(tmp_path: Path, taxonomy: Taxonomy) -> Path:
    """A run on the ten tickets, which lie in `data/dev.jsonl` beside it."""
    examples = make_examples()
    return write_run(tmp_path / "run", examples, make_answers(), taxonomy, dataset=_write_data(tmp_path / "data", examples))


def test_score_writes_the_scorecard_and_prints_both_sides_of_the_policy(tmp_path: Path, run: Path) -> None:
    printed = _invoke(run, "--data", tmp_path / "data")
    card = Scorecard.model_validate_json((run / "scorecard.json").read_bytes())
    assert card.after.exact_match.estimate == 0.6
    assert "fake on dev: 10 messages of 10 authors, 9 triaged, 1 unread, 0 failed" in printed
    [line] = [line for line in printed.splitlines() if line.startswith("needs_human accuracy")]
    assert line.split()[2] == "60.0"
    assert "70.0 %" in line
    assert f"{run / 'scorecard.json'}: written" in printed
    assert not (run / "comparison.json").exists()


def test_json_goes_to_standard_output_alone(tmp_path: Path, run: Path) -> None:
    printed = json.loads(_invoke(run, "--data", tmp_path / "data", "--json", "--missed-cost", "10", "--needless-cost", "0.5"))
    assert printed["comparisons"] == []
    assert printed["scorecard"]["after"]["handover"]["cost_a_ticket"] == 1.1


def test_against_another_run_gives_paired_differences_with_both_tests(tmp_path: Path, run: Path, taxonomy: Taxonomy) -> None:
    examples = make_examples()
    rival = write_run(tmp_path / "rival", examples, _perfect_answers(), taxonomy, row="perfect", dataset=file_digest(tmp_path / "data" / "dev.jsonl"))
    printed = _invoke(run, "--data", tmp_path / "data", "--against", rival)
    [comparison] = json.loads((run / "comparison.json").read_text(encoding="utf-8"))
    assert (comparison["row"], comparison["against"], comparison["n"], comparison["left_out"]) == ("fake", "perfect", 10, 0)
    found = comparison["differences"]
    # t1, t2, t6 and t9 are wrong and the rival has them right: -4/10, and McNemar 2 * (1/2)^4; t2 and t6 miss the category
    assert found["exact_match"]["estimate"] == -0.4
    assert (found["exact_match"]["only_this_right"], found["exact_match"]["only_other_right"]) == (0, 4)
    assert found["exact_match"]["mcnemar_p"] == pytest.approx(0.125)
    # with four messages that differ, t from the bootstrap gave exact match a p of about 0.04, and 0.125 is the least there can be
    assert found["exact_match"]["p"] == pytest.approx(0.125)
    # t2 and t6 are the two in which the category differs: no less than 2 * (1/2)^2
    assert found["category_macro_f1"]["p"] >= 0.5
    assert (found["category_accuracy"]["only_other_right"], found["category_accuracy"]["p"], found["category_accuracy"]["mcnemar_p"]) == (
        2,
        None,
        None,
    )
    assert found["category_accuracy"]["low"] < found["category_accuracy"]["estimate"]
    assert found["category_macro_f1"]["estimate"] == pytest.approx((0.8 + 2 + 3) / 7 - 1, abs=1e-6)
    assert found["category_macro_f1"]["mcnemar_p"] is None
    assert found["exact_match"]["low"] < -0.4 < found["exact_match"]["high"]
    assert found["exact_match"]["smallest_detectable"] > 0
    raw = [each["p"] for each in found.values() if each["p"] is not None]
    assert len(raw) == 2
    assert [each["p_holm"] for each in found.values() if each["p"] is not None] == pytest.approx(holm(raw))
    assert [comparison["run"], comparison["against_run"]] == [file_digest(folder / "run.json") for folder in (run, rival)]
    assert comparison["estimator"] == "estimate ± t[9] × standard error of the paired bootstrap over groups, 2000 resamples, seed 20261122"
    assert "| fake | perfect | exact_match | -40.0 [" in printed
    assert "Where fewer than 10 messages are right with one row alone, p is no less than McNemar's" in printed


def test_a_comparison_leaves_out_what_either_row_failed(tmp_path: Path, taxonomy: Taxonomy) -> None:
    examples = make_examples(repeat=2)
    answers = _perfect_answers(2)
    answers[0] = Failure("timeout")
    folders = [write_run(tmp_path / name, examples, each, taxonomy, row=name) for name, each in (("a", answers), ("b", _perfect_answers(2)))]
    this, other = (load_row(folder, examples, taxonomy, dataset=DATASET) for folder in folders)
    [found] = adjust([compare(this, other, examples, taxonomy)])
    assert (found.n, found.left_out) == (19, 1)
    same = found.differences["exact_match"]
    assert (same.estimate, same.p, same.mcnemar_p, same.smallest_detectable) == (0, 1, 1, None)


def test_from_ten_differing_messages_on_p_is_that_of_the_t_interval(tmp_path: Path, taxonomy: Taxonomy) -> None:
    """Below that it was smaller than the exact test's: five of five in one direction gave about 0.02, and 2 / 32 is the least."""
    examples, right = make_examples(repeat=6), _perfect_answers(6)
    wrong = TicketAnswer(make_ticket(("other", "low", True, "close")))
    for count in (5, 9, 10):
        answers = [wrong if place % 6 == 0 and place < 6 * count else answer for place, answer in enumerate(right)]
        folders = [write_run(tmp_path / name, examples, each, taxonomy, row=name) for name, each in (("a", right), ("b", answers))]
        this, other = (load_row(folder, examples, taxonomy, dataset=DATASET) for folder in folders)
        found = compare(this, other, examples, taxonomy, metrics=["exact_match"]).differences["exact_match"]
        assert (found.only_this_right, found.only_other_right) == (count, 0)
        assert found.p is not None
        assert found.mcnemar_p == pytest.approx(2 * 0.5**count)
        assert found.smallest_detectable is not None
        error = found.smallest_detectable / (stats.t.ppf(0.975, 9) + stats.t.ppf(0.8, 9))
        by_t = 2 * stats.t.sf(found.estimate / error, 9)
        assert found.p == pytest.approx(by_t if count >= 10 else max(by_t, found.mcnemar_p), rel=1e-3)


def test_with_few_groups_a_difference_has_no_interval_but_mcnemar(tmp_path: Path, taxonomy: Taxonomy) -> None:
    examples = make_examples(groups=4)
    folders = [write_run(tmp_path / name, examples, each, taxonomy, row=name) for name, each in (("a", make_answers()), ("b", _perfect_answers()))]
    this, other = (load_row(folder, examples, taxonomy, dataset=DATASET) for folder in folders)
    [found] = adjust([compare(this, other, examples, taxonomy)])
    difference = found.differences["exact_match"]
    assert (difference.estimate, difference.low, difference.p, difference.p_holm, difference.mcnemar_p) == (-0.4, None, None, None, 0.125)


def test_an_incomplete_run_has_no_headline_and_leaves_with_3(tmp_path: Path, taxonomy: Taxonomy) -> None:
    examples, answers = make_examples(), make_answers()
    answers[0] = Failure("unavailable")
    folder = write_run(tmp_path / "run", examples, answers, taxonomy, dataset=_write_data(tmp_path / "data", examples))
    done = CliRunner().invoke(app, [str(folder), "--data", str(tmp_path / "data")], catch_exceptions=False)
    assert done.exit_code == 3
    assert "1 of 10 messages got no answer" in done.output
    assert "accuracy" not in done.output
    with pytest.raises(DatasetError, match="cannot be compared"):
        CliRunner().invoke(app, [str(folder), "--data", str(tmp_path / "data"), "--against", str(folder)], catch_exceptions=False)


def test_a_score_on_the_test_split_is_noted_and_without_a_purpose_refused(tmp_path: Path, taxonomy: Taxonomy) -> None:
    real = LEDGER_PATH.read_bytes()
    examples = make_examples(split="test")
    folder = write_run(tmp_path / "run", examples, make_answers(), taxonomy, dataset=_write_data(tmp_path / "data", examples))
    ledger = tmp_path / "ledger.md"
    with pytest.raises(DatasetError) as raised:
        CliRunner().invoke(app, [str(folder), "--data", str(tmp_path / "data"), "--ledger", str(ledger)], catch_exceptions=False)
    assert "--purpose" in raised.value.hint
    assert not (folder / "scorecard.json").exists()
    _invoke(folder, "--data", tmp_path / "data", "--ledger", ledger, "--purpose", "this test")
    [line] = ledger.read_text(encoding="utf-8").removeprefix(HEAD).splitlines()
    assert line.endswith(f"| triage score {folder} | this test |")
    assert LEDGER_PATH.read_bytes() == real


def test_a_run_on_a_split_that_is_not_there_is_refused(tmp_path: Path, run: Path) -> None:
    (tmp_path / "data" / "dev.jsonl").unlink()
    with pytest.raises(DatasetError, match="has no such split"):
        CliRunner().invoke(app, [str(run), "--data", str(tmp_path / "data")], catch_exceptions=False)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run, data: (data / "dev.jsonl").write_text(render_example(make_examples()[0]) + "\n"), "about the dataset"),
        (lambda run, data: (data / "dev.jsonl").write_text(""), "no examples in"),
        (lambda run, data: (data / "dev.jsonl").write_text("{}\n"), "dev.jsonl:1: "),
        (lambda run, data: (run / "run.json").unlink(), "not a finished run"),
        (lambda run, data: (run / "predictions.jsonl").write_text('{"id": "t0", "status": "triaged"\n'), "predictions.jsonl:1: not JSON"),
        (lambda run, data: (run / "predictions.jsonl").write_text(""), "no prediction for 't0'"),
    ],
)
def test_the_command_line_turns_refusals_into_error_hint_and_exit_code_3(tmp_path: Path, run: Path, damage: object, message: str) -> None:
    damage(run, tmp_path / "data")  # type: ignore[operator]
    words = [sys.executable, "-m", "triage", "score", str(run), "--data", str(tmp_path / "data")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "error: " in done.stderr
    assert message in done.stderr
    assert "hint: " in done.stderr
    assert not (run / "scorecard.json").exists()
