"""The datasheet tells the figures that the tickets have, and the dataset is as large and as mixed as it has to be."""

from __future__ import annotations

from pathlib import Path

import pytest

from data.datasheet import PAGE_PATH, load_personas, render_figures, replace_figures
from data.manifest import split_paths
from data.stats import describe_dataset
from tests.conftest import ROOT
from triage.dataset import SPLITS, Example, load_examples
from triage.errors import DatasetError
from triage.taxonomy import load_taxonomy

PERSONAS = load_personas()


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    return load_examples(split_paths(ROOT / "data" / "tickets"), load_taxonomy())


def test_the_datasheet_tells_the_figures_of_the_tickets(examples: list[Example]) -> None:
    page = PAGE_PATH.read_text(encoding="utf-8")
    assert replace_figures(page, render_figures(examples, PERSONAS)) == page, "run `python -m data.datasheet --write`"
    with pytest.raises(DatasetError, match="lost its marks"):
        replace_figures("nothing here", "")


def test_the_dataset_is_as_large_and_as_mixed_as_it_has_to_be(examples: list[Example]) -> None:
    described = describe_dataset(examples)
    parts = described["splits"]
    assert [parts[split]["tickets"] for split in SPLITS[1:]] == [200, 200, 600]
    assert parts["train"]["tickets"] >= 1_500
    assert parts["test"]["groups"] >= 40
    assert len({example.group for example in examples}) >= 120
    assert len({PERSONAS[example.group]["industry"] for example in examples}) >= 14
    assert all(sum(counts.values()) >= 0.05 * len(examples) for counts in described["labels"]["category"].values())
    assert set(described["channels"]) == {"mail", "chat", "form", "app_review", "social", "phone_transcript"}
    assert set(described["languages"]) == {"en", "de", "es", "fr", "pt", "nl"}
    assert sum(bool(example.thread) for example in examples) >= 0.08 * len(examples)
    assert max(parts[split]["words"]["max"] for split in SPLITS) > 550
    large = ("plain", "fragment", "typos_or_non_native", "long_email_or_thread", "look_alike_pair", "multi_need", "thin")
    for name in (*large, "calm_disaster_or_loud_trifle", "refuse_or_escalate"):
        assert described["slices"][name]["test"] >= 60, name
    for name in ("personal_data", "non_english"):
        assert described["slices"][name]["test"] >= 20, name
    assert described["repetition"]["share_in_more_than_5_tickets"] < 0.03
    assert described["repetition"]["commonest_opening_share"] < 0.02
    assert described["near_duplicates"]["across_splits"] == 0


def test_every_ticket_has_an_author_who_lies_in_its_split(examples: list[Example]) -> None:
    assert {example.id for example in examples if PERSONAS[example.group]["split"] != example.split} == set()


def test_every_hard_call_names_tickets_that_exist(examples: list[Example]) -> None:
    known = {example.id for example in examples}
    section = PAGE_PATH.read_text(encoding="utf-8").partition("## Hard calls")[2]
    named = {
        word
        for line in section.splitlines()
        for word in line.rpartition(" | ")[2].replace("|", "").replace(",", " ").split()
        if word[:2] in ("g0", "g1")
    }
    assert len(named) >= 30
    assert named <= known


def test_the_page_of_labels_is_the_default_taxonomys(tmp_path: Path) -> None:
    guide = (ROOT / "data" / "LABELLING.md").read_text(encoding="utf-8")
    taxonomy = load_taxonomy()
    for field in ("category", "urgency", "next_action"):
        for label in taxonomy.labels(field):
            assert f"`{label}`" in guide
