"""The labelled example, and JSON Lines in and out. Every bad line is reported as file:line, all of them at once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal, TypeVar, get_args

from pydantic import BaseModel, Field, ValidationError

from triage.errors import DatasetError
from triage.paths import file_digest, text_digest
from triage.strict_json import JsonError, parse_json
from triage.taxonomy import Taxonomy
from triage.ticket import Message, Ticket, describe_faults, ticket_faults

Split = Literal["train", "dev", "calibration", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
Identifier = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{1,100}$")]
Record = TypeVar("Record", bound=BaseModel)
SHOWN_FAULTS = 20
LONGEST_LINE_BYTES = 4 * 1024 * 1024
TOO_LONG = f"the line is longer than {LONGEST_LINE_BYTES // 1024 // 1024} MiB and was not read"


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


EXAMPLE_KEYS = ("id", "split", "group", "language", "channel", "subject", "thread", "message", "slices", "provenance", "labels")
"""The keys of a dataset's line, in order. What else a message may carry stays out of datasets."""


@dataclass(frozen=True, slots=True)
class PlacedExample:
    """An example and the line it was read from."""

    example: Example
    path: Path
    line: int

    @property
    def place(self) -> str:
        """`file:line`, as errors name it."""
        return f"{self.path}:{self.line}"


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
        for number, raw in enumerate(read_bounded_lines(stream), start=1):
            content = raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw
            if len(content) > LONGEST_LINE_BYTES:
                yield Line(number, None, TOO_LONG)
            elif content.strip():
                yield _parse_line(number, content)


def read_bounded_lines(stream: BinaryIO) -> Iterator[bytes]:
    """The lines of a file with their ends; of a line over `LONGEST_LINE_BYTES` only so much that its length shows."""
    while raw := stream.readline(LONGEST_LINE_BYTES + 1):
        yield raw
        while len(raw) > LONGEST_LINE_BYTES and not raw.endswith(b"\n"):
            raw = stream.readline(LONGEST_LINE_BYTES + 1)
            if len(raw) <= LONGEST_LINE_BYTES:
                break


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
    named = list(paths)
    placed, faults = read_examples(named, taxonomy)
    if faults:
        raise DatasetError(f"{len(faults)} faults in the dataset:\n  {list_faults(faults)}", "mend these lines; nothing was read")
    if not placed:
        raise DatasetError(f"no examples in {', '.join(map(str, named)) or 'no file'}", "name files that hold labelled tickets")
    return [each.example for each in placed]


def read_examples(paths: Iterable[Path], taxonomy: Taxonomy) -> tuple[list[PlacedExample], list[str]]:
    """Every line that holds an example, with its place, and every fault of form as `file:line: what is wrong`.

    An example whose labels the taxonomy lacks, or whose id was there before, is among the examples and among the faults.

    Raises:
        DatasetError: a file cannot be opened.
    """
    placed: list[PlacedExample] = []
    faults: list[str] = []
    seen: dict[str, str] = {}
    for path in paths:
        for number, example, wrong in read_records(path, Example):
            place = f"{path}:{number}"
            faults += [f"{place}: {fault}" for fault in wrong]
            if example is None:
                continue
            faults += [f"{place}: labels.{fault}" for fault in ticket_faults(example.labels, taxonomy)]
            if example.id in seen:
                faults.append(f"{place}: the id {example.id!r} is also at {seen[example.id]}")
            seen[example.id] = place
            placed.append(PlacedExample(example, path, number))
    return placed, faults


def read_records(path: Path, model: type[Record]) -> Iterator[tuple[int, Record | None, list[str]]]:
    """Each line of a JSON Lines file as its number, the record of `model` that it holds or None, and what is wrong with it.

    Raises:
        DatasetError: the file cannot be opened.
    """
    for line in read_lines(path):
        if line.record is None:
            yield line.number, None, [line.fault]
            continue
        try:
            yield line.number, model.model_validate(line.record), []
        except ValidationError as error:
            yield line.number, None, describe_faults(error, model)


def list_faults(faults: Sequence[str]) -> str:
    """The first `SHOWN_FAULTS` faults, a line each, and how many more there are."""
    more = f"\n  and {len(faults) - SHOWN_FAULTS} more" if len(faults) > SHOWN_FAULTS else ""
    return "\n  ".join(faults[:SHOWN_FAULTS]) + more


def render_example(example: Example) -> str:
    """The canonical line of an example: one JSON object, keys in a fixed order, what is empty left out but the slices."""
    record = example.model_dump(by_alias=True, exclude_none=True, include=set(EXAMPLE_KEYS))
    return json.dumps({key: record[key] for key in EXAMPLE_KEYS if key in record and (record[key] != [] or key == "slices")}, ensure_ascii=False)


def dataset_digest(paths: Iterable[Path]) -> str:
    """Digest of some dataset files: their names and contents, whatever their folder and order."""
    return text_digest("\n".join(sorted(f"{path.name} {file_digest(path)}" for path in paths)))
