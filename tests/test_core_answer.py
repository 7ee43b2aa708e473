"""A model's text becomes a ticket or a typed failure, and the policy only ever raises."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import BILLING
from triage.answer import Failure, TicketAnswer, cut_summary, parse_answer
from triage.policy import decide
from triage.redact import redact_summary
from triage.taxonomy import Taxonomy, parse_taxonomy
from triage.ticket import Ticket, render_ticket


def _with(**changes: Any) -> str:
    return json.dumps(BILLING.model_dump() | changes)


def test_a_valid_answer_is_read_without_flags(taxonomy: Taxonomy) -> None:
    assert parse_answer(render_ticket(BILLING), taxonomy) == TicketAnswer(BILLING)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not json",
        "[]",
        "null",
        _with(category="invented"),
        _with(needs_human="yes"),
        _with(extra=1),
        _with(summary=""),
        _with(summary="  \n "),
        _with(summary=None),
        json.dumps({"category": "billing"}),
        "[" * 50_000,
    ],
)
def test_anything_outside_the_schema_is_invalid(taxonomy: Taxonomy, text: str) -> None:
    answer = parse_answer(text, taxonomy)
    assert isinstance(answer, Failure)
    assert answer.reason == "invalid"


def test_an_unfinished_answer_is_truncated_even_when_it_parses(taxonomy: Taxonomy) -> None:
    assert parse_answer(render_ticket(BILLING), taxonomy, finished=False) == Failure("truncated", "the model did not finish within its token limit")


def test_a_long_summary_is_cut_at_a_sentence_and_flagged(taxonomy: Taxonomy) -> None:
    answer = parse_answer(_with(summary="First part is a whole sentence of some length, and it ends here. " + "word " * 40), taxonomy)
    assert isinstance(answer, TicketAnswer)
    assert answer.ticket.summary == "First part is a whole sentence of some length, and it ends here."
    assert answer.flags == ("summary_cut",)


def test_personal_data_in_a_summary_becomes_a_placeholder_and_is_flagged(taxonomy: Taxonomy) -> None:
    answer = parse_answer(_with(summary="Asks to be called at +49 30 123456-78 or mailed at jo@example.org."), taxonomy)
    assert isinstance(answer, TicketAnswer)
    assert answer.ticket.summary == "Asks to be called at [number] or mailed at [email]."
    assert answer.flags == ("summary_redacted",)


@pytest.mark.parametrize(
    "text", ["error 503 since 9 am", "due 29/02/2024", "2024-02-29", "paid 1,234.50 on 12 May 2024", "version 2.13.0", "40 people"]
)
def test_dates_amounts_and_versions_are_not_personal_data(text: str) -> None:
    assert redact_summary(text) == text


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("card 4111 1111 1111 1111", "card [number]"),
        ("Nr.4111111111111111", "Nr.[number]"),
        ("order_4111111111111111", "order_[number]"),
        ("4111\u20111111\u20111111\u20111111", "[number]"),
        ("SSN 123-45-6789", "SSN [number]"),
        ("phone 089/12/3456", "phone [number]"),
        ("order 502-2345678-9012345", "order [number]"),
        ("order AB-12345X", "order [number]"),
        ("IBAN DE89 3704 0044 0532 0130 00", "IBAN [iban]"),
        ("from 10.0.0.1", "from [ip]"),
        ("see https://a.example/x?token=1", "see [url]"),
    ],
)
def test_structured_personal_data_is_replaced(text: str, redacted: str) -> None:
    assert redact_summary(text) == redacted


@given(st.text(max_size=400) | st.integers(161, 300).map(lambda count: "-" * count + " text"))
def test_a_cut_summary_is_a_prefix_within_the_limit(text: str) -> None:
    short = cut_summary(text)
    assert len(short) <= 160
    assert bool(short) == bool(text)
    assert text.startswith(short)


def test_a_failure_becomes_the_fallback_ticket(taxonomy: Taxonomy) -> None:
    decision = decide(Failure("timeout"), taxonomy)
    assert decision.decided_by == "fallback"
    assert decision.reasons == ("timeout",)
    assert decision.ticket.needs_human is True
    assert decision.ticket.summary == "Not read by the model."


def test_the_policy_raises_a_security_ticket_and_replaces_its_action(taxonomy: Taxonomy) -> None:
    ticket = Ticket(category="security", urgency="low", needs_human=False, next_action="close", summary="A stranger logged in.")
    decision = decide(TicketAnswer(ticket), taxonomy)
    assert (decision.ticket.needs_human, decision.ticket.next_action, decision.decided_by) == (True, "assign_agent", "policy")
    assert decision.reasons == ("always_human:security",)


def test_the_policy_keeps_an_action_that_a_person_can_take(taxonomy: Taxonomy) -> None:
    ticket = Ticket(category="security", urgency="low", needs_human=False, next_action="escalate_security", summary="A stranger logged in.")
    assert decide(TicketAnswer(ticket), taxonomy).ticket.next_action == "escalate_security"


def test_low_confidence_goes_to_a_person_once_a_floor_is_set(taxonomy: Taxonomy) -> None:
    content = json.loads(taxonomy.model_dump_json())
    content["policy"]["confidence_floors"] = {"category": 0.6}
    strict = parse_taxonomy(content, source="it")
    ticket = Ticket(category="how_to", urgency="low", needs_human=False, next_action="send_help_article", summary="Asks how.")
    assert decide(TicketAnswer(ticket, {"category": 0.59}), strict).reasons == ("low_confidence:category",)
    assert decide(TicketAnswer(ticket, {"category": 0.6}), strict).decided_by == "model"


def test_the_policy_never_lowers_needs_human(taxonomy: Taxonomy) -> None:
    for category in taxonomy.labels("category"):
        ticket = BILLING.model_copy(update={"category": category})
        assert decide(TicketAnswer(ticket), taxonomy).ticket.needs_human is True
