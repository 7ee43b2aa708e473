"""The page on which people judge summaries."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from eval.columns import load_row
from eval.predictions import Predictions
from eval.reading_page import render_reading_page
from tests.test_eval_scorecard import DATASET, make_answers, make_examples, write_run
from triage.answer import Failure
from triage.dataset import Example
from triage.errors import DatasetError
from triage.taxonomy import Taxonomy


class _Page(HTMLParser):
    """The elements of a page in order, and the elements that were open when each began."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None], list[str]]] = []
        self._open: list[str] = []
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs), list(self._open)))
        if tag not in ("meta", "input"):
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def all(self, tag: str, **wanted: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes, _ in self.found if name == tag and wanted.items() <= attributes.items()]


@pytest.fixture
def row(tmp_path: Path, taxonomy: Taxonomy) -> tuple[Predictions, list[Example]]:
    examples = make_examples()
    examples[3] = examples[3].model_copy(update={"message": "<script>alert(1)</script> write to jo@example.com"})
    folder = write_run(tmp_path / "run", examples, make_answers(), taxonomy, row="secret-row")
    return load_row(folder, examples, taxonomy, dataset=DATASET), examples


def test_a_card_has_three_boxes_a_comment_and_a_summary(row: tuple[Predictions, list[Example]]) -> None:
    page = _Page(render_reading_page(*row, count=4))
    assert len(page.all("fieldset")) == 4
    for name in ("faithful", "useful", "fluent", "read"):
        assert len(page.all("input", type="checkbox", name=name)) == 4
    assert len(page.all("textarea", name="comment")) == 4
    assert len(page.all("button", type="button", id="save")) == 1


def test_the_draw_is_seeded_and_takes_all_summaries_where_there_are_fewer(row: tuple[Predictions, list[Example]]) -> None:
    assert render_reading_page(*row, count=3, seed=1) == render_reading_page(*row, count=3, seed=1)
    drawn = [{each["data-id"] for each in _Page(render_reading_page(*row, count=3, seed=seed)).all("fieldset")} for seed in range(5)]
    assert len({frozenset(map(str, ids)) for ids in drawn}) > 1
    everything = {each["data-id"] for each in _Page(render_reading_page(*row, count=99)).all("fieldset")}
    assert everything == {f"t{number}" for number in range(10)} - {"t6"}  # the unread one has no summary


def test_a_hostile_message_stays_text_and_personal_data_stays_out(row: tuple[Predictions, list[Example]]) -> None:
    content = render_reading_page(*row, count=99)
    assert "&lt;script&gt;alert(1)&lt;/script&gt; write to [email]" in content
    assert content.count("<script>") == 1
    assert "jo@example.com" not in content


def test_the_page_needs_no_network_names_no_row_and_fits_a_phone(row: tuple[Predictions, list[Example]]) -> None:
    content = render_reading_page(*row, count=99)
    page = _Page(content)
    assert not re.search(r"https?://|//cdn|@import|url\(", content)
    assert not [attributes for _, attributes, _ in page.found if "src" in attributes or "href" in attributes]
    assert "secret-row" not in content
    assert page.all("meta", name="viewport", content="width=device-width, initial-scale=1")
    assert "default-src 'none'" in str(page.all("meta", **{"http-equiv": "Content-Security-Policy"}))


def test_every_control_has_a_label_and_can_be_reached_with_the_keyboard(row: tuple[Predictions, list[Example]]) -> None:
    page = _Page(render_reading_page(*row, count=99))
    named = {attributes["for"] for attributes in page.all("label") if "for" in attributes}
    for tag, attributes, parents in page.found:
        if tag in ("input", "textarea"):
            assert "label" in parents or attributes.get("id") in named
        assert int(attributes.get("tabindex") or 0) == 0
    assert page.all("html", lang="en")


def test_without_a_summary_there_is_no_page(tmp_path: Path, taxonomy: Taxonomy) -> None:
    examples = make_examples()
    folder = write_run(tmp_path / "run", examples, [Failure("invalid")] * 10, taxonomy)
    with pytest.raises(DatasetError, match="no summary to judge"):
        render_reading_page(load_row(folder, examples, taxonomy, dataset=DATASET), examples, count=5)
