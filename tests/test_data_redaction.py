"""The generated half of the redaction measurement reaches its goal, and its counts are right."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from data.redaction import load_presidio, main, score_cases
from data.redaction_cases import CASES_PER_KIND, Case, generate_cases, generate_harmless
from triage.errors import DatasetError
from triage.redact import KINDS, redact_text


def test_the_generated_cases_reach_recall_and_precision_for_every_type() -> None:
    scores, faults = score_cases(generate_cases())
    assert {kind: score.gold for kind, score in scores.items()} == dict.fromkeys(KINDS, CASES_PER_KIND)
    assert all(score.reaches_goal for score in scores.values()), faults


def test_no_generated_number_that_belongs_to_nobody_is_touched() -> None:
    texts = generate_harmless()
    assert len(texts) == 200
    assert [text for text in texts if redact_text(text) != text] == []


def test_the_cases_are_the_same_for_the_same_seed() -> None:
    assert generate_cases(1) == generate_cases(1) != generate_cases(2)
    assert generate_harmless(1) == generate_harmless(1) != generate_harmless(2)


def test_a_find_counts_when_it_covers_half_and_is_false_when_it_overlaps_nothing_of_its_type() -> None:
    text = "jo@a.example and 10.1.2.3"
    scores, faults = score_cases([Case(text, (("email", 0, 12),)), Case(text, (("email", 0, 25), ("ip", 17, 25)))])
    assert (scores["email"].gold, scores["email"].found, scores["email"].false) == (2, 1, 0)
    assert (scores["ip"].gold, scores["ip"].found, scores["ip"].false) == (1, 1, 1)
    assert (scores["email"].recall, scores["ip"].precision) == (0.5, 0.5)
    assert [fault.split()[0] for fault in faults] == ["false", "missed"]


def test_the_command_prints_json_with_both_halves(
    write_lines: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_lines("presidio.jsonl", {"text": "mail jo@a.example", "labels": {"spans": [["EMAIL_ADDRESS", 5, 17], ["PERSON", 5, 7]]}})
    monkeypatch.setattr(sys, "argv", ["redaction", "--presidio", str(path), "--json"])
    main()
    measured = json.loads(capsys.readouterr().out)
    assert measured["presidio"] == {"email": {"gold": 1, "found": 1, "false": 0, "recall": 1.0, "precision": 1.0}}
    assert measured["harmless"] == {"texts": 200, "touched": 0}
    assert set(measured["generated"]) == set(KINDS)


def test_a_file_of_another_form_is_refused_with_its_line(write_lines: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"other\.jsonl:1: no text with labels\.spans"):
        load_presidio(write_lines("other.jsonl", {"text": "x"}))
    with pytest.raises(DatasetError, match="cannot be read"):
        load_presidio(tmp_path / "none.jsonl")
