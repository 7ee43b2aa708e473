"""Twins: the clean message whole, a planted text that wants other labels, the same for ever."""

from __future__ import annotations

import base64
import json
import re
from collections import Counter

import pytest

from data.injections import TWINS_NAME, load_wording, make_twin, plant, render_twins
from data.manifest import split_path
from tests.conftest import ROOT
from triage.dataset import Example, load_examples
from triage.prompt import render_message
from triage.shingles import is_near_any, word_shingles
from triage.taxonomy import Taxonomy, load_taxonomy
from triage.ticket import Message

TICKETS = ROOT / "data" / "tickets"


@pytest.fixture(scope="module")
def test_split() -> list[Example]:
    return load_examples([split_path(TICKETS, "test")], load_taxonomy())


def test_every_test_message_has_one_twin_that_holds_it_and_the_planted_text(test_split: list[Example], taxonomy: Taxonomy) -> None:
    twins = [json.loads(line) for line in (TICKETS / TWINS_NAME).read_text(encoding="utf-8").splitlines()]
    assert [twin["twin_of"] for twin in twins] == [example.id for example in test_split]
    assert len(twins) == 600
    for twin, example in zip(twins, test_split, strict=True):
        assert twin["planted"] in twin["message"]
        assert twin["message"].replace(twin["planted"], "").split() == example.message.split()
        assert all(label != example.labels.label(field) for field, label in twin["target"].items())
        hidden = (
            [base64.b64decode(word).decode() for word in re.findall(r"[A-Za-z0-9+/]{40,}={0,2}", twin["planted"])]
            if twin["kind"] == "encoded"
            else []
        )
        assert all(label in twin["planted"] + "".join(hidden) for label in twin["target"].values())
        assert Message.model_validate({key: twin[key] for key in ("message", "subject", "thread", "channel") if key in twin})


def test_kinds_and_places_are_all_there_in_like_numbers(test_split: list[Example], taxonomy: Taxonomy) -> None:
    twins = [make_twin(example, taxonomy) for example in test_split]
    kinds, positions = Counter(twin.kind for twin in twins), Counter(twin.position for twin in twins)
    assert set(kinds) == set(load_wording()[0])
    assert len(kinds) == 16
    assert min(kinds.values()) >= 20
    assert min(positions.values()) >= 150


def test_a_twin_wants_no_label_that_its_text_does_not_name(test_split: list[Example], taxonomy: Taxonomy) -> None:
    """Once every twin claimed to want all four labels, and a flip of any of them counted as obeying."""
    twins = {twin.kind: twin for twin in (make_twin(example, taxonomy) for example in test_split)}
    assert twins["other_task"].target == {}
    assert set(twins["false_answer"].target) == {"category", "urgency", "needs_human", "next_action"}
    assert set(twins["encoded"].target) == {"category", "urgency", "needs_human"}


def test_a_twin_depends_on_its_ticket_alone(test_split: list[Example], taxonomy: Taxonomy) -> None:
    assert make_twin(test_split[7], taxonomy) == make_twin(test_split[7], taxonomy)
    assert render_twins(test_split[:3], taxonomy) == render_twins(list(reversed(test_split[:3])), taxonomy)


def test_planted_text_goes_where_it_is_told() -> None:
    assert plant("One. Two. Three.", "X", "start") == "X\nOne. Two. Three."
    assert plant("One. Two. Three.", "X", "end") == "One. Two. Three.\nX"
    assert plant("One one. Two.", "X", "middle") == "One one.\nX\nTwo."
    assert plant("no break here", "X", "middle") == "no break here\nX"


def test_a_twin_obeys_an_own_taxonomy() -> None:
    taxonomy = load_taxonomy(ROOT / "data" / "examples" / "it_helpdesk" / "taxonomy.toml")
    labels = {field: taxonomy.labels(field)[0] for field in ("category", "urgency", "next_action")}
    record = {"id": "a", "split": "test", "group": "a", "language": "en", "message": "Printer is dead.", "slices": [], "provenance": "test"}
    example = Example.model_validate({**record, "labels": {**labels, "needs_human": True, "summary": "Printer is dead."}})
    twin = make_twin(example, taxonomy)
    assert all(label in taxonomy.labels(field) for field, label in twin.target.items())
    assert "{" not in twin.planted.replace('{"', "")


def test_no_training_ticket_holds_the_wording_of_a_planted_text(taxonomy: Taxonomy) -> None:
    """What the injection test measures must not have been learnt by heart."""
    kinds, _ = load_wording()
    wording = [word_shingles(text) for texts in kinds.values() for text in texts]
    train = load_examples([split_path(TICKETS, "train")], taxonomy)
    assert [example.id for example in train if is_near_any(word_shingles(render_message(example)), wording)] == []
