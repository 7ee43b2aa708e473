"""A candidate: an imported message on its way into the dataset. It has a group and a source, and perhaps not every label.

`triage data build` takes in those with all five labels and gives them a split; a set that is only scored (`data/outside`)
stays a file of candidates.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from triage.dataset import Example, Identifier, Split
from triage.taxonomy import LABEL_FIELDS, SUMMARY_CHARACTERS, Taxonomy
from triage.ticket import TICKET_FIELDS, Message, Ticket

CANDIDATE_KEYS = (
    *("id", "split", "group", "language", "channel", "subject", "thread", "message", "slices"),
    *("provenance", "licence", "consent", "labels"),
)
"""The keys of a candidate's line, in order."""


class PartialTicket(BaseModel):
    """The labels that a source had a home for."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    category: str | None = None
    urgency: str | None = None
    needs_human: bool | None = None
    next_action: str | None = None
    summary: Annotated[str, Field(min_length=1, max_length=SUMMARY_CHARACTERS)] | None = None


class Candidate(Message):
    """One imported message. Its text is redacted already."""

    id: Identifier
    split: Split | None = None
    """Set only where the source itself says in which split a message lies."""
    group: Identifier
    language: Annotated[str, Field(pattern=r"^[a-z]{2,3}$")]
    slices: list[Identifier] = Field(default_factory=list)
    provenance: Annotated[str, Field(min_length=1, max_length=200)]
    licence: Annotated[str, Field(min_length=1, max_length=100)]
    consent: Annotated[str, Field(min_length=1, max_length=300)]
    """The lawful basis on which the message may be used, in words."""
    labels: PartialTicket

    def missing_labels(self) -> list[str]:
        """The fields of a ticket that no label is there for."""
        return [field for field in TICKET_FIELDS if getattr(self.labels, field) is None]

    def label_faults(self, taxonomy: Taxonomy) -> list[str]:
        """The labels that the taxonomy does not have, as `field: 'label' is not one of …`."""
        faults = []
        for field in LABEL_FIELDS:
            value = getattr(self.labels, field)
            if isinstance(value, str) and value not in taxonomy.labels(field):
                faults.append(f"labels.{field}: {value!r} is not one of {', '.join(taxonomy.labels(field))}")
        return faults

    def as_example(self, split: Split) -> Example:
        """The example of a candidate that has every label.

        Raises:
            ValueError: a label is missing.
        """
        if missing := self.missing_labels():
            raise ValueError(f"{self.id} lacks {', '.join(missing)}")
        record = self.model_dump(by_alias=True, exclude={"licence", "consent", "split", "labels"})
        return Example.model_validate({**record, "split": split, "labels": Ticket.model_validate(self.labels.model_dump())})
