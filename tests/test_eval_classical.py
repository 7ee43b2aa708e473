"""The fitted rungs, on a handful of tickets, and the sentence encoder's pins."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from eval.classical import Majority, TfidfLogistic
from eval.encoder import DIGESTS, SentenceEncoder, find_encoder
from eval.questions import Question
from eval.retrieval import FixedExamples, NearestExamples
from eval.rung import Rung
from eval.rungs import CHOOSES_K, ROWS, AbsentError, RungBuilder
from tests.conftest import ROOT
from triage.answer import TicketAnswer
from triage.dataset import Example, load_examples
from triage.errors import EngineError
from triage.taxonomy import LABEL_FIELDS, Taxonomy
from triage.ticket import Message

TRAIN = ROOT / "data" / "tickets" / "train.jsonl"
DIGEST = "a" * 64


def _example(number: int, text: str, category: str = "billing", **labels: Any) -> Example:
    ticket = {"category": category, "urgency": "medium", "needs_human": True, "next_action": "check_billing", "summary": "A summary.", **labels}
    record = {"id": f"m{number}", "split": "train", "group": f"g{number % 3}", "language": "en", "slices": [], "provenance": "test"}
    return Example.model_validate({**record, "message": text, "labels": ticket})


@pytest.fixture
def train() -> list[Example]:
    bills = [_example(number, f"invoice {number} shows a wrong charge on my card") for number in range(6)]
    parcels = [
        _example(number, f"parcel {number} has not arrived, tracking is silent", "shipping", urgency="low", next_action="track_order")
        for number in range(6, 10)
    ]
    return bills + parcels


def _read(rung: Rung, text: str) -> TicketAnswer:
    rung.prepare()
    answer = asyncio.run(rung.read(Question("q", "somebody", Message(message=text)))).answer
    assert isinstance(answer, TicketAnswer)
    return answer


def test_the_majority_says_the_commonest_labels_with_their_shares_and_quotes_the_lead(taxonomy: Taxonomy, train: Sequence[Example]) -> None:
    text = "Hi there,\nMy box is late. Mail me at jo@example.com.\n" + " ".join(f"Sentence number {place} is here." for place in range(9))
    answer = _read(Majority(train, taxonomy, digest=DIGEST), text)
    assert (answer.ticket.category, answer.ticket.urgency, answer.ticket.needs_human) == ("billing", "medium", True)
    assert answer.probabilities == {"category": 0.6, "urgency": 0.6, "needs_human": 1.0, "next_action": 0.6}
    assert answer.ticket.summary == "My box is late; Mail me at [email]; " + "; ".join(f"Sentence number {place} is here" for place in range(4)) + "."


def test_equal_labels_are_decided_by_the_taxonomys_order(taxonomy: Taxonomy) -> None:
    train = [_example(0, "a", "shipping"), _example(1, "b", "bug")]
    assert _read(Majority(train, taxonomy, digest=DIGEST), "x").ticket.category == "bug"


def test_a_summary_is_cut_redacted_and_flagged_as_an_engines_is(taxonomy: Taxonomy, train: Sequence[Example]) -> None:
    answer = _read(Majority(train, taxonomy, digest=DIGEST), "My card 4111 1111 1111 1111 was charged for " + "a very long thing " * 20)
    assert "4111" not in answer.ticket.summary
    assert len(answer.ticket.summary) <= 160
    assert answer.flags == ("summary_redacted", "summary_cut")


def test_tfidf_learns_words_and_gives_each_label_its_probability(taxonomy: Taxonomy, train: Sequence[Example]) -> None:
    rung = TfidfLogistic(train, taxonomy, digest=DIGEST)
    answer = _read(rung, "where is the parcel, no tracking")
    assert (answer.ticket.category, answer.ticket.next_action) == ("shipping", "track_order")
    assert 0.5 < answer.probabilities["category"] < 1
    assert answer.probabilities["needs_human"] == 1.0  # the train split knows one label alone
    assert _read(TfidfLogistic(train, taxonomy, digest=DIGEST), "where is the parcel, no tracking") == answer
    assert rung.card.inputs == {"train": DIGEST}


def test_a_second_call_of_prepare_does_nothing(taxonomy: Taxonomy, train: list[Example]) -> None:
    """With --twins every fitted row was fitted twice."""

    class _Counted(list[Example]):
        read = 0

        def __iter__(self) -> Iterator[Example]:
            self.read += 1
            return super().__iter__()

    counted = _Counted(train)
    rung = TfidfLogistic(counted, taxonomy, digest=DIGEST)
    rung.prepare()
    once = counted.read
    rung.prepare()
    assert counted.read == once > 0


def test_a_message_without_a_known_word_is_answered(taxonomy: Taxonomy, train: Sequence[Example]) -> None:
    for text in ("", "漢字 👩‍👩‍👧", "\n \n"):
        assert _read(TfidfLogistic(train, taxonomy, digest=DIGEST), text).ticket.summary


def test_fixed_examples_are_balanced_seeded_and_grow_by_appending(taxonomy: Taxonomy) -> None:
    train = load_examples([TRAIN], taxonomy)
    chosen = FixedExamples(train, 22).examples
    assert chosen == FixedExamples(list(reversed(train)), 22).examples
    assert chosen[:4] == FixedExamples(train, 4).examples
    assert sorted(example.labels.category for example in chosen[:11]) == sorted(taxonomy.labels("category"))
    assert {example.split for example in chosen} == {"train"}
    assert len({example.id for example in chosen}) == 22


def test_the_nearest_examples_come_first_and_never_from_the_messages_own_author(train: Sequence[Example]) -> None:
    nearest = NearestExamples(train)
    question = Question("q", train[7].group, train[7])
    found = nearest.pick(question, 3)
    assert found[0].labels.category == "shipping"
    assert train[7] not in found
    assert all(example.group != question.group for example in nearest.pick(question, 100))
    assert nearest.pick(Question("q", "nobody", train[7]), 1) == [train[7]]
    assert all(example.group != "g0" for example in FixedExamples(train, 4)(Question("q", "g0", Message(message="x"))))


def test_a_row_that_cannot_be_built_says_what_is_missing(tmp_path: Path, taxonomy: Taxonomy) -> None:
    builder = RungBuilder(ROOT / "data" / "tickets", taxonomy, tmp_path / "none")
    for name, words in (
        ("base_zero_shot", "the untuned base is not in"),
        ("base_few_shot", "the untuned base is not in"),
        ("candidate", "no candidate is named"),
        ("endpoint_zero_shot", "no endpoint is named"),
    ):
        with pytest.raises(AbsentError, match=words) as caught:
            builder.build(name, 1)
        assert caught.value.hint
    assert set(CHOOSES_K) <= set(ROWS)
    with pytest.raises(AbsentError, match="does not exist"):
        RungBuilder(tmp_path, taxonomy, tmp_path).build("majority")


def test_weights_that_are_not_the_pinned_ones_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"model\.safetensors is missing"):
        SentenceEncoder(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"other weights")
    with pytest.raises(EngineError, match=f"has the digest [0-9a-f]{{12}}, not {DIGESTS['model.safetensors'][:12]}"):
        SentenceEncoder(tmp_path)


@pytest.mark.skipif(find_encoder() is None, reason="the optional sentence encoder is not installed")
def test_the_encoder_gives_the_embedding_of_the_original() -> None:
    """The reference is transformers' BertModel in float32 with mean pooling, run once over the same weights."""
    folder = find_encoder()
    assert folder is not None
    vectors = SentenceEncoder(folder).embed(["This is an example sentence", "a longer one beside it, so that the first is padded"])
    assert vectors.shape == (2, 384)
    assert vectors[0, :5].tolist() == pytest.approx([0.0676569, 0.0634959, 0.0487131, 0.0793050, 0.0374480], abs=1e-5)
    assert (vectors**2).sum(axis=1).tolist() == pytest.approx([1, 1], abs=1e-5)


def test_the_labels_of_every_field_are_decided(taxonomy: Taxonomy, train: Sequence[Example]) -> None:
    assert set(_read(TfidfLogistic(train, taxonomy, digest=DIGEST), "x").probabilities) == set(LABEL_FIELDS)
