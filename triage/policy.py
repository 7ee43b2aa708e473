"""What outranks the model: it may send a ticket to a person, and never the other way about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from triage.answer import Answer, Failure
from triage.confidence import LOW_CONFIDENCE
from triage.taxonomy import Taxonomy
from triage.ticket import Ticket

GUARDED, MOSTLY_GUARDED = "instructions_ignored", "mostly_instructions"
"""Flags of an answer to a message of which an engine's guard dropped a part, and more than half: then a person has to look."""
DecidedBy = Literal["model", "policy", "fallback"]


@dataclass(frozen=True, slots=True)
class Decision:
    """The ticket that leaves the house, who decided it, and why it differs from the model's answer if it does."""

    ticket: Ticket
    decided_by: DecidedBy
    reasons: tuple[str, ...]


def decide(answer: Answer, taxonomy: Taxonomy) -> Decision:
    """Apply the taxonomy's policy, and the floors of the engine's release, to its answer; a failure becomes the fallback ticket."""
    if isinstance(answer, Failure):
        return Decision(Ticket.model_validate(taxonomy.fallback.model_dump()), "fallback", (answer.reason,))
    doubts = tuple(flag for flag in answer.flags if flag.startswith(LOW_CONFIDENCE) or flag == MOSTLY_GUARDED)
    raising = tuple(dict.fromkeys((*raising_reasons(answer.ticket, answer.probabilities, taxonomy), *doubts)))
    if answer.ticket.needs_human or not raising:
        return Decision(answer.ticket, "model", answer.flags)
    policy = taxonomy.policy
    action = answer.ticket.next_action
    raised = answer.ticket.model_copy(
        update={"needs_human": True, "next_action": policy.action_with_person if action in policy.actions_without_person else action}
    )
    return Decision(raised, "policy", tuple(dict.fromkeys((*answer.flags, *raising))))


def raising_reasons(ticket: Ticket, probabilities: Mapping[str, float], taxonomy: Taxonomy) -> tuple[str, ...]:
    """Why the policy would send this ticket to a person, as `always_human:security` or `low_confidence:category`."""
    reasons = [f"always_human:{ticket.category}"] if ticket.category in taxonomy.policy.always_human else []
    for field, floor in taxonomy.policy.confidence_floors.items():
        if probabilities.get(field, 1.0) < floor:
            reasons.append(f"low_confidence:{field}")
    return tuple(reasons)
