"""Predicting a split: resumed, refused, locked, stopped; nothing is lost and nothing is there twice."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from eval.commands import baseline, predict
from eval.memory import peak_rss_mib, reset_peak_rss
from eval.predict import MOST_FAILURES_IN_A_ROW, PredictReport, predict_split
from eval.predictions import PREDICTIONS_NAME, load_predictions
from eval.questions import Question, load_split, load_twins, to_questions
from eval.rung import Reading, RungCard
from eval.unfinished import PARTIAL_NAME
from tests.chat_server import ChatServer, completion
from tests.conftest import BILLING, ROOT
from triage.answer import Answer, Failure, TicketAnswer
from triage.dataset import Example
from triage.errors import DatasetError, EngineError, RunError, SettingsError
from triage.paths import DEFAULT_TAXONOMY_PATH, EMBEDDED_RELEASE_DIR
from triage.release import verify_release
from triage.run import CODE_VERSION_VARIABLE, read_run_record
from triage.taxonomy import Taxonomy

DATASET = "d" * 64


class FakeRung:
    """Answers as it is told, and remembers the ids it was asked."""

    def __init__(self, reply: Callable[[Question], Answer] | None = None, **card: Any) -> None:
        self.card = RungCard("fake", {"k": 1}, {"train": "e" * 64}, **card)
        self._reply = reply or (lambda _: TicketAnswer(BILLING, {"category": 0.75}))
        self.asked: list[str] = []
        self.prepared = 0

    def prepare(self) -> None:
        self.prepared += 1

    async def read(self, question: Question) -> Reading:
        self.asked.append(question.id)
        await asyncio.sleep(0.002 * (hash(question.id) % 3))
        return Reading(self._reply(question), 7, 3, 0.25)


@pytest.fixture
def examples() -> list[Example]:
    record = {"split": "dev", "group": "g", "language": "en", "slices": [], "provenance": "test", "labels": BILLING.model_dump()}
    return [Example.model_validate({**record, "id": f"m{number}", "message": f"message {number}"}) for number in range(8)]


def _predict(rung: FakeRung, examples: Sequence[Example], out: Path, taxonomy: Taxonomy, **more: Any) -> PredictReport:
    settings = {"dataset": DATASET, "split": "dev", "clock": lambda: 0.0, **more}
    return asyncio.run(predict_split(rung, to_questions(examples), out, taxonomy, **settings))


def test_a_run_holds_a_row_a_message_in_order_and_says_what_it_is(tmp_path: Path, taxonomy: Taxonomy, examples: list[Example]) -> None:
    report = _predict(FakeRung(concurrency=3), examples, tmp_path, taxonomy)
    predictions = load_predictions(tmp_path, examples, taxonomy, dataset=DATASET)
    assert [row.id for row in predictions.rows] == [example.id for example in examples]
    assert (predictions.rows[0].prompt_tokens, predictions.rows[0].output_tokens, predictions.rows[0].cost) == (7, 3, 0.25)
    assert report.record.kind == "predict"
    assert report.record.config == {"row": "fake", "split": "dev", "is_free": False, "k": 1}
    assert report.record.inputs == {"dataset": DATASET, "taxonomy": taxonomy.digest, "train": "e" * 64}
    assert {key: report.record.metrics[key] for key in ("rows", "triaged", "unread", "failed", "asked", "prompt_tokens", "cost")} == {
        "rows": 8,
        "triaged": 8,
        "unread": 0,
        "failed": 0,
        "asked": 8,
        "prompt_tokens": 56,
        "cost": 2.0,
    }
    assert not (tmp_path / PARTIAL_NAME).exists()


def test_a_finished_run_is_not_asked_again_nor_even_made_ready(tmp_path: Path, taxonomy: Taxonomy, examples: list[Example]) -> None:
    _predict(FakeRung(), examples, tmp_path, taxonomy)
    again = FakeRung()
    assert _predict(again, examples, tmp_path, taxonomy).is_old
    assert (again.asked, again.prepared) == ([], 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == [PREDICTIONS_NAME, "run.json"]


def test_a_stopped_run_goes_on_and_its_file_is_that_of_one_that_was_never_stopped(
    tmp_path: Path, taxonomy: Taxonomy, examples: list[Example]
) -> None:
    _predict(FakeRung(), examples, tmp_path / "whole", taxonomy)
    numbers = itertools.count()

    def stop(_: Question) -> Answer:
        if next(numbers) == 5:
            raise EngineError("the key was refused")
        return TicketAnswer(BILLING, {"category": 0.75})

    with pytest.raises(EngineError):
        _predict(FakeRung(stop), examples, tmp_path / "stopped", taxonomy)
    partial = tmp_path / "stopped" / PARTIAL_NAME
    partial.write_bytes(partial.read_bytes()[:-20])  # as a kill in the middle of a line leaves it
    rung = FakeRung(concurrency=4)
    report = _predict(rung, examples, tmp_path / "stopped", taxonomy)
    assert (report.resumed, sorted(rung.asked)) == (4, ["m4", "m5", "m6", "m7"])
    assert (tmp_path / "stopped" / PREDICTIONS_NAME).read_bytes() == (tmp_path / "whole" / PREDICTIONS_NAME).read_bytes()


def test_a_failed_row_is_counted_apart_and_asked_again_by_the_same_command(tmp_path: Path, taxonomy: Taxonomy, examples: list[Example]) -> None:
    flaky = FakeRung(lambda question: Failure("unavailable", "HTTP 503") if question.id in ("m2", "m5") else TicketAnswer(BILLING))
    report = _predict(flaky, examples, tmp_path, taxonomy)
    assert (report.failed, report.record.metrics["failed_because"]) == (2, "HTTP 503 (2 times)")
    [row] = [row for row in load_predictions(tmp_path, examples, taxonomy, dataset=DATASET).rows if row.id == "m2"]
    assert (row.status, row.after, row.prompt_tokens) == ("failed", None, 0)
    mended = FakeRung()
    report = _predict(mended, examples, tmp_path, taxonomy)
    assert (mended.asked, report.failed, report.resumed) == (["m2", "m5"], 0, 6)
    assert "failed_because" not in report.record.metrics


def test_a_wrong_answer_of_the_model_is_unread_and_keeps_its_tokens(tmp_path: Path, taxonomy: Taxonomy, examples: list[Example]) -> None:
    rung = FakeRung(lambda _: Failure("invalid", "not JSON: JSONDecodeError"), is_prompted=True)
    report = _predict(rung, examples, tmp_path, taxonomy)
    row = load_predictions(tmp_path, examples, taxonomy, dataset=DATASET).rows[0]
    assert (report.failed, row.status, row.valid_json, row.valid_ticket, row.prompt_tokens) == (0, "unread", False, False, 7)


def test_a_message_too_long_for_free_writing_was_not_valid_json(tmp_path: Path, taxonomy: Taxonomy, examples: list[Example]) -> None:
    """It once counted as valid JSON, because its detail is none of those that say otherwise."""
    _predict(FakeRung(lambda _: Failure("too_long", "900 prompt tokens"), is_prompted=True), examples, tmp_path, taxonomy)
    assert load_predictions(tmp_path, examples, taxonomy, dataset=DATASET).rows[0].valid_json is False


@pytest.mark.parametrize("is_finished", [True, False])
def test_another_run_in_the_folder_is_refused_naming_both(tmp_path: Path, taxonomy: Taxonomy, examples: list[Example], is_finished: bool) -> None:
    def refuse(_: Question) -> Answer:
        raise EngineError("stop")

    if is_finished:
        _predict(FakeRung(), examples, tmp_path, taxonomy)
    else:
        with pytest.raises(EngineError):
            _predict(FakeRung(refuse), examples, tmp_path, taxonomy)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    other = FakeRung()
    other.card = RungCard("fake", {"k": 2}, other.card.inputs)
    with pytest.raises(DatasetError, match=r"k is 1 there and 2 here; dataset is dddddddddddd there and ffffffffffff here"):
        _predict(other, examples, tmp_path, taxonomy, dataset="f" * 64)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_finished_run_of_another_version_of_the_code_is_kept_and_said_to_be(
    tmp_path: Path, taxonomy: Taxonomy, examples: list[Example], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(CODE_VERSION_VARIABLE, "one")
    _predict(FakeRung(lambda question: Failure("timeout") if question.id == "m2" else TicketAnswer(BILLING)), examples, tmp_path, taxonomy)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setenv(CODE_VERSION_VARIABLE, "two")
    again = FakeRung()
    report = _predict(again, examples, tmp_path, taxonomy)
    assert (report.is_old, report.is_current, report.failed, again.asked) == (True, False, 1, [])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert "made by another version of the code (one); remove the folder to run it anew" in capsys.readouterr().err


def test_an_unfinished_run_of_another_version_of_the_code_is_begun_anew(
    tmp_path: Path, taxonomy: Taxonomy, examples: list[Example], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows of two versions of the code once stood in one file, which named the later version alone."""
    numbers = itertools.count()

    def stop(_: Question) -> Answer:
        if next(numbers) == 5:
            raise EngineError("the key was refused")
        return TicketAnswer(BILLING)

    monkeypatch.setenv(CODE_VERSION_VARIABLE, "one")
    with pytest.raises(EngineError):
        _predict(FakeRung(stop), examples, tmp_path, taxonomy)
    monkeypatch.setenv(CODE_VERSION_VARIABLE, "two")
    rung = FakeRung()
    report = _predict(rung, examples, tmp_path, taxonomy)
    assert (report.resumed, len(rung.asked), report.record.code_version) == (0, 8, "two")
    assert "begun by another version of the code (one), so it is begun anew" in capsys.readouterr().err


def _flaky(question: Question) -> Answer:
    return Failure("unavailable", "HTTP 503") if question.id in ("m2", "m5") else TicketAnswer(BILLING)


def test_a_run_with_failed_rows_stays_until_another_replaces_it(tmp_path: Path, taxonomy: Taxonomy, examples: list[Example]) -> None:
    """Its run.json was removed first, so a stop in between cost a finished run."""
    _predict(FakeRung(_flaky), examples, tmp_path, taxonomy)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def refuse(question: Question) -> Answer:
        if question.id == "m5":
            raise EngineError("the key was refused")
        return TicketAnswer(BILLING)

    with pytest.raises(EngineError):
        _predict(FakeRung(refuse), examples, tmp_path, taxonomy)
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    mended = FakeRung()
    report = _predict(mended, examples, tmp_path, taxonomy)
    assert (mended.asked, report.failed, report.resumed) == (["m5"], 0, 7)


@pytest.mark.parametrize("reply", [_flaky, None])
def test_a_finished_run_whose_rows_were_changed_is_refused(
    tmp_path: Path, taxonomy: Taxonomy, examples: list[Example], reply: Callable[[Question], Answer] | None
) -> None:
    _predict(FakeRung(reply), examples, tmp_path, taxonomy)
    path = tmp_path / PREDICTIONS_NAME
    path.write_text(path.read_text().replace("billing", "bug", 1))
    for words in (r"predictions\.jsonl is not the file that its run\.json names", r"predictions\.jsonl is missing"):
        with pytest.raises(DatasetError, match=words):
            _predict(FakeRung(), examples, tmp_path, taxonomy)
        assert not (tmp_path / PARTIAL_NAME).exists()
        path.unlink(missing_ok=True)


def test_a_damaged_line_is_named_with_its_file_and_number(tmp_path: Path, taxonomy: Taxonomy, examples: list[Example]) -> None:
    """It was an exception of pydantic, or `not a file of unfinished predictions` for one bad byte in thousands of rows."""

    def stop(question: Question) -> Answer:
        if question.id == "m5":
            raise EngineError("the key was refused")
        return TicketAnswer(BILLING)

    with pytest.raises(EngineError):
        _predict(FakeRung(stop), examples, tmp_path, taxonomy)
    partial = tmp_path / PARTIAL_NAME
    lines = partial.read_bytes().split(b"\n")
    lines[3] = lines[3][:40]
    partial.write_bytes(b"\n".join(lines))
    with pytest.raises(DatasetError, match=r"1 damaged lines .*\n.*predictions\.partial\.jsonl:4: not a row"):
        _predict(FakeRung(), examples, tmp_path, taxonomy)
    assert partial.read_bytes() == b"\n".join(lines)


def test_a_file_of_another_kind_is_refused_and_left_alone(tmp_path: Path, taxonomy: Taxonomy, examples: list[Example]) -> None:
    for content in (b"my notes\n", b'{"run": 1}\n', b"[]\n"):
        (tmp_path / PARTIAL_NAME).write_bytes(content)
        with pytest.raises(DatasetError):
            _predict(FakeRung(), examples, tmp_path, taxonomy)
        assert (tmp_path / PARTIAL_NAME).read_bytes() == content


def test_a_second_run_is_kept_out_while_the_first_is_writing(tmp_path: Path, taxonomy: Taxonomy, examples: list[Example]) -> None:
    async def both() -> None:
        questions = to_questions(examples)
        first = asyncio.create_task(predict_split(FakeRung(), questions, tmp_path, taxonomy, dataset=DATASET, split="dev"))
        await asyncio.sleep(0)
        with pytest.raises(DatasetError, match="another run is writing"):
            await predict_split(FakeRung(), questions, tmp_path, taxonomy, dataset=DATASET, split="dev")
        assert (await first).failed == 0

    asyncio.run(both())


def test_an_empty_split_is_refused(tmp_path: Path, taxonomy: Taxonomy) -> None:
    with pytest.raises(DatasetError, match="nothing to predict: the dev split is empty"):
        _predict(FakeRung(), [], tmp_path, taxonomy)


def test_a_rung_that_never_answers_stops_the_run_and_says_why(tmp_path: Path, taxonomy: Taxonomy, examples: list[Example]) -> None:
    many = [example.model_copy(update={"id": f"{example.id}.{copy}"}) for example in examples for copy in range(4)]
    rung = FakeRung(lambda _: Failure("unavailable", "the connection failed: ConnectError"))
    with pytest.raises(RunError, match=r"20 messages in a row got no answer from fake: the connection failed: ConnectError \(20 times\)"):
        _predict(rung, many, tmp_path, taxonomy)
    assert len(rung.asked) == MOST_FAILURES_IN_A_ROW
    assert not (tmp_path / "run.json").exists()


def test_rows_an_equal_rung_has_made_are_taken_over(tmp_path: Path, taxonomy: Taxonomy, examples: list[Example]) -> None:
    _predict(FakeRung(), examples, tmp_path / "first", taxonomy)
    known = load_predictions(tmp_path / "first", examples, taxonomy, dataset=DATASET).rows
    rung = FakeRung()
    _predict(rung, examples, tmp_path / "second", taxonomy, known=known)
    assert (rung.asked, rung.prepared) == ([], 0)
    assert (tmp_path / "second" / PREDICTIONS_NAME).read_bytes() == (tmp_path / "first" / PREDICTIONS_NAME).read_bytes()


def test_a_killed_endpoint_run_goes_on_to_the_rows_of_one_that_was_not(tmp_path: Path, taxonomy: Taxonomy, examples: list[Example]) -> None:
    lines = [json.dumps(example.model_dump(by_alias=True, exclude_none=True, exclude={"metadata", "no_training"})) for example in examples]
    (tmp_path / "data").mkdir()
    for name, split in (("train", "train"), ("dev", "dev")):
        (tmp_path / "data" / f"{name}.jsonl").write_text("".join(line.replace('"dev"', f'"{split}"') + "\n" for line in lines))
    answers = {example.message: ("low", "medium", "high", "critical")[place % 4] for place, example in enumerate(examples)}

    def reply(body: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
        time.sleep(0.15)
        return completion(BILLING.model_copy(update={"urgency": answers[body["messages"][-1]["content"]]}))

    with ChatServer(reply) as server:

        def start(out: Path) -> subprocess.Popen[bytes]:
            options = ["--data", "data", "--rows", "endpoint_zero_shot", "--out", str(out), "--endpoint", server.url, "--model", "m"]
            code = "import sys, typer; from eval.commands import baseline; typer.run(baseline)"
            environment = {**os.environ, "PYTHONPATH": str(ROOT), "TRIAGE_EVAL_API_KEY": "k"}
            command = [sys.executable, "-c", code, *options]
            return subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

        killed = start(tmp_path / "killed")
        partial = tmp_path / "killed" / "endpoint_zero_shot" / PARTIAL_NAME
        end = time.monotonic() + 60
        while time.monotonic() < end and (not partial.exists() or partial.read_bytes().count(b"\n") < 3):
            time.sleep(0.01)
        os.kill(killed.pid, signal.SIGKILL)
        killed.communicate(timeout=30)
        assert 3 <= partial.read_bytes().count(b"\n") < 9
        done = len(server.bodies)
        for out in ("killed", "whole"):
            process = start(tmp_path / out)
            _, errors = process.communicate(timeout=90)
            assert process.returncode == 0, errors.decode()
        assert len(server.bodies) - done < 16  # not everything was asked a second time
    rows = {}
    for out in ("killed", "whole"):
        folder = tmp_path / out / "endpoint_zero_shot"
        assert read_run_record(folder).metrics["failed"] == 0
        rows[out] = [{**json.loads(line), "latency_ms": 0} for line in (folder / PREDICTIONS_NAME).read_text().splitlines()]
    assert rows["killed"] == rows["whole"]
    assert [row["id"] for row in rows["whole"]] == [example.id for example in examples]


@pytest.fixture
def run_command(tmp_path: Path, examples: list[Example]) -> Callable[..., Result]:
    """Run one of the room's commands on a small dataset."""
    lines = [json.dumps(example.model_dump(by_alias=True, exclude_none=True, exclude={"metadata", "no_training"})) for example in examples]
    for split in ("train", "dev"):
        (tmp_path / f"{split}.jsonl").write_text("".join(line.replace('"dev"', f'"{split}"') + "\n" for line in lines))

    def run(function: Callable[..., None], *options: str) -> Result:
        app = typer.Typer()
        app.command()(function)
        return CliRunner().invoke(app, ["--data", str(tmp_path), "--out", str(tmp_path / "out"), *options])

    return run


def test_predict_writes_what_the_release_says_and_says_where(run_command: Callable[..., Result], tmp_path: Path) -> None:
    done = run_command(predict)
    assert (done.exit_code, "out: 8 triaged, 0 unread, 0 failed of 8, done" in done.output) == (0, True), done.output
    assert read_run_record(tmp_path / "out").config["row"] == verify_release(EMBEDDED_RELEASE_DIR).manifest.name
    assert "was there already" in run_command(predict).output


def test_a_release_can_be_named_for_tables(run_command: Callable[..., Result], tmp_path: Path) -> None:
    """Two releases side by side were both the row `release`."""
    assert run_command(predict, "--name", "mine").exit_code == 0
    assert read_run_record(tmp_path / "out").config["row"] == "mine"


def test_baseline_runs_what_it_can_says_what_is_absent_and_writes_the_ladder(run_command: Callable[..., Result], tmp_path: Path) -> None:
    done = run_command(baseline, "--rows", "majority,base_zero_shot,endpoint_few_shot", "--base", str(tmp_path / "none"))
    assert done.exit_code == 0, done.output
    for words in ("majority: 8 triaged", "base_zero_shot: absent, the untuned base is not in", "endpoint_few_shot: absent, no endpoint is named"):
        assert words in done.output
    assert set(json.loads((tmp_path / "out" / "absent.json").read_text())) == {"base_zero_shot", "endpoint_few_shot"}
    assert (tmp_path / "out" / "ladder.md").is_file()


def test_one_rows_fault_costs_no_other_and_absent_rows_stay_noted(run_command: Callable[..., Result], tmp_path: Path) -> None:
    """A refused key, or a folder that holds another run, once cost the whole ladder."""
    run_command(baseline, "--rows", "base_zero_shot", "--base", str(tmp_path / "none"))
    folder = tmp_path / "out" / "tfidf"
    folder.mkdir(parents=True)
    (folder / PARTIAL_NAME).write_text("somebody else's notes\n")
    done = run_command(baseline, "--rows", "tfidf,majority")
    assert done.exit_code == 3
    assert "tfidf: stopped," in done.output
    assert "majority" in (tmp_path / "out" / "ladder.md").read_text()
    assert set(json.loads((tmp_path / "out" / "absent.json").read_text())) == {"base_zero_shot"}


def test_when_every_row_is_stopped_the_ladder_is_still_that_of_the_finished_ones(run_command: Callable[..., Result], tmp_path: Path) -> None:
    assert run_command(baseline, "--rows", "majority").exit_code == 0
    (tmp_path / "out" / "ladder.md").unlink()
    done = run_command(baseline, "--rows", "release", "--release", str(tmp_path / "none"))
    assert (done.exit_code, "release: stopped," in done.output) == (3, True), done.output
    assert "majority" in (tmp_path / "out" / "ladder.md").read_text()


def test_an_endpoint_that_cannot_be_used_is_refused_with_every_fault(run_command: Callable[..., Result]) -> None:
    """A port out of range once got as far as a row, and one price alone gave no cost without a word."""
    for options, words in (
        (["--endpoint", "http://a:70000/v1", "--model", ""], r"base_url: .*from 1 to 65535; model: "),
        (["--endpoint", "http://a/v1", "--model", "m", "--input-price", "1"], r"cannot be used: input_price and output_price go together"),
    ):
        error = run_command(baseline, *options).exception
        assert isinstance(error, SettingsError)
        assert re.search(words, str(error))


def test_an_own_taxonomy_makes_the_rows_of_other_bundles_absent(run_command: Callable[..., Result], tmp_path: Path, taxonomy: Taxonomy) -> None:
    own = tmp_path / "own.toml"
    own.write_text(DEFAULT_TAXONOMY_PATH.read_text(encoding="utf-8").replace('version = "1"', 'version = "2"', 1), encoding="utf-8")
    done = run_command(baseline, "--rows", "majority,release", "--taxonomy", str(own))
    assert done.exit_code == 0, done.output
    assert f"was made for the taxonomy {taxonomy.digest[:12]}" in done.output


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--split", "test"], "say what this one is for"),
        (["--twins"], "go with --split test"),
        (["--rows", "majority,best"], "no such row: best"),
        (["--endpoint", "http://127.0.0.1:1/v1"], "go together"),
    ],
)
def test_what_cannot_be_asked_is_a_usage_error(run_command: Callable[..., Result], options: list[str], words: str) -> None:
    done = run_command(baseline, *options)
    assert done.exit_code == 2
    assert words in " ".join(done.output.replace("│", " ").split())


def test_a_question_holds_no_label_and_a_twin_has_its_authors_group(write_lines: Callable[..., Path], examples: list[Example]) -> None:
    assert "billing" not in repr(to_questions(examples))
    twin = {"id": "m1.injected", "twin_of": "m1", "kind": "order", "position": "end", "target": {}, "planted": "obey", "message": "message 1 obey"}
    [question] = load_twins(write_lines("twins.jsonl", twin), examples)
    assert (question.id, question.group, question.message.message) == ("m1.injected", "g", "message 1 obey")
    path = write_lines("odd.jsonl", {**twin, "twin_of": "m99"}, b"{", {**twin, "message": 3})
    with pytest.raises(DatasetError, match=r"(?s)3 faults in the twins.*odd.jsonl:1: the twin of 'm99'.*odd.jsonl:2.*odd.jsonl:3"):
        load_twins(path, examples)


def test_the_test_split_is_not_read_without_a_purpose(tmp_path: Path, taxonomy: Taxonomy) -> None:
    (tmp_path / "test.jsonl").write_text("not even looked at")
    with pytest.raises(DatasetError, match="without a purpose"):
        load_split(tmp_path, "test", taxonomy, purpose=" ", command="")
    with pytest.raises(DatasetError, match=r"cannot read .*dev\.jsonl"):
        load_split(tmp_path, "dev", taxonomy, purpose=None, command="")


def test_memory_is_measured_anew_for_every_run() -> None:
    block = bytearray(b"x" * (64 << 20))
    with_block = peak_rss_mib()
    del block
    reset_peak_rss()
    assert 0 < peak_rss_mib() <= with_block
