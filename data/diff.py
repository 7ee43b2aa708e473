"""What changed between two states of a dataset, by ticket id."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

from data.manifest import split_paths
from triage.dataset import Example, load_examples
from triage.taxonomy import LABEL_FIELDS, Taxonomy


@dataclass
class DatasetDiff:
    """Ids by kind of change; one ticket may be under several."""

    added: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)
    """`id: old split -> new split`. A build never does this."""
    relabelled: list[str] = field(default_factory=list)
    """`id: field old -> new, …`"""
    resummarised: list[str] = field(default_factory=list)
    rewritten: list[str] = field(default_factory=list)
    """Another text: message, subject or earlier turns."""
    regrouped: list[str] = field(default_factory=list)
    """`id: old group -> new group`"""
    retagged: list[str] = field(default_factory=list)
    """Another language, channel, provenance or other slices."""

    def as_dict(self) -> dict[str, list[str]]:
        return asdict(self)


def compare_datasets(old: Path, new: Path, taxonomy: Taxonomy) -> DatasetDiff:
    """Compare two dataset folders.

    Raises:
        DatasetError: one of them cannot be read.
    """
    before, after = ({example.id: example for example in load_examples(split_paths(folder), taxonomy)} for folder in (old, new))
    diff = DatasetDiff(added=sorted(set(after) - set(before)), removed=sorted(set(before) - set(after)))
    for identifier in sorted(set(before) & set(after)):
        _compare(before[identifier], after[identifier], diff)
    return diff


def _compare(old: Example, new: Example, diff: DatasetDiff) -> None:
    if old.split != new.split:
        diff.moved.append(f"{old.id}: {old.split} -> {new.split}")
    fields = [field for field in LABEL_FIELDS if old.labels.label(field) != new.labels.label(field)]
    if fields:
        diff.relabelled.append(f"{old.id}: " + ", ".join(f"{field} {old.labels.label(field)} -> {new.labels.label(field)}" for field in fields))
    if old.labels.summary != new.labels.summary:
        diff.resummarised.append(old.id)
    if (old.message, old.subject, old.thread) != (new.message, new.subject, new.thread):
        diff.rewritten.append(old.id)
    if old.group != new.group:
        diff.regrouped.append(f"{old.id}: {old.group} -> {new.group}")
    if (old.language, old.channel, old.provenance, old.slices) != (new.language, new.channel, new.provenance, new.slices):
        diff.retagged.append(old.id)
