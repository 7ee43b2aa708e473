"""Examples in, faults with file and line, and the project's own tickets."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from data.manifest import split_paths
from tests.conftest import BILLING, ROOT
from training.embedded_base.check_protected import REPORT_PATH, protected_messages
from triage.dataset import dataset_digest, load_examples
from triage.errors import DatasetError
from triage.paths import text_digest
from triage.prompt import instructions
from triage.shingles import is_near_any, jaccard, word_shingles
from triage.taxonomy import Taxonomy

Write = Callable[..., Path]
TICKETS = split_paths(ROOT / "data" / "tickets")


def _record(identifier: str = "a-1", **changes: object) -> dict[str, object]:
    record: dict[str, object] = {"id": identifier, "split": "train", "group": "a", "language": "en", "message": "I was charged twice."}
    return {**record, "slices": ["plain"], "provenance": "a test", "labels": BILLING.model_dump(), **changes}


def test_good_lines_are_read_whatever_their_line_ends_and_byte_order_mark(write_lines: Write, taxonomy: Taxonomy) -> None:
    path = write_lines("good.jsonl", b"\xef\xbb\xbf" + json.dumps(_record()).encode() + b"\r", b"", _record("a-2"))
    assert [example.id for example in load_examples([path], taxonomy)] == ["a-1", "a-2"]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b"{not json", r"bad\.jsonl:2: not JSON: Expecting property name"),
        (b'"text"', r"bad\.jsonl:2: not an object, but a str"),
        (b'{"id": "\xff"}', r"bad\.jsonl:2: not UTF-8"),
        (b"[" * 100_000, r"bad\.jsonl:2: not JSON: nested too deeply"),
        (_record("a-2", nonsense=1), r"bad\.jsonl:2: nonsense: unknown key"),
        (_record("a-2", split="valid"), r"bad\.jsonl:2: split: "),
        (_record("a-1"), r"bad\.jsonl:2: the id 'a-1' is also at .*bad\.jsonl:1"),
        (
            _record("a-2", labels=BILLING.model_dump() | {"category": "nonsense"}),
            r"bad\.jsonl:2: labels\.category: 'nonsense' is not one of billing",
        ),
        (_record("a-2", labels={"category": "billing"}), r"bad\.jsonl:2: labels\.urgency: Field required"),
    ],
)
def test_a_bad_line_is_named_with_file_and_line(write_lines: Write, taxonomy: Taxonomy, line: object, fault: str) -> None:
    with pytest.raises(DatasetError, match=fault):
        load_examples([write_lines("bad.jsonl", _record(), line)], taxonomy)


def test_all_faults_are_collected_before_anything_is_raised(write_lines: Write, taxonomy: Taxonomy) -> None:
    with pytest.raises(DatasetError, match=r"30 faults(.|\n)*and 10 more"):
        load_examples([write_lines("bad.jsonl", *[b"nonsense"] * 30)], taxonomy)


def test_an_empty_file_and_a_missing_one_are_refused(write_lines: Write, taxonomy: Taxonomy, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no examples in"):
        load_examples([write_lines("empty.jsonl")], taxonomy)
    with pytest.raises(DatasetError, match="cannot read"):
        load_examples([tmp_path / "none.jsonl"], taxonomy)


def test_a_datasets_digest_follows_its_content_and_not_its_folder(write_lines: Write, tmp_path: Path) -> None:
    path = write_lines("one.jsonl", _record())
    copy = tmp_path / "elsewhere" / "one.jsonl"
    copy.parent.mkdir()
    copy.write_bytes(path.read_bytes())
    assert dataset_digest([path]) == dataset_digest([copy])
    copy.write_bytes(path.read_bytes() + b"\n")
    assert dataset_digest([path]) != dataset_digest([copy])


def test_shingles_and_their_similarity_are_those_computed_by_hand() -> None:
    left, right = word_shingles("The cat sat on the mat."), word_shingles("the CAT sat on a mat")
    assert left == {("the", "cat", "sat"), ("cat", "sat", "on"), ("sat", "on", "the"), ("on", "the", "mat")}
    assert jaccard(left, right) == pytest.approx(2 / 6)
    assert word_shingles("hi there") == {("hi", "there")}
    assert jaccard(word_shingles(""), word_shingles("")) == 0


@pytest.mark.parametrize("path", TICKETS, ids=lambda path: path.name)
def test_the_projects_tickets_obey_the_record_and_the_taxonomy(path: Path, taxonomy: Taxonomy) -> None:
    examples = load_examples([path], taxonomy)
    assert {example.split for example in examples} == {path.stem}


def test_no_group_lies_in_two_splits(taxonomy: Taxonomy) -> None:
    where: dict[str, set[str]] = {}
    for example in load_examples(TICKETS, taxonomy):
        where.setdefault(example.group, set()).add(example.split)
    assert [group for group, splits in where.items() if len(splits) > 1] == []


def test_there_are_at_least_200_training_tickets_by_many_people(taxonomy: Taxonomy) -> None:
    examples = load_examples([ROOT / "data" / "tickets" / "train.jsonl"], taxonomy)
    assert len(examples) >= 200
    assert len({example.group for example in examples}) >= 70
    assert len({example.labels.category for example in examples}) == 11


def test_no_training_ticket_nearly_repeats_a_message_people_try(taxonomy: Taxonomy) -> None:
    protected = [word_shingles(text) for text in protected_messages()]
    assert len(protected) >= 30
    examples = load_examples([ROOT / "data" / "tickets" / "train.jsonl"], taxonomy)
    assert [example.id for example in examples if is_near_any(word_shingles(example.message), protected)] == []


def test_no_pretraining_text_nearly_repeats_a_message_people_try() -> None:
    """The corpus is not in the repository; what was compared with it is. A message that is new here asks for a new run."""
    report = json.loads(REPORT_PATH.read_text(encoding="utf-8"))
    assert report["near"] == []
    assert {text_digest(text) for text in protected_messages()} <= set(report["messages"]), "run training.embedded_base.check_protected"


def test_no_prompt_holds_a_message_people_try(taxonomy: Taxonomy) -> None:
    """The untuned prompt tells labels and their meanings; none of its lines is a message of demo, README, guide or blind set."""
    protected = [word_shingles(text) for text in protected_messages()]
    lines = instructions(taxonomy).splitlines()
    assert len(lines) > 25
    assert [line for line in lines if is_near_any(word_shingles(line), protected)] == []
