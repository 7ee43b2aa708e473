"""Candidates become a dataset that stays what it is: splits for ever, no near-duplicate, nothing deleted comes back."""

from __future__ import annotations

import fcntl
import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data.build import build_dataset, forget_tickets
from data.duplicates import find_near_pairs, repeated_share, repeats_itself
from data.manifest import load_manifest, split_paths
from data.split import SHARES, assign_split
from data.tombstones import add_tombstones, load_tombstones
from tests.conftest import BILLING
from triage.dataset import dataset_digest, load_examples
from triage.errors import DatasetError
from triage.shingles import jaccard, word_shingles
from triage.taxonomy import Taxonomy, parse_taxonomy

Write = Callable[..., Path]
WORDS = [f"word{number}" for number in range(900)]


def make_candidate(number: int, **changes: object) -> dict[str, Any]:
    """A candidate whose text is like no other's."""
    message = " ".join(random.Random(number).sample(WORDS, 12))
    record = {"id": f"desk-{number}", "group": f"desk-g{number // 3}", "language": "en", "message": message, "provenance": "desk"}
    return {**record, "licence": "internal", "consent": "contract", "labels": BILLING.model_dump(), **changes}


def _splits(folder: Path, taxonomy: Taxonomy) -> dict[str, str]:
    return {example.id: example.split for example in load_examples(split_paths(folder), taxonomy)}


def _bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _reasons(folder: Path) -> dict[str, str]:
    path = folder.with_name(f"{folder.name}.rejected.jsonl")
    return {record["id"]: record["reason"] for record in map(json.loads, path.read_text(encoding="utf-8").splitlines())}


def test_building_twice_gives_the_same_bytes(write_lines: Write, taxonomy: Taxonomy, tmp_path: Path) -> None:
    inbox = write_lines("in.jsonl", *(make_candidate(number) for number in range(120)))
    one, two = tmp_path / "one", tmp_path / "two"
    first = build_dataset([inbox], one, taxonomy)
    build_dataset([inbox], two, taxonomy)
    assert _bytes(one) == _bytes(two)
    before = _bytes(one)
    again = build_dataset([inbox], one, taxonomy)
    assert (first.added, again.added, again.unchanged) == (120, 0, 120)
    assert _bytes(one) == before
    assert first.manifest.digest == dataset_digest(split_paths(one))


def test_adding_a_hundred_records_moves_no_id(write_lines: Write, taxonomy: Taxonomy, tmp_path: Path) -> None:
    out = tmp_path / "out"
    build_dataset([write_lines("a.jsonl", *(make_candidate(number) for number in range(100)))], out, taxonomy)
    before = _splits(out, taxonomy)
    build_dataset([write_lines("b.jsonl", *(make_candidate(number) for number in range(100, 200)))], out, taxonomy)
    after = _splits(out, taxonomy)
    assert len(after) == 200
    assert {identifier: after[identifier] for identifier in before} == before
    fresh = tmp_path / "fresh"
    build_dataset([tmp_path / "b.jsonl", tmp_path / "a.jsonl"], fresh, taxonomy)
    assert _splits(fresh, taxonomy) == after


def test_groups_stay_whole_and_new_tickets_join_theirs(write_lines: Write, taxonomy: Taxonomy, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = make_candidate(1, group="desk-a", split="test")
    build_dataset([write_lines("a.jsonl", first)], out, taxonomy)
    wrong = make_candidate(3, group="desk-a", split="train")
    report = build_dataset([write_lines("b.jsonl", make_candidate(2, group="desk-a"), wrong)], out, taxonomy)
    assert _splits(out, taxonomy) == {"desk-1": "test", "desk-2": "test"}
    assert report.rejected == 1
    assert _reasons(out) == {"desk-3": "split train, but its group 'desk-a' lies in test"}


def test_a_groups_split_is_told_by_its_name_alone_and_meets_the_shares() -> None:
    assert assign_split("desk-g812c5ca6fa9e") == assign_split("desk-g812c5ca6fa9e")
    found = [assign_split(f"group {number}") for number in range(20_000)]
    for split, share in SHARES.items():
        assert found.count(split) / len(found) == pytest.approx(share, abs=0.012)


def test_a_deleted_id_never_comes_back(write_lines: Write, taxonomy: Taxonomy, tmp_path: Path) -> None:
    out = tmp_path / "out"
    inbox = write_lines("a.jsonl", *(make_candidate(number) for number in range(10)))
    build_dataset([inbox], out, taxonomy)
    assert add_tombstones(out, ["desk-4", "desk-4"], "asked to be deleted") == ["desk-4"]
    assert add_tombstones(out, ["desk-4"], "again") == []
    report = build_dataset([], out, taxonomy)
    assert (report.removed["tombstone"], report.manifest.tombstones) == (1, 1)
    assert build_dataset([inbox], out, taxonomy).added == 0
    assert "desk-4" not in _splits(out, taxonomy)
    assert _reasons(out)["desk-4"] == "it was deleted: its id has a tombstone"
    assert load_tombstones(out) == {"desk-4"}


def test_a_tombstone_that_cannot_be_read_stops_the_build(write_lines: Write, taxonomy: Taxonomy, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "tombstones.jsonl").write_text('{"id": "a"}\nnonsense\n')
    with pytest.raises(DatasetError, match=r"tombstones\.jsonl:2"):
        build_dataset([write_lines("a.jsonl", make_candidate(1))], out, taxonomy)


def test_of_near_duplicates_the_test_ticket_stays(write_lines: Write, taxonomy: Taxonomy, tmp_path: Path) -> None:
    out = tmp_path / "out"
    text = " ".join(WORDS[:30])
    first = make_candidate(1, group="desk-a", split="train", message=text)
    build_dataset([write_lines("a.jsonl", first, make_candidate(3))], out, taxonomy)
    second = make_candidate(2, group="desk-b", split="test", message=f"{text} indeed")
    report = build_dataset([write_lines("b.jsonl", second)], out, taxonomy)
    assert {"desk-2", "desk-3"} == set(_splits(out, taxonomy))
    assert report.removed["near-duplicate"] == 1
    assert _reasons(out)["desk-1"].startswith("nearly the same (Jaccard 0.96) as 'desk-2' in test")


def test_a_pair_that_is_meant_to_look_alike_stays(write_lines: Write, taxonomy: Taxonomy, tmp_path: Path) -> None:
    text, other = " ".join(WORDS[:30]), {**BILLING.model_dump(), "urgency": "high"}
    pair = [
        make_candidate(1, group="desk-a", message=text, slices=["look_alike_pair"]),
        make_candidate(2, group="desk-a", message=f"{text} today", slices=["look_alike_pair"], labels=other),
    ]
    assert build_dataset([write_lines("a.jsonl", *pair)], tmp_path / "one", taxonomy).rejected == 0
    untagged = [{**each, "slices": []} for each in pair]
    assert build_dataset([write_lines("b.jsonl", *untagged)], tmp_path / "two", taxonomy).rejected == 1
    assert "with other labels" in _reasons(tmp_path / "two")["desk-2"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"labels": {"category": "billing"}}, "no label for urgency, needs_human, next_action, summary"),
        ({"labels": {**BILLING.model_dump(), "urgency": "p1"}}, "labels.urgency: 'p1' is not one of low"),
        ({"labels": {**BILLING.model_dump(), "category": "security", "needs_human": False}}, "the policy sends this category to a person"),
        ({"message": "please call me back now " * 20}, "the message repeats itself"),
        ({"no_training": True}, "marked no_training"),
        ({"licence": "other"}, "known with another licence or consent"),
        ({"id": "desk-1"}, "with another text"),
        (
            {"id": "desk-1", "message": make_candidate(1)["message"], "labels": {**BILLING.model_dump(), "urgency": "high"}},
            "--relabel takes the new ones",
        ),
        ({"nonsense": 1}, "nonsense: unknown key"),
    ],
)
def test_a_candidate_that_cannot_become_a_ticket_is_named_with_the_reason(
    write_lines: Write, taxonomy: Taxonomy, tmp_path: Path, changes: dict[str, object], reason: str
) -> None:
    inbox = write_lines("a.jsonl", make_candidate(1), make_candidate(2, **changes))
    report = build_dataset([inbox], tmp_path / "out", taxonomy)
    assert (report.added, report.rejected) == (1, 1)
    [line] = (tmp_path / "out.rejected.jsonl").read_text(encoding="utf-8").splitlines()
    record = json.loads(line)
    assert (record["file"], record["line"]) == (str(inbox), 2)
    assert reason in record["reason"]


def test_new_labels_are_taken_when_they_are_asked_for(write_lines: Write, taxonomy: Taxonomy, tmp_path: Path) -> None:
    out = tmp_path / "out"
    build_dataset([write_lines("a.jsonl", make_candidate(1))], out, taxonomy)
    changed = make_candidate(1, labels={**BILLING.model_dump(), "urgency": "high"})
    assert build_dataset([write_lines("b.jsonl", changed)], out, taxonomy, relabel=True).relabelled == 1
    [example] = load_examples(split_paths(out), taxonomy)
    assert example.labels.urgency == "high"


def test_a_dataset_of_another_taxonomy_is_refused_with_both_digests(write_lines: Write, taxonomy: Taxonomy, tmp_path: Path) -> None:
    out = tmp_path / "out"
    build_dataset([write_lines("a.jsonl", make_candidate(1))], out, taxonomy)
    other = parse_taxonomy({**taxonomy.model_dump(), "version": "2"}, source="a test")
    with pytest.raises(DatasetError, match=f"{taxonomy.digest[:12]}.*{other.digest[:12]}"):
        build_dataset([], out, other)


def test_a_dataset_that_lost_its_form_is_not_built_upon(write_lines: Write, taxonomy: Taxonomy, tmp_path: Path) -> None:
    out = tmp_path / "out"
    build_dataset([write_lines("a.jsonl", make_candidate(1))], out, taxonomy)
    [path] = split_paths(out)
    path.write_bytes(path.read_bytes() + b"nonsense\n")
    with pytest.raises(DatasetError, match=rf"{path.name}:2: not JSON"):
        build_dataset([], out, taxonomy)


def test_the_terms_of_every_provenance_are_in_the_manifest(write_lines: Write, taxonomy: Taxonomy, tmp_path: Path) -> None:
    out = tmp_path / "out"
    build_dataset([write_lines("a.jsonl", make_candidate(1))], out, taxonomy)
    manifest = load_manifest(out)
    assert manifest is not None
    assert manifest.sources["desk"].model_dump() == {"licence": "internal", "consent": "contract", "tickets": 1}
    assert manifest.taxonomy_digest == taxonomy.digest


def test_near_pairs_are_those_that_comparing_all_with_all_finds() -> None:
    draw = random.Random(4)
    texts = [" ".join(draw.choices(WORDS, k=draw.randint(4, 40))) for _ in range(120)]
    for text in texts[:60]:
        words = text.split()
        for place in range(0, len(words), draw.choice([7, 11, 40])):
            words[place] = draw.choice(WORDS)
        texts.append(" ".join(words))
    shingles = [word_shingles(text, size=5) for text in texts]
    every = [(left, right) for right in range(len(texts)) for left in range(right) if jaccard(shingles[left], shingles[right]) >= 0.6]
    assert len(every) > 10
    assert [(pair.first, pair.second) for pair in find_near_pairs(shingles)] == every


def test_the_share_of_repeated_words_is_the_one_counted_by_hand() -> None:
    assert repeated_share("a b c d e f") == 0
    assert repeated_share("a b c d e x a b c d e") == pytest.approx(10 / 11)
    assert repeated_share("") == 0
    assert not repeats_itself("no no no no no no")
    assert repeats_itself("where is my order " * 12)


def test_two_builds_at_once_lose_nothing(write_lines: Write, taxonomy: Taxonomy, tmp_path: Path) -> None:
    """The second waits for nobody: it is refused while the first reads and writes, and its tickets come in when it is run again."""
    out = tmp_path / "out"
    build_dataset([write_lines("a.jsonl", make_candidate(1))], out, taxonomy)
    handle = os.open(out, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    before = _bytes(out)
    inbox = write_lines("b.jsonl", make_candidate(2))
    with pytest.raises(DatasetError, match="another build is writing"):
        build_dataset([inbox], out, taxonomy)
    with pytest.raises(DatasetError, match="another build is writing"):
        forget_tickets(["desk-1"], out, taxonomy, "asked to be deleted")
    assert _bytes(out) == before
    os.close(handle)
    assert build_dataset([inbox], out, taxonomy).added == 1


def test_the_last_ticket_can_be_forgotten_and_an_unknown_one_is_named(write_lines: Write, taxonomy: Taxonomy, tmp_path: Path) -> None:
    out = tmp_path / "out"
    build_dataset([write_lines("a.jsonl", make_candidate(1, split="test"))], out, taxonomy)
    absent, report = forget_tickets(["desk-1", "desk-9"], out, taxonomy, "asked to be deleted")
    assert (absent, report.removed["tombstone"]) == (["desk-9"], 1)
    assert all(make_candidate(1)["message"].encode() not in content for content in _bytes(out).values())
    with pytest.raises(DatasetError, match="holds no dataset"):
        forget_tickets(["desk-1"], tmp_path / "none", taxonomy, "x")
    assert not (tmp_path / "none").exists()


def test_what_a_killed_build_left_behind_is_swept(write_lines: Write, taxonomy: Taxonomy, tmp_path: Path) -> None:
    out = tmp_path / "out"
    build_dataset([write_lines("a.jsonl", make_candidate(1))], out, taxonomy)
    (out / ".train.jsonl.abcd").write_text("half a ticket")
    build_dataset([], out, taxonomy)
    assert not (out / ".train.jsonl.abcd").exists()


def test_a_ticket_that_comes_again_with_another_author_or_subject_is_refused(write_lines: Write, taxonomy: Taxonomy, tmp_path: Path) -> None:
    out = tmp_path / "out"
    build_dataset([write_lines("a.jsonl", make_candidate(1), make_candidate(2))], out, taxonomy)
    again = [make_candidate(1, group="desk-other"), make_candidate(2, subject="new")]
    report = build_dataset([write_lines("b.jsonl", *again)], out, taxonomy)
    assert (report.unchanged, report.rejected) == (0, 2)
    assert "in the group 'desk-g0'" in _reasons(out)["desk-1"]
    assert "with another text" in _reasons(out)["desk-2"]


def test_the_same_message_under_another_subject_is_a_duplicate(write_lines: Write, taxonomy: Taxonomy, tmp_path: Path) -> None:
    text = " ".join(WORDS[:12])
    pair = [
        make_candidate(number, group=f"desk-{number}", message=text, subject=f"{' '.join(WORDS[100 + 9 * number : 109 + 9 * number])}")
        for number in (1, 2)
    ]
    assert build_dataset([write_lines("a.jsonl", *pair)], tmp_path / "out", taxonomy).rejected == 1
    marks = [make_candidate(number, group=f"desk-{number}", message="???") for number in (3, 4)]
    assert build_dataset([write_lines("b.jsonl", *marks)], tmp_path / "other", taxonomy).rejected == 1


def test_thousands_of_equal_messages_cost_a_pair_each() -> None:
    shingles = [word_shingles("ok thanks", size=5)] * 5_000
    assert len(find_near_pairs(shingles)) == 4_999
