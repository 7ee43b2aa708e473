"""The HTTP surface on a fake engine: tickets, problems, limits, metrics."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.app import create_app
from service.settings import Settings
from tests.conftest import FakeEngine
from tests.hostile import compose, repeats, seeds, wrappers
from triage.answer import Failure
from triage.errors import SettingsError
from triage.extract import candidate_sentences
from triage.redact import redact_summary
from triage.taxonomy import Taxonomy, load_taxonomy
from triage.ticket import Ticket, ticket_faults, ticket_schema


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with TestClient(create_app(Settings(), taxonomy=load_taxonomy(), engine=FakeEngine()), raise_server_exceptions=False) as client:
        yield client


def _assert_problem(response: object, status: int, slug: str) -> dict[str, object]:
    assert response.status_code == status, response.text  # type: ignore[attr-defined]
    assert response.headers["content-type"] == "application/problem+json"  # type: ignore[attr-defined]
    body: dict[str, object] = response.json()  # type: ignore[attr-defined]
    assert body["type"] == f"urn:ticket-triage:problem:{slug}"
    assert body["status"] == status
    assert body["request_id"] == response.headers["x-request-id"]  # type: ignore[attr-defined]
    assert body["hint"]
    return body


def test_a_message_becomes_a_ticket(client: TestClient) -> None:
    response = client.post("/v1/tickets", json={"message": "I paid and nothing happened", "external_id": "desk-7"})
    assert response.status_code == 200
    body = response.json()
    assert body["id"].startswith("tkt_")
    assert body["external_id"] == "desk-7"
    assert body["status"] == "triaged"
    assert body["decided_by"] == "model"
    assert body["confidence"] == {"category": 0.9}
    assert body["release"] == "fake-1"
    assert list(body["ticket"]) == ["category", "urgency", "needs_human", "next_action", "summary"]


def test_a_failed_message_ends_with_a_person_and_a_200() -> None:
    with TestClient(create_app(Settings(), taxonomy=load_taxonomy(), engine=FakeEngine(lambda _: Failure("timeout")))) as client:
        body = client.post("/v1/tickets", json={"message": "hello"}).json()
        assert body["status"] == "unread"
        assert body["decided_by"] == "fallback"
        assert body["ticket"]["needs_human"] is True
        assert body["reasons"] == ["timeout"]
        assert body["confidence"] == {}
        metrics = client.get("/metrics").text
        assert 'triage_engine_failures_total{reason="timeout"} 1.0' in metrics


@pytest.mark.parametrize(
    ("content", "status", "slug"),
    [
        (b"", 400, "not-json"),
        (b"{", 400, "not-json"),
        (b'{"message": NaN}', 400, "not-json"),
        (b'{"message": "a", "message": "b"}', 400, "not-json"),
        (b"[" * 200_000, 400, "not-json"),
        (b'{"message": "\xff\xfe"}', 400, "not-utf-8"),
        (b'"text"', 422, "not-a-message"),
        (b'{"message": 5}', 422, "not-a-message"),
        (b'{"mesage": "a"}', 422, "not-a-message"),
        (b'{"message": "a", "channel": "pigeon"}', 422, "not-a-message"),
        (b'{"message": "a", "\\ud800": 1}', 422, "not-a-message"),
        (b'{"message": "' + b"a" * (256 * 1024) + b'"}', 413, "body-too-large"),
    ],
)
def test_a_bad_body_is_a_problem_that_names_the_next_step(client: TestClient, content: bytes, status: int, slug: str) -> None:
    _assert_problem(client.post("/v1/tickets", content=content, headers={"content-type": "application/json"}), status, slug)


def test_a_deep_body_a_huge_number_and_a_list_are_problems_in_plain_words(client: TestClient) -> None:
    deep = client.post("/v1/tickets", content=b'{"message": "x", "metadata": {"a": ' + b"[" * 900 + b"1" + b"]" * 900 + b"}}")
    assert deep.status_code < 500
    assert len(deep.text) < 3_000
    number = client.post("/v1/tickets", content=b'{"message": "x", "metadata": {"n": ' + b"9" * 6_000 + b"}}")
    assert "set_int_max_str_digits" not in _assert_problem(number, 400, "not-json")["detail"]  # type: ignore[operator]
    assert "JSON list" in _assert_problem(client.post("/v1/tickets", content=b"[]"), 422, "not-a-message")["detail"]  # type: ignore[operator]


def test_a_trailing_slash_is_an_unknown_route_and_head_asks_for_health(client: TestClient) -> None:
    _assert_problem(client.post("/v1/tickets/", json={"message": "x"}), 404, "not-found")
    assert client.head("/healthz").status_code == 200


def test_a_body_without_a_declared_length_is_bounded_too(client: TestClient) -> None:
    def chunks() -> Iterator[bytes]:
        yield b'{"message": "'
        for _ in range(300):
            yield b"a" * 1024
        yield b'"}'

    _assert_problem(client.post("/v1/tickets", content=chunks(), headers={"content-type": "application/json"}), 413, "body-too-large")


def test_another_content_type_is_refused(client: TestClient) -> None:
    _assert_problem(client.post("/v1/tickets", content=b"message=a", headers={"content-type": "application/x-www-form-urlencoded"}), 415, "not-json")


def test_problems_never_quote_the_customer(client: TestClient) -> None:
    records: list[dict[str, object]] = [
        {"message": "x", "channel": "hunter2"},
        {"message": {"hunter2": 1}},
        {"message": "x", "thread": [{"from": "hunter2"}]},
        {"message": "x", "my pw is hunter2": 1},
    ]
    for record in records:
        response = client.post("/v1/tickets", json=record)
        assert response.status_code == 422
        assert "hunter2" not in response.text


def test_a_lone_surrogate_is_read(client: TestClient) -> None:
    response = client.post(
        "/v1/tickets", content=b'{"message": "broken \\ud83d half", "subject": "\\udc00"}', headers={"content-type": "application/json"}
    )
    assert response.status_code == 200


def test_unknown_routes_and_methods_are_problems(client: TestClient) -> None:
    _assert_problem(client.get("/nowhere"), 404, "not-found")
    _assert_problem(client.delete("/v1/tickets"), 405, "method-not-allowed")


def test_a_callers_request_id_is_kept_when_it_is_plain(client: TestClient) -> None:
    assert client.get("/healthz", headers={"x-request-id": "abc-1"}).headers["x-request-id"] == "abc-1"
    assert client.get("/healthz", headers={"x-request-id": "a b\tc" * 99}).headers["x-request-id"].startswith("req_")


def test_a_bug_is_a_500_that_tells_nothing() -> None:
    def reply(_: object) -> Failure:
        raise RuntimeError("secret")

    with TestClient(create_app(Settings(), taxonomy=load_taxonomy(), engine=FakeEngine(reply)), raise_server_exceptions=False) as client:
        response = client.post("/v1/tickets", json={"message": "hello"})
        _assert_problem(response, 500, "internal")
        assert "secret" not in response.text


def test_beyond_the_messages_in_flight_the_answer_is_503_with_a_time_to_wait() -> None:
    import threading

    entered, leave = threading.Event(), threading.Event()

    def reply(_: object) -> Failure:
        entered.set()
        leave.wait(10)
        return Failure("timeout")

    class Slow(FakeEngine):
        async def answer(self, prompts, *, deadline_s):  # type: ignore[no-untyped-def]
            import asyncio

            return await asyncio.to_thread(lambda: [reply(prompt) for prompt in prompts])

    with TestClient(create_app(Settings(max_in_flight=1), taxonomy=load_taxonomy(), engine=Slow())) as client:
        first = threading.Thread(target=lambda: client.post("/v1/tickets", json={"message": "one"}))
        first.start()
        assert entered.wait(10)
        refused = client.post("/v1/tickets", json={"message": "two"})
        leave.set()
        first.join()
        _assert_problem(refused, 503, "busy")
        assert refused.headers["retry-after"] == "1"
        assert client.post("/v1/tickets", json={"message": "three"}).status_code == 200


def test_the_schema_and_the_documentation_hold_the_taxonomys_labels(client: TestClient, taxonomy: Taxonomy) -> None:
    assert client.get("/v1/schema").json() == ticket_schema(taxonomy)
    document = client.get("/openapi.json").json()
    ok = document["paths"]["/v1/tickets"]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert ok["properties"]["ticket"]["properties"]["category"]["enum"] == list(taxonomy.labels("category"))
    page = client.get("/docs")
    assert page.status_code == 200
    assert "https://" not in page.text


def test_every_series_is_there_before_the_first_message(taxonomy: Taxonomy) -> None:
    with TestClient(create_app(Settings(), taxonomy=load_taxonomy(), engine=FakeEngine())) as client:
        metrics = client.get("/metrics").text
    for category in taxonomy.labels("category"):
        assert f'triage_tickets_total{{category="{category}",decided_by="model"}} 0.0' in metrics
    assert 'triage_http_requests_total{outcome="ok",route="tickets"} 0.0' in metrics
    assert "triage_engine_up 1.0" in metrics
    assert 'triage_release_info{release="fake-1"' in metrics


def test_requests_are_counted_by_outcome_and_timed() -> None:
    with TestClient(create_app(Settings(), taxonomy=load_taxonomy(), engine=FakeEngine())) as client:
        client.post("/v1/tickets", json={"message": "hello"})
        client.post("/v1/tickets", content=b"{", headers={"content-type": "application/json"})
        metrics = client.get("/metrics").text
    assert 'triage_http_requests_total{outcome="ok",route="tickets"} 1.0' in metrics
    assert 'triage_http_requests_total{outcome="client_error",route="tickets"} 1.0' in metrics
    assert 'triage_http_request_duration_seconds_count{route="tickets"} 2.0' in metrics
    assert 'triage_tickets_total{category="billing",decided_by="model"} 1.0' in metrics


FIELDS = ("message", "subject", "thread", "external_id", "metadata")


def _hostile_record(text: str, field: str) -> dict[str, object]:
    if field == "thread":
        return {"message": "hello", "thread": [{"from": "customer", "text": text}]}
    return {"message": "hello"} | {field: {text[:50]: text} if field == "metadata" else text}


def test_two_thousand_hostile_messages_never_cause_a_server_error(client: TestClient) -> None:
    lengths: list[int] = []
    read_lengths: list[int] = []

    @settings(max_examples=2_000, suppress_health_check=list(HealthCheck))
    @given(seed=seeds, repeat=repeats, wrapper=wrappers, field=st.sampled_from((*["message"] * 8, *FIELDS)))
    def post(seed: str, repeat: int, wrapper: str, field: str) -> None:
        text = compose(seed, repeat, wrapper)
        lengths.append(len(text.encode("utf-8", "surrogatepass")))
        broken = any("\ud800" <= character <= "\udfff" for character in text)
        body = json.dumps(_hostile_record(text, field), ensure_ascii=broken).encode("utf-8")
        response = client.post("/v1/tickets", content=body, headers={"content-type": "application/json"})
        assert response.status_code == 200 or 400 <= response.status_code < 500
        if response.status_code == 200:
            read_lengths.append(lengths[-1])
            assert ticket_faults(Ticket.model_validate(response.json()["ticket"]), load_taxonomy()) == []

    post()
    assert len(lengths) >= 2_000
    assert sum(length > 50_000 for length in lengths) >= len(lengths) / 10
    assert sum(length > 50_000 for length in read_lengths) >= len(lengths) / 20, "the long ones must get past the size limit"


def test_texts_that_once_took_minutes_are_answered_at_once(client: TestClient) -> None:
    """Patterns that backtracked over long runs held the whole service up."""
    for text in ("a" + "\n" * 40_000 + "b", "a-" * 40_000, "a" + "\u2003" * 40_000 + "b", "." * 80_000, "1 " * 40_000, "x@" * 40_000, "> " * 40_000):
        begin = time.perf_counter()
        assert client.post("/v1/tickets", json={"message": text}).status_code == 200
        candidates = candidate_sentences(text)
        for sentence in candidates:
            redact_summary(sentence)
        assert time.perf_counter() - begin < 1.0, text[:5]


def test_every_bad_setting_is_named_with_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIAGE_PORT", "99999")
    monkeypatch.setenv("TRIAGE_HOST", "0.0.0.0")
    monkeypatch.setenv("TRIAGE_LOG_FORMAT", "xml")
    with pytest.raises(SettingsError) as caught:
        Settings.load()
    for words in ("TRIAGE_PORT is '99999'", "TRIAGE_HOST is '0.0.0.0': only a loopback address", "TRIAGE_LOG_FORMAT is 'xml'"):
        assert words in str(caught.value)


def test_a_setting_that_does_not_exist_is_refused_with_the_nearest_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIAGE_PROT", "9")
    with pytest.raises(SettingsError, match="unknown settings: TRIAGE_PROT") as caught:
        Settings.load()
    assert "did you mean TRIAGE_PORT?" in caught.value.hint


def test_an_option_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIAGE_PORT", "9000")
    assert Settings.load().port == 9000
    assert Settings.load(port=9001, host=None).port == 9001
