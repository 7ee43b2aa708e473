"""A scorecard of ten tickets against numbers computed by hand, and what it says when rows failed, groups are few, or twins lie beside."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from eval.columns import load_row
from eval.estimates import NO_ANSWER, TOO_FEW, WILSON_ROWS, WILSON_SINGLE
from eval.metrics import HandoverCosts
from eval.predictions import PREDICTIONS_NAME, render_row, to_row
from eval.scorecard import Scorecard, write_scorecard
from eval.scoring import score_predictions
from triage.answer import Answer, Failure, TicketAnswer
from triage.dataset import Example
from triage.errors import DatasetError
from triage.run import RunClock, write_run_record
from triage.taxonomy import LABEL_FIELDS, Taxonomy
from triage.ticket import Ticket

MESSAGE = "The invoice of May was charged twice and nobody answers my mail since Monday"
SUMMARY = "The invoice of May was charged twice."
TRUTH: list[tuple[str, str, bool, str]] = [
    ("billing", "low", False, "check_billing"),
    ("billing", "medium", True, "check_billing"),
    ("bug", "high", True, "escalate_engineering"),
    ("bug", "low", False, "ask_for_details"),
    ("outage", "critical", True, "escalate_engineering"),
    ("how_to", "low", False, "send_help_article"),
    ("how_to", "low", False, "send_help_article"),
    ("refund", "medium", True, "review_refund"),
    ("security", "high", True, "escalate_security"),
    ("other", "low", False, "close"),
]
DATASET = "d" * 64


def make_examples(groups: int = 10, *, split: str = "dev", repeat: int = 1) -> list[Example]:
    """The ten tickets, or several times ten; the sixth of each ten is German."""
    return [
        Example(
            id=f"t{number}",
            split=split,
            group=f"g{number % groups}",
            language="de" if number % 10 == 5 else "en",
            message=MESSAGE,
            slices=["thin" if number % 2 else "plain"],
            provenance="made for a test",
            labels=make_ticket(TRUTH[number % 10]),
        )
        for number in range(10 * repeat)
    ]


def make_ticket(labels: tuple[str, str, bool, str], summary: str = SUMMARY) -> Ticket:
    return Ticket(category=labels[0], urgency=labels[1], needs_human=labels[2], next_action=labels[3], summary=summary)


def make_answers() -> list[Answer]:
    """The ten tickets as a model answers them: wrong in the second, third, fifth and tenth, and in the seventh not a ticket at all."""
    tickets = [make_ticket(labels) for labels in TRUTH]
    tickets[0] = make_ticket(TRUTH[0], "The invoice of May was charged twice and nobody answers.")
    tickets[1] = make_ticket(("billing", "critical", False, "check_billing"), "The invoice of April was charged twice.")
    tickets[2] = make_ticket(("billing", "high", True, "escalate_engineering"), "The invoice was charged. Nobody answers.")
    tickets[4] = make_ticket(("outage", "critical", False, "escalate_engineering"))
    tickets[9] = make_ticket(("other", "low", True, "close"))
    answers: list[Answer] = [TicketAnswer(ticket, {"category": 0.6 if place == 2 else 0.9}, (), 100, 30) for place, ticket in enumerate(tickets)]
    answers[6] = Failure("invalid", "fields at fault: urgency", is_json=True)
    return answers


def write_run(
    folder: Path,
    examples: Sequence[Example],
    answers: Sequence[Answer],
    taxonomy: Taxonomy,
    *,
    row: str = "fake",
    dataset: str = DATASET,
    is_free: bool = False,
    ids: Sequence[str] = (),
) -> Path:
    """A finished run with one answer an example; latencies are 1, 2, 3 … ms."""
    names = ids or [example.id for example in examples]
    rows = [
        to_row(name, answer, taxonomy, latency_ms=number, cost=0.002, is_prompted=is_free)
        for number, (name, answer) in enumerate(zip(names, answers, strict=True), start=1)
    ]
    return write_rows(folder, [render_row(each) for each in rows], taxonomy, row=row, dataset=dataset, split=examples[0].split)


def write_rows(folder: Path, lines: Sequence[str], taxonomy: Taxonomy, *, row: str = "fake", dataset: str = DATASET, split: str = "dev") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / PREDICTIONS_NAME).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    write_run_record(
        folder,
        kind="predict",
        clock=RunClock(),
        config={"row": row, "split": split},
        inputs={"dataset": dataset, "taxonomy": taxonomy.digest},
        outputs=[PREDICTIONS_NAME],
        metrics={"peak_rss_mib": 321.5},
    )
    return folder


@pytest.fixture
def card(tmp_path: Path, taxonomy: Taxonomy) -> Scorecard:
    examples = make_examples()
    folder = write_run(tmp_path / "run", examples, make_answers(), taxonomy)
    return score_predictions(load_row(folder, examples, taxonomy, dataset=DATASET), examples, taxonomy)


def test_counts_and_identity_are_the_runs(card: Scorecard, taxonomy: Taxonomy) -> None:
    assert (card.row, card.split, card.n, card.groups) == ("fake", "dev", 10, 10)
    assert (card.triaged, card.unread, card.failed, card.incomplete) == (9, 1, 0, False)
    assert card.inputs == {"dataset": DATASET, "taxonomy": taxonomy.digest}
    assert card.taxonomy == taxonomy.digest
    assert len(card.run) == 64


def test_each_field_is_scored_before_and_after_the_policy(card: Scorecard) -> None:
    found = {field: (card.before.fields[field].accuracy.estimate, card.after.fields[field].accuracy.estimate) for field in LABEL_FIELDS}
    # the outage is sent to a person by the policy; the unread ticket is wrong on both sides
    assert found == {"category": (0.8, 0.8), "urgency": (0.8, 0.8), "needs_human": (0.6, 0.7), "next_action": (0.9, 0.9)}
    assert (card.before.exact_match.estimate, card.after.exact_match.estimate) == (0.5, 0.6)


def test_an_unread_row_is_no_label_before_and_the_fallback_after(card: Scorecard) -> None:
    before, after = card.before.fields["category"], card.after.fields["category"]
    # billing 2*2/(2+3), bug and how_to 2*1/(2+1), four labels without a fault; after, the fallback makes `other` 2*1/(1+2) too
    assert before.macro_f1.estimate == pytest.approx((0.8 + 2 * 2 / 3 + 4) / 7, abs=1e-6)
    assert after.macro_f1.estimate == pytest.approx((0.8 + 3 * 2 / 3 + 3) / 7, abs=1e-6)
    assert before.by_label["how_to"].model_dump() == {"precision": 1.0, "recall": 0.5, "f1": 0.666667, "support": 2}
    assert before.labels[-1] == NO_ANSWER
    assert NO_ANSWER not in before.by_label
    assert NO_ANSWER not in after.labels
    assert before.confusion[before.labels.index("how_to")][-1] == 1
    assert after.confusion[after.labels.index("how_to")][after.labels.index("other")] == 1
    assert sum(map(sum, after.confusion)) == 10


def test_urgency_is_also_scored_as_ordered(card: Scorecard) -> None:
    before, after = card.before.fields["urgency"], card.after.fields["urgency"]
    # one ticket is two steps off, of nine answers before and ten after; after, squared steps 4 + 1 over 254 / 10 by chance
    assert [before.off_by_two, after.off_by_two] == pytest.approx([1 / 9, 0.1], abs=1e-6)
    assert after.kappa == pytest.approx(1 - 5 / 25.4, abs=1e-6)
    assert card.after.fields["category"].kappa is None


def test_the_two_handover_errors_are_apart_and_weighted(tmp_path: Path, taxonomy: Taxonomy, card: Scorecard) -> None:
    before, after = card.before.handover, card.after.handover
    assert before.missed is not None
    assert after.missed is not None
    assert after.needless is not None
    assert (before.missed.estimate, after.missed.estimate, after.needless.estimate) == (0.4, 0.2, 0.4)
    assert (before.missed_rows, before.needless_rows, after.missed_rows, after.needless_rows) == (2, 2, 1, 2)
    assert (before.cost_a_ticket, after.cost_a_ticket) == (1.2, 0.7)  # (2 * 5 + 2) / 10 and (1 * 5 + 2) / 10
    examples = make_examples()
    predictions = load_row(tmp_path / "run", examples, taxonomy, dataset=DATASET)
    assert score_predictions(predictions, examples, taxonomy, costs=HandoverCosts(10, 0.5)).after.handover.cost_a_ticket == 1.1


def test_the_headline_is_after_policy_and_names_its_estimator(card: Scorecard) -> None:
    assert card.headline is not None
    assert set(card.headline) == {"category_macro_f1", "exact_match", "missed_handovers", *(f"{field}_accuracy" for field in LABEL_FIELDS)}
    assert card.headline["needs_human_accuracy"].estimate == 0.7
    for name, score in card.headline.items():
        assert score.low is not None, name
        assert score.high is not None, name
        assert score.low <= score.estimate <= score.high, name
        assert score.estimator, name
    assert card.headline["category_macro_f1"].estimator == "expanded BCa bootstrap over groups, 2000 resamples, seed 20261122"
    assert card.headline["exact_match"].estimator == WILSON_SINGLE
    # missed hand-overs come from five tickets of five authors
    assert (card.headline["missed_handovers"].groups, card.headline["missed_handovers"].estimator) == (5, WILSON_SINGLE)


def test_summaries_are_checked_and_their_words_counted(card: Scorecard) -> None:
    found = card.summary
    assert found is not None
    assert found.within_contract.estimate == pytest.approx(8 / 9, abs=1e-6)  # one has two sentences
    assert found.word_rows == 8  # nine triaged, one of them German
    assert found.with_made_up is not None
    assert found.with_copied_run is not None
    assert found.with_made_up.estimate == 1 / 8  # April
    assert found.made_up_share == pytest.approx(0.25 / 8)  # of invoice, April, charged, twice
    assert found.with_copied_run.estimate == 1 / 8
    assert found.rouge_l == pytest.approx((14 / 17 + 12 / 14 + 8 / 13 + 5) / 8, abs=1e-6)
    assert found.embedding_similarity is None
    assert found.embedding_similarity_absent.startswith("not computed: the optional sentence encoder")


@pytest.mark.parametrize("reason", ["summary_cut", "summary_redacted"])
def test_a_summary_that_had_to_be_mended_did_not_keep_the_contract(tmp_path: Path, taxonomy: Taxonomy, reason: str) -> None:
    """Rows hold the mended text, so no model ever broke length or privacy, however long it wrote and whatever it gave away."""
    examples, answers = make_examples(), make_answers()
    answers[3] = TicketAnswer(make_ticket(TRUTH[3]), flags=(reason,))
    answers[5] = TicketAnswer(make_ticket(TRUTH[5]), flags=("attempts:2",))
    folder = write_run(tmp_path / "run", examples, answers, taxonomy)
    found = score_predictions(load_row(folder, examples, taxonomy, dataset=DATASET), examples, taxonomy).summary
    assert found is not None
    assert found.within_contract.estimate == pytest.approx(7 / 9, abs=1e-6)  # one has two sentences


def test_confidence_is_scored_where_there_is_any(card: Scorecard) -> None:
    assert list(card.calibration) == ["category"]
    found = card.calibration["category"]
    # eight times 0.9 and right, once 0.6 and wrong
    assert found.n == 9
    assert found.brier == pytest.approx((8 * 0.01 + 0.36) / 9, abs=1e-6)
    assert found.ece == pytest.approx((8 * 0.1 + 0.6) / 9, abs=1e-6)
    assert found.coverage_at_5_percent_risk == pytest.approx(8 / 9, abs=1e-6)
    assert found.aurc == pytest.approx(1 / 81, abs=1e-6)
    assert 0 < found.ece_if_perfect <= found.ece_if_perfect_95 < 1


def test_every_slice_language_and_channel_has_its_numbers_and_the_worst_is_named(card: Scorecard) -> None:
    assert set(card.slices) == {"slice:plain", "slice:thin", "language:de", "language:en", "channel:none"}
    plain = card.slices["slice:plain"]
    assert (plain.n, plain.groups) == (5, 5)
    assert (plain.category_accuracy.estimate, plain.exact_match.estimate, plain.category_macro_f1) == (0.6, 0.6, None)
    assert plain.exact_match.estimator == WILSON_SINGLE
    assert card.worst_slice == "channel:none"  # the only one of ten tickets


def test_latency_tokens_cost_and_memory_are_summed_up(card: Scorecard) -> None:
    speed = card.speed
    assert (speed.latency_p50_ms, speed.latency_p95_ms, speed.latency_p99_ms) == (5.5, 9.55, 9.91)
    assert (speed.prompt_tokens_mean, speed.output_tokens_mean) == (90.0, 27.0)  # a to_row failure counts none
    assert (speed.cost_per_1000, speed.peak_rss_mib) == (2.0, 321.5)


def test_validity_is_a_finding_of_free_decoding_alone(tmp_path: Path, taxonomy: Taxonomy, card: Scorecard) -> None:
    assert card.validity is None
    examples, answers = make_examples(), make_answers()
    answers[3] = Failure("invalid", "not JSON: JSONDecodeError")
    folder = write_run(tmp_path / "free", examples, answers, taxonomy, is_free=True)
    found = score_predictions(load_row(folder, examples, taxonomy, dataset=DATASET), examples, taxonomy).validity
    assert found is not None
    assert (found.valid_json.estimate, found.valid_ticket.estimate) == (0.9, 0.8)


def test_failed_rows_are_counted_and_scored_nowhere(tmp_path: Path, taxonomy: Taxonomy) -> None:
    examples, answers = make_examples(repeat=2), [*make_answers(), *make_answers()]
    answers[1] = Failure("timeout")  # was wrong in urgency
    folder = write_run(tmp_path / "run", examples, answers, taxonomy)
    card = score_predictions(load_row(folder, examples, taxonomy, dataset=DATASET), examples, taxonomy)
    assert (card.n, card.triaged, card.unread, card.failed, card.incomplete) == (20, 17, 2, 1, False)
    assert card.headline is not None
    assert card.headline["urgency_accuracy"].estimate == pytest.approx(16 / 19, abs=1e-6)
    assert card.headline["urgency_accuracy"].n == 19


def test_with_more_than_one_row_in_twenty_failed_there_is_no_headline(tmp_path: Path, taxonomy: Taxonomy) -> None:
    examples, answers = make_examples(repeat=2), [*make_answers(), *make_answers()]
    answers[1] = answers[2] = Failure("unavailable")
    folder = write_run(tmp_path / "run", examples, answers, taxonomy)
    card = score_predictions(load_row(folder, examples, taxonomy, dataset=DATASET), examples, taxonomy)
    assert (card.failed, card.incomplete, card.headline) == (2, True, None)


def test_when_every_row_failed_nothing_is_scored(tmp_path: Path, taxonomy: Taxonomy) -> None:
    examples = make_examples()
    folder = write_run(tmp_path / "run", examples, [Failure("timeout")] * 10, taxonomy)
    with pytest.raises(DatasetError, match=r"all 10 rows of .* failed"):
        score_predictions(load_row(folder, examples, taxonomy, dataset=DATASET), examples, taxonomy)


def test_with_few_groups_a_share_gets_wilsons_interval_and_macro_f1_none(tmp_path: Path, taxonomy: Taxonomy) -> None:
    examples = make_examples(groups=4)
    folder = write_run(tmp_path / "run", examples, make_answers(), taxonomy)
    card = score_predictions(load_row(folder, examples, taxonomy, dataset=DATASET), examples, taxonomy)
    category = card.after.fields["category"]
    assert [category.accuracy.low, category.accuracy.high] == pytest.approx([0.490, 0.943], abs=5e-4)  # 8 of 10
    assert category.accuracy.estimator == WILSON_ROWS
    assert (category.macro_f1.low, category.macro_f1.high, category.macro_f1.estimator) == (None, None, TOO_FEW)


def test_a_scorecard_reads_back_as_it_was_written(tmp_path: Path, card: Scorecard) -> None:
    path = write_scorecard(tmp_path, card)
    assert path == tmp_path / "scorecard.json"
    assert Scorecard.model_validate_json(path.read_bytes()) == card
