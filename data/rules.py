"""Labels that contradict each other: what the policy and the labelling guide rule out, whatever the message says.

The policy's part follows from the taxonomy. The guide's part is `rules.toml` beside the tickets: where every field of `when`
has one of its labels, every field of `then` must have one of its labels. A dataset without that file has no such rules.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from triage.errors import DatasetError
from triage.taxonomy import LABEL_FIELDS, FieldName, Taxonomy
from triage.ticket import Ticket

RULES_NAME = "rules.toml"
Labels = Annotated[list[str], Field(min_length=1)]


class Rule(BaseModel):
    """One thing that the guide rules out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    when: Annotated[dict[FieldName, Labels], Field(min_length=1)]
    then: Annotated[dict[FieldName, Labels], Field(min_length=1)]
    why: Annotated[str, Field(min_length=1, max_length=300)]

    def is_broken(self, ticket: Ticket) -> bool:
        """Whether the ticket meets all of `when` and not all of `then`."""
        return _meets(ticket, self.when) and not _meets(ticket, self.then)


class _Rules(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    rule: list[Rule] = []


def _meets(ticket: Ticket, wanted: dict[FieldName, list[str]]) -> bool:
    return all(ticket.label(field) in labels for field, labels in wanted.items())


def load_rules(folder: Path, taxonomy: Taxonomy) -> list[Rule]:
    """The policy's rules and those of `folder/rules.toml`.

    Raises:
        DatasetError: the file is no TOML, or names a field or label that the taxonomy lacks; every fault at once.
    """
    path = folder / RULES_NAME
    if not path.exists():
        return policy_rules(taxonomy)
    try:
        rules = _Rules.model_validate(tomllib.loads(path.read_text(encoding="utf-8"))).rule
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DatasetError(f"{path} is not TOML: {error}", "mend the line it names") from None
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors(include_input=False)]
        raise DatasetError(f"{path} cannot be used: {'; '.join(faults)}", "data/tickets/rules.toml shows the form") from None
    faults = [
        f"rule {number}: {field} has no label {label!r}"
        for number, rule in enumerate(rules, start=1)
        for part in (rule.when, rule.then)
        for field, labels in part.items()
        for label in labels
        if label not in taxonomy.labels(field)
    ]
    if faults:
        raise DatasetError(f"{path} cannot be used: {'; '.join(faults)}", f"the taxonomy {taxonomy.name} has other labels; mend the rules")
    return [*policy_rules(taxonomy), *rules]


def policy_rules(taxonomy: Taxonomy) -> list[Rule]:
    """What the policy itself rules out: it would overturn such a ticket."""
    policy = taxonomy.policy
    rules = []
    if policy.always_human:
        rules.append(Rule(when={"category": policy.always_human}, then={"needs_human": ["true"]}, why="the policy sends this category to a person"))
    if policy.actions_without_person:
        rules.append(
            Rule(when={"next_action": policy.actions_without_person}, then={"needs_human": ["false"]}, why="the policy lets no person do this action")
        )
    return rules


def rule_faults(ticket: Ticket, rules: list[Rule]) -> list[str]:
    """Each rule that a ticket breaks, as `field=label, … contradict field=label: why`."""
    faults = []
    for rule in rules:
        if rule.is_broken(ticket):
            named = ", ".join(f"{field}={ticket.label(field)}" for field in LABEL_FIELDS if field in rule.when or field in rule.then)
            faults.append(f"labels: {named} do not go together: {rule.why}")
    return faults
