"""The labelled example, and JSON Lines in and out. Every bad line is reported as file:line, all of them at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from triage.errors import DatasetError
from triage.paths import file_digest, text_digest
from triage.strict_json import JsonError, parse_json
from triage.taxonomy import Taxonomy
from triage.ticket import Message, Ticket, describe_fault, ticket_faults

Split = Literal["train", "dev", "calibration", "test"]
Identifier = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{1,100}$")]
SHOWN_FAULTS = 20


class Example(Message):
    """A message with the ticket it deserves. `group` names its author: a group lies wholly in one split."""

    id: Identifier
    split: Split
    group: Identifier
    language: Annotated[str, Field(pattern=r"^[a-z]{2,3}$")]
    """ISO 639 code of the message; the summary is English whatever it is."""
    slices: list[Identifier]
    """Kinds of difficulty that scores are broken down by."""
    provenance: Annotated[str, Field(min_length=1, max_length=200)]
    """Where the message came from and who labelled it."""
    labels: Ticket


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a JSON Lines file: its number from 1, and its object or what is wrong with it."""

    number: int
    record: dict[str, Any] | None
    fault: str = ""


def read_lines(path: Path) -> Iterator[Line]:
    """Every line of a JSON Lines file that is not blank, bad ones with their fault. A byte-order mark is ignored.

    Raises:
        DatasetError: the file cannot be opened.
    """
    try:
        stream = path.open("rb")
    except OSError as error:
        raise DatasetError(f"cannot read {path}: {error.strerror}", "name an existing JSON Lines file") from None
    with stream:
        for number, raw in enumerate(stream, start=1):
            content = raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw
            if content.strip():
                yield _parse_line(number, content)


def _parse_line(number: int, content: bytes) -> Line:
    try:
        record = parse_json(content)
    except JsonError as error:
        return Line(number, None, str(error))
    if not isinstance(record, dict):
        return Line(number, None, f"not an object, but a {type(record).__name__}")
    return Line(number, record)


def load_examples(paths: Iterable[Path], taxonomy: Taxonomy) -> list[Example]:
    """Every example of some files, checked against the record's form and the taxonomy, ids unique among them all.

    Raises:
        DatasetError: naming file and line of every fault (the first twenty are shown), or saying that there is none.
    """
    examples: list[Example] = []
    faults: list[str] = []
    seen: dict[str, str] = {}
    named = list(paths)
    for path in named:
        for line in read_lines(path):
            place = f"{path}:{line.number}"
            if line.record is None:
                faults.append(f"{place}: {line.fault}")
                continue
            try:
                example = Example.model_validate(line.record)
            except ValidationError as error:
                faults += [
                    f"{place}: {describe_fault(item['loc'], item['type'], item['msg'], Example)}" for item in error.errors(include_input=False)
                ]
                continue
            faults += [f"{place}: labels.{fault}" for fault in ticket_faults(example.labels, taxonomy)]
            if example.id in seen:
                faults.append(f"{place}: the id {example.id!r} is also at {seen[example.id]}")
            seen[example.id] = place
            examples.append(example)
    if faults:
        shown = "\n  ".join(faults[:SHOWN_FAULTS])
        more = f"\n  and {len(faults) - SHOWN_FAULTS} more" if len(faults) > SHOWN_FAULTS else ""
        raise DatasetError(f"{len(faults)} faults in the dataset:\n  {shown}{more}", "mend these lines; nothing was read")
    if not examples:
        raise DatasetError(f"no examples in {', '.join(map(str, named)) or 'no file'}", "name files that hold labelled tickets")
    return examples


def dataset_digest(paths: Iterable[Path]) -> str:
    """Digest of some dataset files: their names and contents, whatever their folder and order."""
    return text_digest("\n".join(sorted(f"{path.name} {file_digest(path)}" for path in paths)))
