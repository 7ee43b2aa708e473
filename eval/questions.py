"""The messages of a split as rungs see them: without labels. Reading the test split is noted before it happens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from triage.dataset import Example, list_faults, load_examples, read_lines
from triage.errors import DatasetError, MessageError
from triage.paths import file_digest
from triage.taxonomy import Taxonomy
from triage.ticket import Message, parse_message

HeldOut = Literal["dev", "calibration", "test"]


@dataclass(frozen=True, slots=True)
class Question:
    """A message to be read. `group` names its author, whose own examples are never shown with it."""

    id: str
    group: str
    message: Message


@dataclass(frozen=True)
class LoadedSplit:
    """A split, and the digest of its file."""

    name: HeldOut
    examples: list[Example]
    digest: str


def load_split(folder: Path, name: HeldOut, taxonomy: Taxonomy, *, purpose: str | None, command: str) -> LoadedSplit:
    """Read one split of a dataset. `purpose` and `command` go into the ledger of looks where it is the test split.

    Raises:
        DatasetError: the file is missing or has faults, or the test split is asked for without a purpose.
    """
    path = folder / f"{name}.jsonl"
    if not path.is_file():
        raise DatasetError(f"cannot read {path}: not a file", "name the folder of the tickets with --data")
    digest = file_digest(path)
    if name == "test":
        from eval.reads import note_read

        if not (purpose or "").strip():
            raise DatasetError("the test split is not read without a purpose, since every look at it wears it out", "say what for with --purpose")
        note_read(split=name, purpose=str(purpose), command=command, dataset=digest)
    return LoadedSplit(name, load_examples([path], taxonomy), digest)


def to_questions(examples: Sequence[Example]) -> list[Question]:
    """The messages of a split, labels and everything else left behind."""
    kept = set(Message.model_fields)
    return [Question(each.id, each.group, Message.model_validate(each.model_dump(by_alias=True, include=kept))) for each in examples]


def load_twins(path: Path, examples: Sequence[Example]) -> list[Question]:
    """The injection twins of a split's messages, as `data/injections.py` writes them; a twin has its clean message's author.

    Raises:
        DatasetError: naming file and line of every fault, among them a twin of a message that is not in the split.
    """
    groups = {example.id: example.group for example in examples}
    questions: list[Question] = []
    faults: list[str] = []
    for line in read_lines(path):
        record: dict[str, Any] = line.record or {}
        identifier, original = record.get("id"), record.get("twin_of")
        if line.record is None or not isinstance(identifier, str) or original not in groups:
            faults.append(f"{path}:{line.number}: {line.fault or f'the twin of {original!r}, which is not in the split'}")
            continue
        try:
            message = parse_message({key: record[key] for key in Message.model_fields if key in record}, source=f"{path}:{line.number}")
        except MessageError as error:
            faults.append(str(error))
        else:
            questions.append(Question(identifier, groups[original], message))
    if faults:
        raise DatasetError(f"{len(faults)} faults in the twins:\n  {list_faults(faults)}", "write them again with `triage data build`")
    return questions
