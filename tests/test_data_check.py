"""The check passes on the project's tickets, and names file and line of each planted fault."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data.build import build_dataset
from data.check import check_dataset
from data.diff import compare_datasets
from data.rules import load_rules
from data.stats import describe_dataset
from data.suspects import find_suspects
from data.tombstones import add_tombstones
from tests.conftest import BILLING, ROOT
from tests.test_data_build import make_candidate
from triage.dataset import SPLITS, load_examples, read_examples
from triage.errors import DatasetError
from triage.taxonomy import Taxonomy, load_taxonomy, parse_taxonomy

Write = Callable[..., Path]
Edit = Callable[[dict[str, Any]], object]
TICKETS = ROOT / "data" / "tickets"


def test_the_projects_tickets_pass(taxonomy: Taxonomy) -> None:
    report = check_dataset(TICKETS, taxonomy)
    assert report.faults == []
    assert all("training tickets: train first" in warning for warning in report.warnings)
    assert report.tickets >= 2_500


@pytest.fixture
def folder(write_lines: Write, taxonomy: Taxonomy, tmp_path: Path) -> Path:
    """A dataset of 40 tickets without a fault, 30 in train and 10 in test, and the default rules beside it."""
    out = tmp_path / "tickets"
    out.mkdir()
    shutil.copy(TICKETS / "rules.toml", out)
    lines = [make_candidate(number, group=f"desk-g{number}", split="test" if number >= 30 else "train") for number in range(40)]
    build_dataset([write_lines("in.jsonl", *lines)], out, taxonomy)
    return out


def _edit(folder: Path, edit: Edit, *, split: str = "train", line: int = 5) -> None:
    path = folder / f"{split}.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines()
    record = json.loads(lines[line - 1])
    edit(record)
    lines[line - 1] = json.dumps(record, ensure_ascii=False)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _of(folder: Path, split: str, line: int) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()[line - 1])
    return record


PLANTED: dict[str, tuple[Edit, str]] = {
    "an unknown key": (lambda record: record.update(mood="bad"), "mood: unknown key"),
    "a label that there is not": (lambda record: record["labels"].update(category="toner"), "labels.category: 'toner' is not one of"),
    "a missing label": (lambda record: record["labels"].pop("urgency"), "labels.urgency: Field required"),
    "a summary that is too long": (lambda record: record["labels"].update(summary="a" * 161), "labels.summary: String should have at most 160"),
    "a summary with personal data": (
        lambda record: record["labels"].update(summary="Write to jo@example.org."),
        "labels.summary holds personal data",
    ),
    "labels that the policy overturns": (
        lambda record: record["labels"].update(category="outage", needs_human=False, next_action="assign_agent"),
        "the policy sends this category to a person",
    ),
    "labels that the guide rules out": (
        lambda record: record["labels"].update(next_action="track_order"),
        "next_action=track_order do not go together",
    ),
    "an unredacted address": (lambda record: record.update(message="write to jo.smith@example.org please"), "holds email; import it again"),
    "an empty message": (lambda record: record.update(message=" "), "message and subject are empty"),
    "a message that repeats itself": (lambda record: record.update(message="call me back right now " * 9), "the message repeats itself"),
    "a provenance nobody knows": (lambda record: record.update(provenance="found somewhere"), "no licence and consent is known"),
    "the split of another file": (lambda record: record.update(split="dev"), "split 'dev' in the file of train"),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_is_named_with_file_and_line(folder: Path, taxonomy: Taxonomy, fault: str) -> None:
    edit, words = PLANTED[fault]
    assert check_dataset(folder, taxonomy).faults == []
    _edit(folder, edit)
    faults = check_dataset(folder, taxonomy).faults
    assert [each for each in faults if each.startswith(f"{folder / 'train.jsonl'}:5: ") and words in each], faults


def test_a_line_that_is_no_json_is_named(folder: Path, taxonomy: Taxonomy) -> None:
    path = folder / "train.jsonl"
    path.write_text(path.read_text(encoding="utf-8").replace("\n", "\n{nonsense\n", 1), encoding="utf-8")
    assert f"{path}:2: not JSON: Expecting property name enclosed in double quotes at character 1" in check_dataset(folder, taxonomy).faults


def test_an_id_that_is_there_twice_is_named(folder: Path, taxonomy: Taxonomy) -> None:
    first = _of(folder, "train", 1)["id"]
    _edit(folder, lambda record: record.update(id=first))
    assert f"{folder / 'train.jsonl'}:5: the id {first!r} is also at {folder / 'train.jsonl'}:1" in check_dataset(folder, taxonomy).faults


def test_a_group_in_two_splits_is_named(folder: Path, taxonomy: Taxonomy) -> None:
    group = _of(folder, "train", 2)["group"]
    _edit(folder, lambda record: record.update(group=group), split="test", line=3)
    expected = f"{folder / 'test.jsonl'}:3: the group {group!r} is also in train, at {folder / 'train.jsonl'}:2"
    assert expected in check_dataset(folder, taxonomy).faults


def test_a_training_ticket_that_nearly_repeats_a_test_ticket_is_named(folder: Path, taxonomy: Taxonomy) -> None:
    message = _of(folder, "train", 2)["message"]
    _edit(folder, lambda record: record.update(message=f"{message} indeed"), split="test", line=3)
    expected = f"{folder / 'test.jsonl'}:3: nearly the same message (Jaccard 0.89) as {folder / 'train.jsonl'}:2, in train"
    assert expected in check_dataset(folder, taxonomy).faults


def test_a_ticket_with_a_tombstone_is_named(folder: Path, taxonomy: Taxonomy) -> None:
    add_tombstones(folder, [_of(folder, "train", 5)["id"]], "asked to be deleted")
    assert any(fault.startswith(f"{folder / 'train.jsonl'}:5: the id ") and "tombstone" in fault for fault in check_dataset(folder, taxonomy).faults)


def test_files_that_the_manifest_does_not_tell_of_are_named(folder: Path, taxonomy: Taxonomy) -> None:
    _edit(folder, lambda record: record["labels"].update(urgency="high"))
    [fault] = check_dataset(folder, taxonomy).faults
    assert fault.startswith(f"{folder / 'manifest.json'}:1: it tells of other files (digest, files, counts)")
    (folder / "manifest.json").unlink()
    assert any("manifest.json:1: there is none" in fault for fault in check_dataset(folder, taxonomy).faults)


def test_twins_of_another_test_split_are_named(folder: Path, taxonomy: Taxonomy) -> None:
    path = folder / "injections.jsonl"
    path.write_text(path.read_text(encoding="utf-8").split("\n", 1)[1], encoding="utf-8")
    [fault] = check_dataset(folder, taxonomy).faults
    assert fault.startswith(f"{path}:1: these are not the injection twins")


def test_a_dataset_of_another_taxonomy_is_named(folder: Path, taxonomy: Taxonomy) -> None:
    other = parse_taxonomy({**taxonomy.model_dump(), "version": "2"}, source="a test")
    assert any(taxonomy.digest[:12] in fault and other.digest[:12] in fault for fault in check_dataset(folder, other).faults)


def test_few_training_tickets_a_missing_split_and_a_doubtful_language_are_warned_of(folder: Path, taxonomy: Taxonomy) -> None:
    text = "Bonjour, je voudrais savoir quand ma commande sera livrée, merci beaucoup"
    _edit(folder, lambda record: record.update(message=text))
    warnings = check_dataset(folder, taxonomy).warnings
    assert "30 training tickets: collect first; under 500 a fine-tune is an experiment" in warnings
    assert "dev is empty; give some groups that split, or collect more" in warnings
    assert any(warning.startswith(f"{folder / 'train.jsonl'}:5: tagged en, reads like fr") for warning in warnings)


def test_the_command_leaves_with_3_when_there_are_faults_and_with_0_when_there_are_none(folder: Path) -> None:
    words = [sys.executable, "-m", "triage", "data", "check", str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "40 tickets, 0 faults" in done.stdout
    _edit(folder, PLANTED["an unknown key"][0])
    done = subprocess.run([*words, "--json"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 3
    assert json.loads(done.stdout)["faults"][0].startswith(f"{folder / 'train.jsonl'}:5: mood")


def test_rules_that_name_labels_which_the_taxonomy_lacks_are_refused(tmp_path: Path, taxonomy: Taxonomy) -> None:
    (tmp_path / "rules.toml").write_text('[[rule]]\nwhen = { category = ["toner"] }\nthen = { urgency = ["p1"] }\nwhy = "x"\n')
    with pytest.raises(DatasetError, match="rule 1: category has no label 'toner'; rule 1: urgency has no label 'p1'"):
        load_rules(tmp_path, taxonomy)


def test_a_label_that_the_rest_does_not_bear_out_is_suspicious(write_lines: Write, taxonomy: Taxonomy) -> None:
    """60 messages about parcels and 60 about bills; one about a parcel is labelled billing."""
    shipping = {**BILLING.model_dump(), "category": "shipping", "next_action": "track_order"}

    def line(number: int) -> dict[str, object]:
        is_parcel = number % 2 == 1
        text = (
            f"my parcel {number} has not arrived, where is the courier"
            if is_parcel
            else f"the invoice {number} shows a wrong amount, please correct the bill"
        )
        labels = shipping if is_parcel and number != 7 else BILLING.model_dump()
        record = {"id": f"t-{number}", "split": "train", "group": f"g{number}", "language": "en", "message": text, "slices": []}
        return {**record, "provenance": "test", "labels": labels}

    path = write_lines("train.jsonl", *(line(number) for number in range(120)))
    placed, _ = read_examples([path], taxonomy)
    found = find_suspects(placed)
    assert {(each.id, each.field, each.likelier) for each in found} == {("t-7", "category", "shipping"), ("t-7", "next_action", "track_order")}
    assert found[0].place == f"{path}:8"


def test_a_diff_tells_every_kind_of_change(folder: Path, taxonomy: Taxonomy, tmp_path: Path) -> None:
    new = tmp_path / "new"
    shutil.copytree(folder, new)
    _edit(new, lambda record: record["labels"].update(urgency="high", summary="Something else."), line=1)
    _edit(new, lambda record: record.update(message="quite another text"), line=2)
    _edit(new, lambda record: record.update(id="desk-new"), line=3)
    ids = [_of(folder, "train", line)["id"] for line in (1, 2, 3)]
    changes = compare_datasets(folder, new, taxonomy).as_dict()
    assert changes == {
        "added": ["desk-new"],
        "removed": [ids[2]],
        "moved": [],
        "relabelled": [f"{ids[0]}: urgency medium -> high"],
        "resummarised": [ids[0]],
        "rewritten": [ids[1]],
        "regrouped": [],
        "retagged": [],
    }


def test_statistics_are_those_counted_by_hand(write_lines: Write, taxonomy: Taxonomy) -> None:
    def line(identifier: str, split: str, message: str, **extra: object) -> dict[str, object]:
        record = {"id": identifier, "split": split, "group": identifier, "language": "en", "message": message, "slices": ["plain"]}
        return {**record, "provenance": "test", "labels": BILLING.model_dump(), **extra}

    rows = [line(f"a{number}", "train", f"where is my order it was due number {number}") for number in range(6)]
    rows += [line("b", "test", "one two", thread=[{"from": "agent", "text": "x"}]), line("c", "test", "one two")]
    described = describe_dataset(load_examples([write_lines("all.jsonl", *rows)], taxonomy))
    assert described["splits"]["train"]["words"] == {"min": 9, "p25": 9, "p50": 9, "p75": 9, "p95": 9, "max": 9}
    assert described["splits"]["test"]["with_thread"] == 0.5
    # each of the six has 5 runs, of which the 4 without its number are in all six
    assert described["repetition"] == {
        "runs_of_5_words": 30,
        "share_in_more_than_5_tickets": round(24 / 30, 6),
        "commonest_opening": "where is my",
        "commonest_opening_share": 0.75,
    }
    assert described["slices"] == {"plain": {"train": 6, "dev": 0, "calibration": 0, "test": 2}}


def test_the_page_of_statistics_needs_no_network(folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "stats.html"
    done = subprocess.run(
        [sys.executable, "-m", "triage", "data", "stats", str(folder), "--out", str(page), "--json"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["tickets"] == 40
    text = page.read_text(encoding="utf-8")
    assert text.count("<svg") == 6  # label fields, channel, language; the tickets carry no slices
    assert "<link" not in text
    assert 'src="http' not in text
    assert "@import" not in text


def test_an_own_taxonomy_goes_through_import_build_check_schema_and_prompt(tmp_path: Path) -> None:
    from triage.prompt import build_prompt
    from triage.ticket import ticket_schema

    example = ROOT / "data" / "examples" / "it_helpdesk"
    inbox, out = tmp_path / "inbox.jsonl", tmp_path / "tickets"
    out.mkdir()
    shutil.copy(example / "rules.toml", out)
    own = ["--taxonomy", str(example / "taxonomy.toml")]
    steps = [
        ["import", str(example / "tickets.csv"), "--mapping", str(example / "mapping.toml"), "--out", str(inbox), *own],
        ["build", str(inbox), "--out", str(out), *own],
        ["check", str(out), *own],
        ["stats", str(out), *own],
    ]
    for step in steps:
        done = subprocess.run([sys.executable, "-m", "triage", "data", *step], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
    taxonomy = load_taxonomy(example / "taxonomy.toml")
    examples = load_examples([out / f"{split}.jsonl" for split in SPLITS], taxonomy)
    assert len(examples) == 60
    assert ticket_schema(taxonomy)["properties"]["urgency"]["enum"] == ["p1", "p2", "p3", "p4"]
    [system, user] = build_prompt(examples[0], taxonomy, kind="zero_shot").messages
    assert all(label in system.content for label in taxonomy.labels("category"))
    assert examples[0].message.split()[0] in user.content
