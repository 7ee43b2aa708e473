"""The taxonomy: which labels exist, what they mean, and the policy. One TOML file, the only place they are written.

It is data, so that a support desk can bring its own: nothing else in the project spells out a label. Its digest is
stored in every dataset, run and release, and two parts with different digests refuse to work together.
"""

from __future__ import annotations

import re
import tomllib
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from triage.errors import TaxonomyError
from triage.paths import DEFAULT_TAXONOMY_PATH, canonical_json, text_digest

LABEL_FIELDS = ("category", "urgency", "needs_human", "next_action")
"""The decided fields of a ticket, in the order they are written; the summary follows."""

FieldName = Literal["category", "urgency", "needs_human", "next_action"]
BOOLEAN_LABELS = ("true", "false")
SUMMARY_CHARACTERS = 160
"""The longest summary, in Unicode code points."""

_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9_]{0,38}[a-z0-9])?")


def _check_label(value: Any) -> Any:
    if isinstance(value, str) and not _LABEL.fullmatch(value):
        raise ValueError(
            "a label is 1 to 40 of a-z, 0-9 and underscore, and neither begins nor ends with an underscore" if value else "a label may not be empty"
        )
    return value


Label = Annotated[str, BeforeValidator(_check_label)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class LabelMeaning(_Strict):
    """One label and what it means in one line, as prompts and documentation show it."""

    label: Label
    meaning: Annotated[str, Field(min_length=1, max_length=300)]


class Policy(_Strict):
    """What outranks the model. It may only raise `needs_human`, never lower it."""

    always_human: list[Label] = []
    """Categories that always need a person."""
    actions_without_person: list[Label] = []
    """Next actions that make no sense once a person is needed."""
    action_with_person: Label
    """What replaces them."""
    confidence_floors: dict[FieldName, Annotated[float, Field(ge=0, le=1)]] = {}
    """The lowest calibrated probability at which a field's label is trusted."""


class FallbackTicket(_Strict):
    """The ticket of a message that the model could not read."""

    category: Label
    urgency: Label
    needs_human: Literal[True]
    next_action: Label
    summary: Annotated[str, Field(min_length=1, max_length=SUMMARY_CHARACTERS)]


class Taxonomy(_Strict):
    """The parsed file. Construct it with `load_taxonomy` or `parse_taxonomy`, which check it as a whole."""

    name: Annotated[str, Field(min_length=1, max_length=80)]
    version: Annotated[str, Field(min_length=1, max_length=40)]
    category: Annotated[list[LabelMeaning], Field(min_length=2)]
    urgency: Annotated[list[LabelMeaning], Field(min_length=2)]
    next_action: Annotated[list[LabelMeaning], Field(min_length=2)]
    policy: Policy
    fallback: FallbackTicket

    def labels(self, field: str) -> tuple[str, ...]:
        """The labels of a decided field in file order; `needs_human` has `true` and `false`."""
        if field == "needs_human":
            return BOOLEAN_LABELS
        entries: list[LabelMeaning] = getattr(self, field)
        return tuple(entry.label for entry in entries)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the content in canonical JSON; comments and layout of the file do not change it."""
        return text_digest(canonical_json(self.model_dump()))


def load_taxonomy(path: Path | None = None) -> Taxonomy:
    """Read and check a taxonomy file; the default one where no path is given.

    Raises:
        TaxonomyError: the file cannot be read, is no TOML, or `parse_taxonomy` finds faults in it.
    """
    path = path or DEFAULT_TAXONOMY_PATH
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TaxonomyError(f"cannot read the taxonomy {path}: {error.strerror}", "name an existing TOML file") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise TaxonomyError(f"{path} is not TOML: {error}", "mend the line it names") from None
    return parse_taxonomy(content, source=str(path))


def parse_taxonomy(content: dict[str, Any], *, source: str) -> Taxonomy:
    """Check the content of a taxonomy file; `source` names it in errors.

    Raises:
        TaxonomyError: with every fault of form, or where there is none, every contradiction between the parts.
    """
    try:
        taxonomy = Taxonomy.model_validate(content)
    except ValidationError as error:
        faults = [f"{_place(item['loc'])}: {_plain(item['msg'])}" for item in error.errors()]
        raise _faulty(source, faults) from None
    if faults := _contradictions(taxonomy):
        raise _faulty(source, faults)
    return taxonomy


def _contradictions(taxonomy: Taxonomy) -> list[str]:
    faults: list[str] = []
    for field in ("category", "urgency", "next_action"):
        labels = taxonomy.labels(field)
        repeated = sorted({label for label in labels if labels.count(label) > 1})
        faults += [f"{field}: the label {label!r} is there {labels.count(label)} times" for label in repeated]
    policy, fallback = taxonomy.policy, taxonomy.fallback
    named = [("policy.always_human", "category", label) for label in policy.always_human]
    named += [("policy.actions_without_person", "next_action", label) for label in policy.actions_without_person]
    named += [("policy.action_with_person", "next_action", policy.action_with_person)]
    named += [(f"fallback.{field}", field, getattr(fallback, field)) for field in ("category", "urgency", "next_action")]
    faults += [f"{place}: {label!r} is no label of {field}" for place, field, label in named if label not in taxonomy.labels(field)]
    if policy.action_with_person in policy.actions_without_person:
        faults.append("policy.action_with_person: it is also in policy.actions_without_person")
    return faults


def _place(location: tuple[int | str, ...]) -> str:
    """`("category", 3, "label")` as `category[4].label`, counting entries from 1 as a reader of the file does."""
    text = ""
    for part in location:
        text += f"[{part + 1}]" if isinstance(part, int) else (f".{part}" if text else part)
    return text


def _plain(message: str) -> str:
    return "unknown key" if message.startswith("Extra inputs") else message.removeprefix("Value error, ")


def _faulty(source: str, faults: list[str]) -> TaxonomyError:
    return TaxonomyError(f"the taxonomy {source} cannot be used: " + "; ".join(faults), "triage/taxonomy.toml shows the form")
