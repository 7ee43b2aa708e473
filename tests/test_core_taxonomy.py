"""The taxonomy file, its digest, and what is refused."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from triage.errors import TaxonomyError
from triage.paths import DEFAULT_TAXONOMY_PATH
from triage.taxonomy import load_taxonomy, parse_taxonomy


@pytest.fixture
def content() -> dict[str, Any]:
    return tomllib.loads(DEFAULT_TAXONOMY_PATH.read_text(encoding="utf-8"))


def test_the_default_taxonomy_has_the_labels_of_the_guide() -> None:
    taxonomy = load_taxonomy()
    assert len(taxonomy.labels("category")) == 11
    assert taxonomy.labels("urgency") == ("low", "medium", "high", "critical")
    assert taxonomy.labels("needs_human") == ("true", "false")
    assert len(taxonomy.labels("next_action")) == 12


def test_comments_do_not_change_the_digest_and_meanings_do(tmp_path: Path, content: dict[str, Any]) -> None:
    commented = tmp_path / "commented.toml"
    commented.write_text("# a remark\n" + DEFAULT_TAXONOMY_PATH.read_text(encoding="utf-8"), encoding="utf-8")
    assert load_taxonomy(commented).digest == load_taxonomy().digest
    content["category"][0]["meaning"] = "something else"
    assert parse_taxonomy(content, source="it").digest != load_taxonomy().digest


def test_a_repeated_label_is_named_with_how_often_it_is_there(content: dict[str, Any]) -> None:
    content["category"].append({"label": "billing", "meaning": "again"})
    with pytest.raises(TaxonomyError, match=r"category: the label 'billing' is there 2 times"):
        parse_taxonomy(content, source="mine.toml")


@pytest.mark.parametrize("label", ["", "Billing", "bil ling", "_billing", "billing_", "b" * 41, 'bill"ing'])
def test_a_label_that_is_empty_or_odd_is_refused_with_its_place(content: dict[str, Any], label: str) -> None:
    content["category"][3]["label"] = label
    with pytest.raises(TaxonomyError, match=r"mine\.toml.*category\[4\]\.label: a label"):
        parse_taxonomy(content, source="mine.toml")


def test_every_fault_is_reported_at_once(content: dict[str, Any]) -> None:
    content["policy"]["always_human"] = ["nonsense"]
    content["fallback"]["urgency"] = "someday"
    content["policy"]["action_with_person"] = "close"
    with pytest.raises(TaxonomyError) as caught:
        parse_taxonomy(content, source="it")
    assert "'nonsense' is no label of category" in str(caught.value)
    assert "'someday' is no label of urgency" in str(caught.value)
    assert "it is also in policy.actions_without_person" in str(caught.value)


def test_an_unknown_key_is_refused(content: dict[str, Any]) -> None:
    content["categories"] = []
    with pytest.raises(TaxonomyError, match="categories"):
        parse_taxonomy(content, source="it")


def test_a_fallback_that_needs_no_person_is_refused(content: dict[str, Any]) -> None:
    content["fallback"]["needs_human"] = False
    with pytest.raises(TaxonomyError, match=r"fallback\.needs_human"):
        parse_taxonomy(content, source="it")


def test_a_missing_file_and_a_file_that_is_no_toml_are_named(tmp_path: Path) -> None:
    with pytest.raises(TaxonomyError, match="cannot read the taxonomy"):
        load_taxonomy(tmp_path / "none.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("name = ", encoding="utf-8")
    with pytest.raises(TaxonomyError, match=r"broken\.toml is not TOML"):
        load_taxonomy(broken)
