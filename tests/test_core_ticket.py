"""Messages in, tickets out: their form, their JSON, their schema."""

from __future__ import annotations

import json

import pytest

from tests.conftest import BILLING
from triage.errors import MessageError
from triage.taxonomy import Taxonomy
from triage.ticket import Message, decoding_schema, parse_message, render_ticket, ticket_schema


def test_a_ticket_is_written_compactly_with_decisions_first() -> None:
    assert render_ticket(BILLING) == (
        '{"category":"billing","urgency":"medium","needs_human":true,"next_action":"check_billing",'
        '"summary":"Paid for Pro but the dashboard still shows Free."}'
    )


def test_the_published_schema_bounds_the_summary_and_the_decoding_schema_does_not(taxonomy: Taxonomy) -> None:
    assert ticket_schema(taxonomy)["properties"]["summary"]["maxLength"] == 160
    assert "maxLength" not in decoding_schema(taxonomy)["properties"]["summary"]
    assert ticket_schema(taxonomy)["properties"]["category"]["enum"] == list(taxonomy.labels("category"))
    assert ticket_schema(taxonomy)["additionalProperties"] is False


def test_an_unknown_key_is_named_and_the_known_ones_are_listed() -> None:
    with pytest.raises(MessageError, match=r"line 3: mesage: unknown key \(known are message, subject"):
        parse_message({"message": "x", "mesage": "y"}, source="line 3")


def test_faults_never_quote_the_customer() -> None:
    with pytest.raises(MessageError) as caught:
        parse_message({"message": 5, "subject": ["my secret"], "channel": "my secret"}, source="it")
    assert "secret" not in str(caught.value)
    assert str(caught.value).count(";") == 2


def test_lone_surrogates_controls_and_line_ends_are_made_harmless() -> None:
    message = Message(message="a\r\nb\x00c\ud800d\u2028e")
    assert message.message == "a\nb c\ufffdd e"
    json.dumps(message.model_dump()).encode("utf-8")


def test_an_empty_message_is_a_message() -> None:
    assert parse_message({"message": ""}, source="it").message == ""


def test_a_turn_uses_the_key_from() -> None:
    message = parse_message({"message": "x", "thread": [{"from": "agent", "text": "hello"}]}, source="it")
    assert message.model_dump(by_alias=True)["thread"] == [{"from": "agent", "text": "hello"}]
