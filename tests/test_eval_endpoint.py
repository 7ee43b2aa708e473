"""The endpoint against a loopback server: what it sends, and what it makes of every way a server can answer."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from eval.endpoint import Endpoint, EndpointSettings
from eval.rung import Reading, RungCard
from eval.rungs import RungBuilder
from tests.chat_server import ChatServer, Response, completion, refusal
from tests.conftest import BILLING
from triage.answer import Failure, TicketAnswer
from triage.engines.base import Engine
from triage.errors import EngineError, TriageError
from triage.prompt import Prompt, build_prompt
from triage.taxonomy import LABEL_FIELDS, Taxonomy
from triage.ticket import Message

VARIABLE = "TRIAGE_TEST_KEY"
HTML = (502, {"content-type": "text/html"}, b"<html><body>Bad gateway</body></html>")


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., ChatServer]]:
    """Start a server that gives these answers in turn, the last one for ever."""
    monkeypatch.setenv(VARIABLE, "key-1")
    running: list[ChatServer] = []

    def start(*answers: Response | Callable[[dict[str, Any]], Response]) -> ChatServer:
        waiting = list(answers)

        def reply(body: dict[str, Any]) -> Response:
            answer = waiting.pop(0) if len(waiting) > 1 else waiting[0]
            return answer(body) if callable(answer) else answer

        server = ChatServer(reply)
        running.append(server)
        return server.__enter__()

    yield start
    for server in running:
        server.__exit__(None, None, None)


def _prompt(taxonomy: Taxonomy, text: str = "charged twice") -> Prompt:
    return build_prompt(Message(message=text), taxonomy, kind="zero_shot")


def _ask(url: str, taxonomy: Taxonomy, *, deadline_s: float = 5.0, is_free: bool = False, **settings: Any) -> Reading:
    async def ask() -> Reading:
        engine = Endpoint(
            EndpointSettings.model_validate({"base_url": url, "model": "large", "key_variable": VARIABLE, **settings}), taxonomy, pause_s=0.02
        )
        try:
            return await (engine.ask_free if is_free else engine.ask)(_prompt(taxonomy), deadline_s)
        finally:
            await engine.aclose()

    return asyncio.run(ask())


def _failure(reading: Reading) -> Failure:
    assert isinstance(reading.answer, Failure)
    return reading.answer


def test_a_request_is_constrained_deterministic_and_carries_the_key(serve: Callable[..., ChatServer], taxonomy: Taxonomy) -> None:
    server = serve(completion(BILLING))
    reading = _ask(server.url + "/", taxonomy, input_price=2.0, output_price=10.0)
    assert reading.answer == TicketAnswer(BILLING, prompt_tokens=700, output_tokens=50)
    assert (reading.prompt_tokens, reading.output_tokens) == (700, 50)
    assert reading.cost == pytest.approx(0.0019)  # (700 * 2 + 50 * 10) / 1,000,000
    [body] = server.bodies
    assert server.keys == ["Bearer key-1"]
    assert (body["model"], body["temperature"], [message["role"] for message in body["messages"]]) == ("large", 0, ["system", "user"])
    schema = body["response_format"]["json_schema"]
    assert (body["response_format"]["type"], schema["strict"]) == ("json_schema", True)
    assert schema["schema"]["properties"]["category"]["enum"] == list(taxonomy.labels("category"))
    assert schema["schema"]["required"] == [*LABEL_FIELDS, "summary"]
    assert "minLength" not in schema["schema"]["properties"]["summary"]


def test_without_a_constraint_no_format_is_asked_for_and_prose_is_an_invalid_answer(serve: Callable[..., ChatServer], taxonomy: Taxonomy) -> None:
    server = serve(completion("Sure! Here is the ticket: {}"))
    reading = _ask(server.url, taxonomy, is_free=True)
    assert "response_format" not in server.bodies[0]
    assert (_failure(reading).reason, reading.prompt_tokens, reading.cost) == ("invalid", 700, None)


def test_no_price_is_no_cost_and_not_nothing(serve: Callable[..., ChatServer], taxonomy: Taxonomy) -> None:
    assert _ask(serve(completion(BILLING)).url, taxonomy).cost is None


@pytest.mark.parametrize(
    ("answer", "reason", "detail"),
    [
        (refusal(429, "rate_limit_exceeded"), "unavailable", "HTTP 429 rate_limit_exceeded"),
        (refusal(500), "unavailable", "HTTP 500 some_error"),
        (refusal(400, "unsupported_parameter"), "unavailable", "HTTP 400 unsupported_parameter"),
        (refusal(400, "context_length_exceeded"), "too_long", "HTTP 400 context_length_exceeded"),
        (refusal(400, "a sentence that quotes the message"), "unavailable", "HTTP 400"),
        (HTML, "unavailable", "HTTP 502"),
        ((302, {"location": "/elsewhere"}, b""), "unavailable", "HTTP 302"),
        ((200, {"content-type": "text/html; charset=utf-8"}, b"<html>log in</html>"), "unavailable", "HTTP 200, but no chat completion (text/html)"),
        ((200, {"content-type": "application/json"}, b'{"choices": []}'), "unavailable", "HTTP 200, but no chat completion (application/json)"),
        ((200, {"content-type": "application/json"}, b"[" * 100_000), "unavailable", "HTTP 200, but no chat completion (application/json)"),
        (completion('{"category": '), "invalid", "not JSON: JSONDecodeError"),
        (completion(BILLING.model_copy(update={"category": "bills"})), "invalid", "labels outside the taxonomy: category"),
        (completion('{"category":"billing"', finish="length"), "truncated", "the model did not finish within its token limit"),
        (completion(None, refusal="I cannot"), "invalid", "refused by the server or the model"),
        (completion("", finish="content_filter"), "invalid", "refused by the server or the model"),
        (completion(None), "invalid", "an answer without text"),
    ],
)
def test_every_bad_answer_is_a_failure_that_says_what_came(
    serve: Callable[..., ChatServer], taxonomy: Taxonomy, answer: Response, reason: str, detail: str
) -> None:
    server = serve(answer)
    failure = _failure(_ask(server.url, taxonomy))
    assert (failure.reason, failure.detail) == (reason, detail)
    assert len(server.bodies) == (2 if answer[0] in (429, 500, 502) else 1)


def test_a_busy_server_is_asked_a_second_time(serve: Callable[..., ChatServer], taxonomy: Taxonomy) -> None:
    server = serve(refusal(503), completion(BILLING))
    assert isinstance(_ask(server.url, taxonomy).answer, TicketAnswer)
    assert len(server.bodies) == 2


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_waited_for(serve: Callable[..., ChatServer], taxonomy: Taxonomy, status: int) -> None:
    server = serve(refusal(status, retry_after="0.3"), completion(BILLING))
    begin = time.monotonic()
    assert isinstance(_ask(server.url, taxonomy).answer, TicketAnswer)
    assert time.monotonic() - begin >= 0.3


@pytest.mark.parametrize("value", ["60", format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)])
def test_a_wait_beyond_the_deadline_is_not_begun(serve: Callable[..., ChatServer], taxonomy: Taxonomy, value: str) -> None:
    server = serve(refusal(429, retry_after=value), completion(BILLING))
    begin = time.monotonic()
    assert _failure(_ask(server.url, taxonomy, deadline_s=2)).detail == "HTTP 429 some_error"
    assert (len(server.bodies), time.monotonic() - begin < 2) == (1, True)


@pytest.mark.parametrize("value", ["soon", "-5", "1e9", "Wed, 99 Foo 2026"])
def test_a_retry_after_that_says_nothing_is_ignored(serve: Callable[..., ChatServer], taxonomy: Taxonomy, value: str) -> None:
    server = serve(refusal(429, retry_after=value), completion(BILLING))
    assert isinstance(_ask(server.url, taxonomy).answer, TicketAnswer)


def test_a_server_that_hangs_is_a_timeout(serve: Callable[..., ChatServer], taxonomy: Taxonomy) -> None:
    def hang(_: dict[str, Any]) -> Response:
        time.sleep(2)
        return completion(BILLING)

    begin = time.monotonic()
    assert _failure(_ask(serve(hang).url, taxonomy, deadline_s=0.3)) == Failure("timeout", "no answer within 0.3 s")
    assert time.monotonic() - begin < 1.9


def test_a_refused_connection_is_unavailable(serve: Callable[..., ChatServer], taxonomy: Taxonomy) -> None:
    assert _failure(_ask("http://127.0.0.1:1/v1", taxonomy)) == Failure("unavailable", "the connection failed: ConnectError")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (refusal(401, "invalid_api_key"), f"answered 401 \\({VARIABLE}: the key in it was refused"),
        (refusal(403), f"answered 403 \\({VARIABLE}"),
        (refusal(404, "model_not_found"), "answered 404: it has no model 'large'"),
        (refusal(429, "insufficient_quota"), f"the account of {VARIABLE} has nothing left"),
    ],
)
def test_what_concerns_every_message_stops_the_run(serve: Callable[..., ChatServer], taxonomy: Taxonomy, answer: Response, message: str) -> None:
    server = serve(answer)
    with pytest.raises(EngineError, match=message) as caught:
        _ask(server.url, taxonomy)
    assert len(server.bodies) == 1
    assert caught.value.hint
    assert "key-1" not in str(caught.value) + caught.value.hint
    assert "secret" not in str(caught.value)


def test_a_key_that_is_not_set_is_not_sent_and_named_when_it_was_wanted(
    serve: Callable[..., ChatServer], taxonomy: Taxonomy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE)
    server = serve(refusal(401))
    with pytest.raises(EngineError, match=f"{VARIABLE}: it is not set"):
        _ask(server.url, taxonomy)
    assert server.keys == [None]


def test_what_cannot_be_a_key_is_refused_without_showing_it(taxonomy: Taxonomy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "my secret\nkey")
    with pytest.raises(TriageError, match=f"{VARIABLE} does not hold a key") as caught:
        _ask("http://127.0.0.1:1/v1", taxonomy)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["", "localhost:8000", "ftp://a/v1", "http://me:pw@a/v1", "http://a/v1?key=1"])
def test_an_address_that_cannot_be_one_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="host"):
        EndpointSettings(base_url=url, model="m")


@pytest.mark.parametrize("url", ["http://a:65536/v1", "http://a:99999/v1", "http://a:port/v1", "http://a:0/v1"])
def test_a_port_out_of_range_is_a_fault_of_the_settings(url: str) -> None:
    """It once passed, and every message failed with an error of httpx."""
    with pytest.raises(ValueError, match="from 1 to 65535"):
        EndpointSettings(base_url=url, model="m")


@pytest.mark.parametrize("price", ["input_price", "output_price"])
def test_one_price_alone_is_refused(price: str) -> None:
    """It was taken, and no cost was ever shown."""
    with pytest.raises(ValueError, match="go together"):
        EndpointSettings.model_validate({"base_url": "http://a/v1", "model": "m", price: 1.0})


def test_a_message_that_was_too_long_cost_nothing(serve: Callable[..., ChatServer], taxonomy: Taxonomy) -> None:
    """It had no cost at all, as if no price were known."""
    server = serve(refusal(400, "context_length_exceeded"))
    assert _ask(server.url, taxonomy, input_price=2.0, output_price=10.0).cost == 0.0
    assert _ask(server.url, taxonomy).cost is None


def test_prices_are_no_part_of_what_a_run_is_and_the_message_budget_is_the_endpoints_own(tmp_path: Path, taxonomy: Taxonomy) -> None:
    """A run was refused as another one after a change of price, and messages were cut to the embedded model's 384 tokens."""

    def card(**prices: float) -> RungCard:
        settings = EndpointSettings.model_validate({"base_url": "http://a/v1", "model": "m", "key_variable": VARIABLE, **prices})
        builder = RungBuilder(tmp_path, taxonomy, tmp_path, endpoint=settings)
        rung = builder.build("endpoint_zero_shot")
        asyncio.run(builder.aclose())
        return rung.card

    assert card() == card(input_price=2.0, output_price=10.0)
    assert card().config["message_tokens"] == 2_000


def test_it_is_an_engine_that_asks_a_few_at_a_time_and_keeps_their_order(serve: Callable[..., ChatServer], taxonomy: Taxonomy) -> None:
    def echo(body: dict[str, Any]) -> Response:
        time.sleep(0.05)
        return completion(BILLING.model_copy(update={"summary": body["messages"][-1]["content"]}))

    server = serve(echo)

    async def ask() -> list[str]:
        engine = Endpoint(EndpointSettings(base_url=server.url, model="large", key_variable=VARIABLE, concurrency=3), taxonomy)
        assert isinstance(engine, Engine)
        answers = await engine.answer([_prompt(taxonomy, f"message {number}") for number in range(9)], deadline_s=20)
        await engine.aclose()
        assert await engine.write_free([_prompt(taxonomy)], deadline_s=20) == [Failure("unavailable", "the engine is closed")]
        return [answer.ticket.summary for answer in answers if isinstance(answer, TicketAnswer)]

    assert asyncio.run(ask()) == [f"message {number}" for number in range(9)]
    assert 1 <= server.busiest <= 3


def test_nothing_of_a_message_is_logged(serve: Callable[..., ChatServer], taxonomy: Taxonomy, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        _ask(serve(refusal(500), completion(BILLING)).url, taxonomy)
    assert "charged twice" not in caplog.text
    assert "dashboard" not in caplog.text
    assert "key-1" not in caplog.text


def test_a_token_is_counted_for_three_bytes(taxonomy: Taxonomy) -> None:
    async def count() -> list[int]:
        engine = Endpoint(EndpointSettings(base_url="http://a/v1", model="m", key_variable=VARIABLE), taxonomy)
        await engine.aclose()
        return [engine.count_tokens(text) for text in ("", "a", "abcd", "漢字")]

    assert asyncio.run(count()) == [0, 1, 2, 2]
