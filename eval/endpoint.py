"""Any server that speaks the OpenAI chat-completions dialect, as the larger model of the ladder.

A message without an answer is a failure that names the status: 429, 5xx, HTML, a hang, a refused connection. What concerns every
message stops the run at once: a refused key, an unknown model or address, a spent quota. Requests go out at temperature 0 with
`response_format` of type `json_schema`, or none where the model writes freely. At most two tries a message, the second after what
`Retry-After` asks for or a second with jitter, and both within the message's deadline. Nothing of a message or an answer is logged.

It counts a token for three bytes, since it does not know the server's tokenizer; the server's own `usage` goes into the results.
`strict` of OpenAI's structured outputs knows no `minLength`, so the schema goes without it and `parse_answer` sees to the rest.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from eval.rung import Reading
from triage.answer import Answer, Failure, parse_answer, with_details, with_flag
from triage.errors import EngineError
from triage.prompt import Prompt, PromptKind
from triage.taxonomy import Taxonomy
from triage.ticket import decoding_schema

TRIES = 2
RETRIED = frozenset({408, 429, 500, 502, 503, 504, 529})
REFUSED_KEY, UNPAID, NOT_FOUND = frozenset({401, 403}), 402, 404
_CODE = re.compile(r"[A-Za-z0-9_.-]{1,60}")


class EndpointSettings(BaseModel):
    """Where the larger model is and what it costs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_url: str
    """Up to and without `/chat/completions`, for example `http://127.0.0.1:8000/v1`."""
    model: Annotated[str, Field(min_length=1, max_length=200)]
    """The model's name as the server knows it."""
    key_variable: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] = "TRIAGE_EVAL_API_KEY"
    """The environment variable that holds the key; unset where the server asks for none."""
    input_price: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """Price of a million prompt tokens, in any currency."""
    output_price: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """Price of a million written tokens, in the same one."""
    answer_tokens: Annotated[int, Field(ge=64)] = 256
    """The most tokens of an answer."""
    prompt_tokens: Annotated[int, Field(ge=256)] = 6_000
    """The longest prompt, in tokens of three bytes."""
    message_tokens: Annotated[int, Field(ge=64)] = 2_000
    """The most of a message that is shown, in tokens of three bytes, where instructions and answer leave room for it."""
    concurrency: Annotated[int, Field(ge=1, le=64)] = 4
    """Requests at once."""

    @field_validator("base_url")
    @classmethod
    def _check_url(cls, value: str) -> str:
        try:
            parts = urlsplit(value)
            port = parts.port
        except ValueError:
            raise ValueError("it has to be http(s)://host[:port]/path, with a port from 1 to 65535") from None
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("it has to be http(s)://host[:port]/path, without a name, a password or a query")
        if port == 0:
            raise ValueError("the port has to be from 1 to 65535")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _check_prices(self) -> Self:
        if (self.input_price is None) != (self.output_price is None):
            raise ValueError("input_price and output_price go together, since one alone gives no cost")
        return self


class Endpoint:
    """An Engine behind an OpenAI-compatible server. Use it in one event loop and close it there.

    Args:
        settings: which server and model.
        taxonomy: whose tickets are asked for.
        pause_s: the wait before a second try where the server names none, up to half as long again.

    Raises:
        EngineError: the environment variable holds what cannot be a key.
    """

    name = "endpoint"
    prompt_kind: PromptKind = "zero_shot"

    def __init__(self, settings: EndpointSettings, taxonomy: Taxonomy, *, pause_s: float = 1.0) -> None:
        self.settings = settings
        self.release = settings.model
        self.text_budget = settings.message_tokens
        self._taxonomy, self._pause_s = taxonomy, pause_s
        key = os.environ.get(settings.key_variable, "").strip()
        if not re.fullmatch(r"[\x21-\x7e]*", key):
            raise EngineError(f"{settings.key_variable} does not hold a key: it has blanks or other characters that no key has", "set it again")
        self._client = httpx.AsyncClient(headers={"authorization": f"Bearer {key}"} if key else {}, timeout=None)
        self._has_key = bool(key)
        self._slots = asyncio.Semaphore(settings.concurrency)
        self._jitter = random.Random()
        self._closed = False

    def count_tokens(self, text: str) -> int:
        return -(-len(text.encode()) // 3)

    async def answer(self, prompts: Sequence[Prompt], *, deadline_s: float) -> list[Answer]:
        """As the protocol says, but raises EngineError for what concerns every message: a refused key, an unknown model."""
        return [reading.answer for reading in await asyncio.gather(*(self.ask(prompt, deadline_s) for prompt in prompts))]

    async def write_free(self, prompts: Sequence[Prompt], *, deadline_s: float) -> list[Answer]:
        return [reading.answer for reading in await asyncio.gather(*(self.ask_free(prompt, deadline_s) for prompt in prompts))]

    async def ask(self, prompt: Prompt, deadline_s: float) -> Reading:
        """One answer inside the schema, with tokens and cost.

        Raises:
            EngineError: no message can be answered.
        """
        schema = decoding_schema(self._taxonomy)
        del schema["properties"]["summary"]["minLength"]
        return await self._ask(prompt, deadline_s, {"type": "json_schema", "json_schema": {"name": "ticket", "strict": True, "schema": schema}})

    async def ask_free(self, prompt: Prompt, deadline_s: float) -> Reading:
        """One answer as the model writes it.

        Raises:
            EngineError: no message can be answered.
        """
        return await self._ask(prompt, deadline_s, None)

    async def aclose(self) -> None:
        self._closed = True
        await self._client.aclose()

    async def _ask(self, prompt: Prompt, deadline_s: float, response_format: Mapping[str, Any] | None) -> Reading:
        if self._closed:
            return Reading(Failure("unavailable", "the engine is closed"))
        body: dict[str, Any] = {
            "model": self.settings.model,
            "messages": [{"role": message.role, "content": message.content} for message in prompt.messages],
            "temperature": 0,
            "max_tokens": self.settings.answer_tokens,
        }
        if response_format is not None:
            body["response_format"] = response_format
        async with self._slots:
            try:
                async with asyncio.timeout(deadline_s):
                    reading = await self._try(body, time.monotonic() + deadline_s)
            except TimeoutError:
                return Reading(Failure("timeout", f"no answer within {deadline_s:g} s"))
        return replace(reading, answer=with_flag(reading.answer, "cut")) if prompt.cut else reading

    async def _try(self, body: Mapping[str, Any], end: float) -> Reading:
        failure = Failure("unavailable")
        for attempt in range(TRIES):
            wait_s = self._pause_s
            try:
                response = await self._client.post(f"{self.settings.base_url}/chat/completions", json=body)
            except httpx.HTTPError as error:
                failure = Failure("unavailable", f"the connection failed: {type(error).__name__}")
            else:
                if response.status_code == httpx.codes.OK:
                    return self._read(response)
                failure = self._refusal(response)
                if failure.reason == "too_long":
                    return Reading(failure, cost=None if self.settings.input_price is None else 0.0)
                if response.status_code not in RETRIED or failure.reason != "unavailable":
                    return Reading(failure)
                wait_s = _retry_after_s(response, wait_s)
            wait_s *= self._jitter.uniform(1.0, 1.5)
            if attempt + 1 == TRIES or time.monotonic() + wait_s >= end:
                break
            await asyncio.sleep(wait_s)
        return Reading(failure)

    def _refusal(self, response: httpx.Response) -> Failure:
        """What a status other than 200 means for one message.

        Raises:
            EngineError: it means the same for every message.
        """
        status, code = response.status_code, _error_code(response)
        where, variable = self.settings.base_url, self.settings.key_variable
        if status in REFUSED_KEY:
            state = "the key in it was refused" if self._has_key else "it is not set"
            raise EngineError(f"{where} answered {status} ({variable}: {state})", f"set {variable} to a key that may use {self.settings.model}")
        if status == NOT_FOUND:
            raise EngineError(
                f"{where} answered 404: it has no model {self.settings.model!r}, or no /chat/completions under that address",
                f"compare --model with {where}/models, and mend --endpoint",
            )
        if status == UNPAID or code == "insufficient_quota":
            raise EngineError(f"{where} answered {status}: the account of {variable} has nothing left", "top it up, then run the same command again")
        if code == "context_length_exceeded":
            return Failure("too_long", f"HTTP {status} {code}")
        return Failure("unavailable", f"HTTP {status} {code}".strip())

    def _read(self, response: httpx.Response) -> Reading:
        """A 200 answer as a ticket or a failure, with what the server says it took."""
        kind = response.headers.get("content-type", "no content type").split(";")[0][:60]
        try:
            content = response.json()
            choice = content["choices"][0]
            text, finish = choice["message"].get("content"), choice.get("finish_reason")
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return Reading(Failure("unavailable", f"HTTP 200, but no chat completion ({kind})"))
        usage = content.get("usage")
        prompt_tokens, output_tokens = (_count(usage, name) for name in ("prompt_tokens", "completion_tokens"))
        if finish == "content_filter" or choice["message"].get("refusal"):
            answer: Answer = Failure("invalid", "refused by the server or the model")
        elif not isinstance(text, str):
            answer = Failure("invalid", "an answer without text")
        else:
            answer = parse_answer(text, self._taxonomy, finished=finish != "length")
            answer = with_details(answer, probabilities={}, prompt_tokens=prompt_tokens, output_tokens=output_tokens)
        return Reading(answer, prompt_tokens, output_tokens, self._cost(prompt_tokens, output_tokens))

    def _cost(self, prompt_tokens: int, output_tokens: int) -> float | None:
        prices = self.settings
        if prices.input_price is None or prices.output_price is None or not prompt_tokens:
            return None
        return (prompt_tokens * prices.input_price + output_tokens * prices.output_price) / 1e6


def _error_code(response: httpx.Response) -> str:
    """The `code` or `type` of an error body where it is a plain word; never the message, which may quote the request."""
    try:
        error = response.json()
        error = error.get("error", error)
        found = error.get("code") or error.get("type")
    except (ValueError, AttributeError, RecursionError):
        return ""
    return found if isinstance(found, str) and _CODE.fullmatch(found) else ""


def _retry_after_s(response: httpx.Response, otherwise: float) -> float:
    """Seconds that `Retry-After` asks for, given as seconds or as a date (RFC 9110, 10.2.3)."""
    value = response.headers.get("retry-after", "")
    if re.fullmatch(r"\d{1,6}(\.\d{1,3})?", value):
        return float(value)
    try:
        when = parsedate_to_datetime(value)
    except (ValueError, IndexError):
        return otherwise
    return max(0.0, (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def _count(usage: object, name: str) -> int:
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0
