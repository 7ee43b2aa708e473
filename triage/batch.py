"""A file of messages in, a file of predictions out, resumable: what is in the output is done.

Messages are answered `CHUNK` at a time, which lets an engine read them together; each chunk is written and flushed before the
next is read. A run that was killed loses at most one chunk and leaves at most one broken last line, which the next run drops.
What is done is known by its id alone: another message, release or taxonomy wants another output. Bad lines go to
`<out>.rejected.jsonl` with file, line and reason, and stop nothing.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO, TextIO

from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from triage.dataset import Identifier, Line, read_lines
from triage.engines.base import Engine
from triage.errors import DatasetError, MessageError
from triage.paths import lock_file
from triage.pipeline import Pipeline
from triage.taxonomy import Taxonomy
from triage.ticket import Message, parse_message

DEADLINE_S = 60.0
"""For one message; a chunk has as many times more."""
CHUNK = 64
_IDENTIFIER = TypeAdapter[str](Identifier)


@dataclass
class BatchCounts:
    """What a run did. `rejected` counts lines of the input; `resumed` those that an earlier run had finished."""

    written: int = 0
    resumed: int = 0
    rejected: int = 0
    unread: int = 0
    rejected_path: str = ""

    def as_dict(self) -> dict[str, int | str]:
        return asdict(self)


def run_batch(source: Path, out: Path, start_engine: Callable[[], Engine], taxonomy: Taxonomy) -> BatchCounts:
    """Read every message of `source` that `out` does not hold yet.

    `start_engine` is called once, before anything is answered, and only when there is something to read.

    Raises:
        DatasetError: the input cannot be read, or the output is the input, another kind of file, being written by
            another run, or cannot be written. Nothing was changed then.
    """
    if source.exists() and not source.is_file():
        raise DatasetError(f"{source} is not a regular file", "save the messages to a file first")
    rejected_path = out.with_name(out.name.removesuffix(".jsonl") + ".rejected.jsonl")
    for path in (out, rejected_path):
        _check_output(path, source)
    counts = BatchCounts(rejected_path=str(rejected_path))
    names = [None if line.record is None else line.record.get("id") for line in read_lines(source)]
    total = len(names)
    is_new = not out.exists()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with out.open("ab") as accepted:
            lock_file(accepted, out)
            try:
                done = _finished_ids(out, counts)
                done.intersection_update(name for name in names if isinstance(name, str))
                pipeline = Pipeline(start_engine(), taxonomy) if total > len(done) else None
            except BaseException:
                if is_new:
                    out.unlink()
                raise
            with rejected_path.open("w", encoding="utf-8") as rejected:
                _read_messages(source, accepted, rejected, pipeline, counts, done, total)
    except OSError as error:
        place = error.filename or out
        raise DatasetError(f"cannot write {place}: {error.strerror}", "make room or name another folder, then run it again") from error
    if not counts.rejected:
        rejected_path.unlink(missing_ok=True)
    return counts


def _read_messages(
    source: Path, accepted: BinaryIO, rejected: TextIO, pipeline: Pipeline | None, counts: BatchCounts, done: set[str], total: int
) -> None:
    """Answer what is not done yet, chunk after chunk, each written and flushed before the next is read, with progress on stderr."""
    counts.resumed = len(done)
    columns = (TextColumn("reading"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True, console=Console(stderr=True)) as progress, asyncio.Runner() as runner:
        task = progress.add_task("reading", total=total)
        waiting = _messages(source, rejected, counts, done, lambda: progress.advance(task))
        while chunk := list(islice(waiting, CHUNK)):
            assert pipeline is not None
            names, messages = zip(*chunk, strict=True)
            predictions = runner.run(pipeline.predict(messages, deadline_s=DEADLINE_S * len(messages), ids=names))
            accepted.write(b"".join(prediction.model_dump_json(exclude_none=True).encode() + b"\n" for prediction in predictions))
            accepted.flush()
            rejected.flush()
            counts.written += len(predictions)
            counts.unread += sum(prediction.status == "unread" for prediction in predictions)


def _check_output(path: Path, source: Path) -> None:
    """Refuse to write over the input, under whatever name, or over anything that is no regular file."""
    if path.exists() and source.exists() and path.samefile(source):
        raise DatasetError(f"{path} would be written, and it is the input itself", "name another file with --out")
    if path.exists() and not path.is_file():
        raise DatasetError(f"{path} is not a regular file", "name another file with --out")


def _messages(source: Path, rejected: TextIO, counts: BatchCounts, done: set[str], advance: Callable[[], None]) -> Iterator[tuple[str, Message]]:
    """The messages still to be read; bad lines are written to `rejected` on the way."""
    seen: dict[str, int] = {}
    for line in read_lines(source):
        try:
            identifier, message = _parse_line(source, line, seen)
        except MessageError as error:
            counts.rejected += 1
            rejected.write(json.dumps({"file": str(source), "line": line.number, "reason": str(error)}) + "\n")
        else:
            if identifier not in done:
                yield identifier, message
        advance()


def _parse_line(source: Path, line: Line, seen: dict[str, int]) -> tuple[str, Message]:
    place = f"{source}:{line.number}"
    if line.record is None:
        raise MessageError(f"{place}: {line.fault}")
    record = dict(line.record)
    try:
        identifier = _IDENTIFIER.validate_python(record.pop("id", None))
    except ValidationError:
        raise MessageError(f"{place}: `id` is missing, or is not 1 to 100 letters, digits and _ . : -") from None
    if identifier in seen:
        raise MessageError(f"{place}: the id {identifier!r} is also at line {seen[identifier]}")
    message = parse_message(record, source=place)
    seen[identifier] = line.number
    return identifier, message


def _finished_ids(out: Path, counts: BatchCounts) -> set[str]:
    """Ids that the output holds, read under its lock. A last line without its end, as a killed run leaves it, is cut off.

    Raises:
        DatasetError: the file holds anything else than predictions; it is left as it is.
    """
    content = out.read_bytes()
    tail = content.rpartition(b"\n")[2]
    if tail and not tail.startswith(b'{"id":'):
        raise DatasetError(f"{out} does not end like a file of predictions, so this run cannot go on in it", "name another file with --out")
    whole_lines = content.count(b"\n")
    found: set[str] = set()
    for line in read_lines(out):
        if line.number > whole_lines:
            break
        if line.record is None or not isinstance(line.record.get("id"), str) or "ticket" not in line.record:
            raise DatasetError(f"{out}:{line.number} is not a prediction, so this run cannot go on in that file", "name another file with --out")
        found.add(line.record["id"])
        counts.unread += line.record.get("status") == "unread"
    if tail:
        os.truncate(out, len(content) - len(tail))
    return found
