"""What help desks and labelling tools export, brought to one flat form that a mapping can name columns of.

Each function takes one exported object and returns it with the standard keys `id`, `group`, `subject`, `message`,
`thread`, `channel` where the export holds them; everything else stays under its own name. They know shapes, not labels.

Sources of the shapes: Zendesk "Tickets" and "JSON data export", Zammad "Webhook" and "Ticket" (REST, `expand=true` with
articles), Label Studio "Export formats: JSON", OpenAI's and TRL's chat `messages` records, and this service's feedback.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from bs4 import BeautifulSoup

from triage.strict_json import JsonError, parse_json
from triage.taxonomy import LABEL_FIELDS
from triage.ticket import TICKET_FIELDS

Flatten = Callable[[dict[str, Any]], dict[str, Any]]
_ZENDESK_CHANNELS = {"email": "mail", "web": "form", "chat": "chat", "native_messaging": "chat", "voice": "phone_transcript", "twitter": "social"}
_ZAMMAD_CHANNELS = {
    "email": "mail",
    "web": "form",
    "chat": "chat",
    "phone": "phone_transcript",
    "twitter status": "social",
    "facebook feed post": "social",
}
_ZAMMAD_SENDERS = {"1": "Agent", "2": "Customer", "3": "System"}


class RowError(ValueError):
    """A row that is not what its format promises; its text says why and quotes no message."""


def flatten_chat(row: dict[str, Any]) -> dict[str, Any]:
    """A training record `{"messages": [{"role", "content"}, …]}`: the last user turn, earlier turns, and the assistant's ticket.

    Raises:
        RowError: the last two messages are not a user's and an assistant's, or the answer is no JSON object.
    """
    messages = row.get("messages")
    if not isinstance(messages, list) or not all(isinstance(each, dict) and isinstance(each.get("content"), str) for each in messages):
        raise RowError("`messages` is not a list of objects with `role` and `content`")
    spoken = [each for each in messages if each.get("role") in ("user", "assistant")]
    if [each.get("role") for each in spoken[-2:]] != ["user", "assistant"]:
        raise RowError("`messages` does not end with a user's and then an assistant's")
    try:
        ticket = parse_json(spoken[-1]["content"].encode("utf-8", "surrogatepass"))
    except JsonError:
        ticket = None
    if not isinstance(ticket, dict):
        raise RowError("the assistant's answer is no JSON object")
    thread = [{"from": "agent" if each["role"] == "assistant" else "customer", "text": each["content"]} for each in spoken[:-2]]
    kept = {key: value for key, value in row.items() if key != "messages"}
    return {**kept, "message": spoken[-2]["content"], "thread": thread, "labels": ticket}


def flatten_label_studio(row: dict[str, Any]) -> dict[str, Any]:
    """A task with its annotations: `data` stays, and `choices` holds what was chosen or typed under each control's name.

    A ground-truth annotation outranks the others; cancelled ones do not count.

    Raises:
        RowError: nobody has annotated it, two annotations differ, or one chose several labels.
    """
    valid = [each for each in _dicts(row.get("annotations")) if not each.get("was_cancelled")]
    annotations = [each for each in valid if each.get("ground_truth")] or valid
    if not annotations:
        raise RowError("the task has no annotation")
    readings = [_choices(_dicts(each.get("result"))) for each in annotations]
    for name in sorted({name for reading in readings for name in reading}):
        if len({json.dumps(reading.get(name)) for reading in readings}) > 1:
            raise RowError(f"its annotations differ on {name!r}; mark one as ground truth")
    kept: dict[str, Any] = {key: row[key] for key in ("id", "data", "meta") if key in row}
    return {**kept, "choices": readings[0]}


def _choices(result: list[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for each in result:
        value = each.get("value")
        content = (value.get("choices") or value.get("text")) if isinstance(value, dict) else None
        if isinstance(content, list) and len(content) > 1:
            raise RowError(f"{each.get('from_name')!r} has {len(content)} choices where one is wanted")
        if content:
            found[str(each.get("from_name"))] = content[0] if isinstance(content, list) else content
    return found


def flatten_zendesk(row: dict[str, Any]) -> dict[str, Any]:
    """A ticket: its description is the message; of exported public comments the last customer's one, the earlier are the thread.

    `custom_fields` becomes an object keyed by field id, so that a mapping can name `custom_fields.360001`.
    """
    requester = row.get("requester_id") or _dict(row.get("requester")).get("id")
    comments = [
        (str(each.get("plain_body") or plain_text(str(each.get("html_body") or "")) or each.get("body") or ""), each.get("author_id") == requester)
        for each in _dicts(row.get("comments"))
        if each.get("public", True)
    ]
    message, thread = _newest(comments) if comments else (str(row.get("description") or ""), [])
    custom = {str(each.get("id")): each.get("value") for each in _dicts(row.get("custom_fields"))}
    standard = {"message": message, "thread": thread, "subject": row.get("subject") or row.get("raw_subject"), "group": requester}
    channel = _ZENDESK_CHANNELS.get(str(_dict(row.get("via")).get("channel")))
    return {**row, **standard, "channel": channel, "custom_fields": custom}


def flatten_zammad(row: dict[str, Any]) -> dict[str, Any]:
    """A webhook body `{"ticket", "article"}`, or a ticket with its `articles`; HTML bodies become text, internal notes are left out.

    The desk's own group, its queue, is there as `queue`; `group` is the customer.

    Raises:
        RowError: it holds no article, or one of which nobody can tell who wrote it.
    """
    ticket = row["ticket"] if isinstance(row.get("ticket"), dict) else row
    articles = [row["article"]] if isinstance(row.get("article"), dict) else _dicts(row.get("articles") or ticket.get("articles"))
    visible = [each for each in articles if not each.get("internal")]
    if not visible:
        raise RowError("the ticket holds no article")
    turns = [(_zammad_body(each), _zammad_sender(each) == "customer") for each in visible]
    message, thread = _newest(turns)
    customer = ticket.get("customer_id") or ticket.get("customer")
    channel = _ZAMMAD_CHANNELS.get(str(visible[-1].get("type")).lower())
    flat = {key: value for key, value in ticket.items() if key not in ("articles", "title")}
    group = customer.get("id") if isinstance(customer, dict) else customer
    standard = {"subject": ticket.get("title"), "message": message, "thread": thread, "channel": channel, "group": group}
    return {**flat, "queue": ticket.get("group"), **standard}


def _zammad_sender(article: Mapping[str, Any]) -> str:
    """`customer`, `agent` or `system`; the plain REST form tells it by number alone."""
    named = article.get("sender") or _ZAMMAD_SENDERS.get(str(article.get("sender_id")))
    if named is None:
        raise RowError("an article tells neither `sender` nor `sender_id`")
    return str(named).lower()


def _zammad_body(article: Mapping[str, Any]) -> str:
    body = str(article.get("body") or "")
    return plain_text(body) if "html" in str(article.get("content_type", "")) else body


def flatten_feedback(row: dict[str, Any]) -> dict[str, Any]:
    """A line of the service's feedback export: message, predicted ticket, and what a person made of it.

    `{"id", "kind": "correction" | "audit", "message": {…}, "predicted": {…}, "corrected": {…}, "release", "prompt_id", "taxonomy"}`

    Raises:
        RowError: it was not read by a person, or a part of it is missing.
    """
    message, predicted, corrected = row.get("message"), row.get("predicted"), row.get("corrected")
    if not isinstance(message, dict) or not isinstance(predicted, dict):
        raise RowError("`message` or `predicted` is missing")
    if not isinstance(corrected, dict):
        raise RowError("nobody has read it yet: `corrected` is missing")
    if unknown := sorted(set(corrected) - set(TICKET_FIELDS)):
        raise RowError(f"`corrected` names no field of a ticket: {', '.join(unknown)}")
    kind = str(row.get("kind", "correction"))
    origin = f"service {kind}, release {row.get('release')}, prompt {row.get('prompt_id')}"
    return {"id": row.get("id"), **message, "labels": {**predicted, **corrected}, "provenance": origin, "taxonomy": row.get("taxonomy")}


def _newest(turns: list[tuple[str, bool]]) -> tuple[str, list[dict[str, str]]]:
    """The last turn of the customer, and the turns before it, oldest first."""
    last = max((place for place, (_, is_customer) in enumerate(turns) if is_customer), default=len(turns) - 1)
    thread = [{"from": "customer" if is_customer else "agent", "text": text} for text, is_customer in turns[:last]]
    return turns[last][0], thread


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def plain_text(html: str) -> str:
    """The text of an HTML body: a line a block, scripts and styles left out."""
    if "<" not in html and "&" not in html:
        return html
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a body that is only a link or a file's name looks odd to the parser, and is text to us
        soup = BeautifulSoup(html, "html.parser")
    for hidden in soup(["script", "style", "head", "title"]):
        hidden.decompose()
    for end in soup.find_all(["br", "p", "div", "li", "tr", "blockquote", "h1", "h2", "h3", "h4"]):
        end.append("\n") if end.name != "br" else end.replace_with("\n")
    lines = (" ".join(line.split()) for line in soup.get_text().split("\n"))
    return "\n".join(line for line in lines if line)


FLATTENERS: dict[str, Flatten] = {
    "chat": flatten_chat,
    "label_studio": flatten_label_studio,
    "zendesk": flatten_zendesk,
    "zammad": flatten_zammad,
    "feedback": flatten_feedback,
}
LABEL_COLUMNS = {field: f"labels.{field}" for field in (*LABEL_FIELDS, "summary")}
DEFAULT_COLUMNS: dict[str, dict[str, str]] = {
    "jsonl": LABEL_COLUMNS,
    "csv": {field: field for field in TICKET_FIELDS},
    "chat": LABEL_COLUMNS,
    "label_studio": {"message": "data.text", **{field: f"choices.{field}" for field in TICKET_FIELDS}},
    "zendesk": {},
    "zammad": {},
    "feedback": {**LABEL_COLUMNS, "provenance": "provenance", "taxonomy": "taxonomy"},
}
"""Where each format keeps what has no standard key; a mapping's `columns` outrank it."""
