"""How an engine is asked: what goes into a prompt, what is dropped, and how the number of examples is chosen."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from eval.predict import predict_split
from eval.predictions import load_predictions, to_row
from eval.prompted import Prompted, ask_free, choose_k
from eval.questions import Question, to_questions
from eval.retrieval import FixedExamples
from tests.conftest import BILLING, FakeEngine
from triage.answer import Answer, Failure, TicketAnswer, with_details
from triage.dataset import Example
from triage.engines.chatml import render_chatml
from triage.engines.decoding import FREE_TOKENS
from triage.engines.embedded import EmbeddedEngine
from triage.errors import RunError
from triage.prompt import Prompt, build_prompt, prompt_id
from triage.run import CODE_VERSION_VARIABLE
from triage.taxonomy import Taxonomy
from triage.ticket import Message, render_ticket

ROOMY = 100_000


@pytest.fixture
def train() -> list[Example]:
    record = {"split": "train", "language": "en", "slices": [], "provenance": "test", "labels": BILLING.model_dump()}
    return [Example.model_validate({**record, "id": f"t{number}", "group": f"g{number}", "message": f"example {number}"}) for number in range(8)]


def _question(text: str = "charged twice") -> Question:
    return Question("q", "somebody", Message(message=text))


def test_zero_shot_is_the_cores_own_prompt_and_its_id_is_recorded(taxonomy: Taxonomy) -> None:
    engine = FakeEngine(lambda _: TicketAnswer(BILLING, {"category": 0.5}, prompt_tokens=9, output_tokens=4))
    rung = Prompted("zero", engine, taxonomy, "zero_shot", prompt_tokens=ROOMY)
    reading = asyncio.run(rung.read(_question()))
    assert engine.asked == [build_prompt(Message(message="charged twice"), taxonomy, kind="zero_shot")]
    assert (reading.prompt_tokens, reading.output_tokens) == (9, 4)
    assert rung.card.inputs["prompt"] == prompt_id("zero_shot", taxonomy)


def test_a_release_is_asked_as_it_is_served(taxonomy: Taxonomy) -> None:
    engine = FakeEngine()
    rung = Prompted("release", engine, taxonomy, "tuned", prompt_tokens=ROOMY)
    asyncio.run(rung.read(_question("word " * 2_000)))
    [prompt] = engine.asked
    assert [message.role for message in prompt.messages] == ["user"]
    assert prompt.cut
    assert engine.count_tokens(prompt.messages[0].content) <= engine.text_budget == rung.card.config["message_tokens"]


def test_examples_stand_best_last_between_instructions_and_message(taxonomy: Taxonomy, train: Sequence[Example]) -> None:
    rung = Prompted("few", FakeEngine(), taxonomy, "few_shot", prompt_tokens=ROOMY, pick=lambda _: train[:3], k=3)
    prompt, shots = rung.build(_question())
    assert shots == 3
    assert [message.role for message in prompt.messages] == ["system", *["user", "assistant"] * 3, "user"]
    assert [message.content for message in prompt.messages[1::2]] == ["example 2", "example 1", "example 0", "charged twice"]
    assert prompt.messages[2].content == render_ticket(BILLING)


def test_what_does_not_fit_is_dropped_and_said_and_the_message_goes_first(taxonomy: Taxonomy, train: Sequence[Example]) -> None:
    engine = FakeEngine()
    long = train[0].model_copy(update={"message": "long " * 400})
    whole = Prompted("few", engine, taxonomy, "few_shot", prompt_tokens=ROOMY, pick=lambda _: train[1:3], k=2)
    limit = engine.count_tokens(render_chatml(whole.build(_question())[0]))
    rung = Prompted("few", engine, taxonomy, "few_shot", prompt_tokens=limit, pick=lambda _: [long, *train[1:4]], k=4)
    prompt, shots = rung.build(_question())
    assert (shots, engine.count_tokens(render_chatml(prompt)) <= limit) == (2, True)
    answer = asyncio.run(rung.read(_question())).answer
    assert isinstance(answer, TicketAnswer)
    assert answer.flags == ("shots:2",)
    prompt, shots = rung.build(_question("my own words " * 300))
    assert (prompt.cut, shots, engine.count_tokens(render_chatml(prompt)) <= limit) == (True, 0, True)


def test_examples_can_speak_without_instructions(taxonomy: Taxonomy, train: Sequence[Example]) -> None:
    pick = FixedExamples(train, 2)
    rung = Prompted("few", FakeEngine(), taxonomy, "few_shot", prompt_tokens=ROOMY, pick=pick, k=2, instructed=False)
    assert [message.role for message in rung.build(_question())[0].messages] == ["user", "assistant", "user", "assistant", "user"]
    shown = [(example, example.labels) for example in pick.examples]
    assert rung.card.inputs["prompt"] == prompt_id("few_shot", taxonomy, shown) + "-bare"


class _Counting(FakeEngine):
    """Right about all messages with enough examples, and about two of four with one."""

    def __init__(self, failing: bool = False) -> None:
        super().__init__(self._answer_by_examples)
        self._failing = failing

    def _answer_by_examples(self, prompt: Prompt) -> Answer:
        if self._failing:
            return Failure("timeout")
        shots = sum(message.role == "assistant" for message in prompt.messages)
        right = shots >= 2 or prompt.messages[-1].content in ("message 0", "message 1")
        return TicketAnswer(BILLING if right else BILLING.model_copy(update={"urgency": "low"}))


@pytest.fixture
def dev(train: Sequence[Example]) -> list[Example]:
    return [example.model_copy(update={"id": f"d{place}", "group": "dev", "message": f"message {place}"}) for place, example in enumerate(train[:4])]


def test_the_smallest_of_the_best_numbers_of_examples_is_chosen_on_dev(
    tmp_path: Path, taxonomy: Taxonomy, train: Sequence[Example], dev: Sequence[Example]
) -> None:
    engine = _Counting()

    def make(k: int) -> Prompted:
        return Prompted("few", engine, taxonomy, "few_shot", prompt_tokens=ROOMY, pick=FixedExamples(train, k), k=k)

    choice = asyncio.run(choose_k(make, dev, tmp_path, taxonomy, dataset="d" * 64))
    assert choice.k == 2  # every category is right throughout, so exact match decides
    assert {k: exact for k, (_, exact) in choice.scores.items()} == {1: 0.5, 2: 1.0, 4: 1.0, 8: 1.0}
    assert len({category for category, _ in choice.scores.values()}) == 1
    assert [row.id for row in choice.rows] == [question.id for question in to_questions(dev)]
    asked = len(engine.asked)
    assert asyncio.run(choose_k(make, dev, tmp_path, taxonomy, dataset="d" * 64)) == choice
    assert len(engine.asked) == asked == 16


def test_the_category_counts_before_exact_match(tmp_path: Path, taxonomy: Taxonomy, train: Sequence[Example], dev: Sequence[Example]) -> None:
    """Exact match alone once chose k, and for a weak model one lucky ticket of hundreds decided it."""
    wrong_urgency = BILLING.model_copy(update={"urgency": "low"})
    wrong_category = BILLING.model_copy(update={"category": "bug"})

    def reply(prompt: Prompt) -> Answer:
        if sum(message.role == "assistant" for message in prompt.messages) == 4:
            return TicketAnswer(wrong_urgency)
        return TicketAnswer(BILLING if prompt.messages[-1].content == "message 0" else wrong_category)

    def make(k: int) -> Prompted:
        return Prompted("few", FakeEngine(reply), taxonomy, "few_shot", prompt_tokens=ROOMY, pick=FixedExamples(train, k), k=k)

    choice = asyncio.run(choose_k(make, dev, tmp_path, taxonomy, dataset="d" * 64))
    assert choice.k == 4
    # one of four right: F1 is 0.4 for billing and 0 for bug, so 0.2 on average
    assert choice.scores == {1: (0.2, 0.25), 2: (0.2, 0.25), 4: (1.0, 0.0), 8: (0.2, 0.25)}


def test_rows_of_another_version_of_the_code_choose_k_and_are_taken_over_by_no_run(
    tmp_path: Path, taxonomy: Taxonomy, train: Sequence[Example], dev: Sequence[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    def make(k: int) -> Prompted:
        return Prompted("few", FakeEngine(), taxonomy, "few_shot", prompt_tokens=ROOMY, pick=FixedExamples(train, k), k=k)

    monkeypatch.setenv(CODE_VERSION_VARIABLE, "one")
    assert len(asyncio.run(choose_k(make, dev, tmp_path, taxonomy, dataset="d" * 64)).rows) == 4
    monkeypatch.setenv(CODE_VERSION_VARIABLE, "two")
    assert asyncio.run(choose_k(make, dev, tmp_path, taxonomy, dataset="d" * 64)).rows == []


def test_no_number_is_chosen_from_answers_that_did_not_come(
    tmp_path: Path, taxonomy: Taxonomy, train: Sequence[Example], dev: Sequence[Example]
) -> None:
    def make(k: int) -> Prompted:
        return Prompted("few", _Counting(failing=True), taxonomy, "few_shot", prompt_tokens=ROOMY, pick=FixedExamples(train, k), k=k)

    with pytest.raises(RunError, match="k cannot be chosen: 4 of 4 rows failed"):
        asyncio.run(choose_k(make, dev, tmp_path, taxonomy, dataset="d" * 64))


def test_the_release_writes_tickets_freely_and_stops_by_itself(embedded_engine: EmbeddedEngine, taxonomy: Taxonomy) -> None:
    prompt = build_prompt(Message(message="The parcel I ordered last week has not arrived"), taxonomy)
    reading = asyncio.run(ask_free(embedded_engine)(prompt, 60))
    assert isinstance(reading.answer, TicketAnswer)
    assert reading.answer.ticket.category == "shipping"
    assert not reading.answer.probabilities
    assert 0 < reading.output_tokens < FREE_TOKENS


def test_free_writing_fails_as_answers_do(embedded_engine: EmbeddedEngine, taxonomy: Taxonomy) -> None:
    prompt = build_prompt(Message(message="hello"), taxonomy)
    [late] = asyncio.run(embedded_engine.write_free([prompt], deadline_s=-1))
    assert late == Failure("timeout", "the deadline passed while writing")
    [long] = asyncio.run(embedded_engine.write_free([build_prompt(Message(message="word " * 2_000), taxonomy)], deadline_s=60))
    assert isinstance(long, Failure)
    assert long.reason == "too_long"


def test_validity_is_a_finding_inside_a_schema_too(tmp_path: Path, taxonomy: Taxonomy, dev: Sequence[Example]) -> None:
    """A constrained row whose summary outgrew the context once counted neither as valid nor as invalid."""
    answers: Iterator[Answer] = iter(
        [Failure("truncated"), Failure("invalid", "any wording", is_json=True), TicketAnswer(BILLING), Failure("timeout")]
    )
    rung = Prompted("zero", FakeEngine(lambda _: next(answers)), taxonomy, "zero_shot", prompt_tokens=ROOMY)
    asyncio.run(predict_split(rung, to_questions(dev), tmp_path, taxonomy, dataset="d" * 64, split="dev"))
    rows = load_predictions(tmp_path, dev, taxonomy, dataset="d" * 64).rows
    assert [(row.valid_json, row.valid_ticket) for row in rows] == [(False, False), (True, False), (True, True), (None, None)]


def test_a_message_has_the_budget_that_the_rung_gives_it(taxonomy: Taxonomy) -> None:
    rungs = [Prompted("zero", FakeEngine(), taxonomy, "zero_shot", prompt_tokens=ROOMY, message_tokens=tokens) for tokens in (384, 2_000)]
    assert [rung.card.config["message_tokens"] for rung in rungs] == [384, 2_000]
    assert [rung.build(_question("word " * 1_000))[0].cut for rung in rungs] == [True, False]


def test_what_a_failed_answer_cost_is_counted(taxonomy: Taxonomy, embedded_engine: EmbeddedEngine) -> None:
    """Rows of a model that never stops once said that it had read and written nothing."""

    class _Endless(FakeEngine):
        async def write_free(self, prompts: Sequence[Prompt], *, deadline_s: float) -> list[Answer]:
            return [with_details(Failure("truncated"), probabilities={}, prompt_tokens=12, output_tokens=128) for _ in prompts]

    reading = asyncio.run(ask_free(_Endless())(build_prompt(Message(message="hello"), taxonomy), 60))
    assert (reading.prompt_tokens, reading.output_tokens) == (12, 128)
    row = to_row("a", reading.answer, taxonomy, latency_ms=1.0, is_prompted=True)
    assert (row.status, row.prompt_tokens, row.output_tokens) == ("unread", 12, 128)
