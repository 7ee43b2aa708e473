"""A file of messages in, a file of predictions out, resumable: what is in the output is done.

Each prediction is written and flushed as it is made. A run that was killed leaves at most one broken last line, which
the next run drops. Bad lines go to `<out>.rejected.jsonl` with file, line and reason, and stop nothing.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from triage.dataset import Identifier, Line, read_lines
from triage.engines.base import Engine
from triage.errors import DatasetError, MessageError
from triage.pipeline import Pipeline
from triage.taxonomy import Taxonomy
from triage.ticket import Message, parse_message

MESSAGES_AT_ONCE = 8
DEADLINE_S = 60.0
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

    `start_engine` is called once, and only when there is something to read.

    Raises:
        DatasetError: the input cannot be read, or the output is another kind of file or cannot be written.
    """
    if source.resolve() == out.resolve():
        raise DatasetError(f"{out} is the input itself", "name another file with --out")
    rejected_path = out.with_name(out.name.removesuffix(".jsonl") + ".rejected.jsonl")
    counts = BatchCounts(rejected_path=str(rejected_path))
    total = sum(1 for _ in read_lines(source))
    done = _finished_ids(out, counts)
    counts.resumed = len(done)
    out.parent.mkdir(parents=True, exist_ok=True)
    columns = (TextColumn("reading"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with (
            Progress(*columns, transient=True, console=Console(stderr=True)) as progress,
            out.open("a", encoding="utf-8") as accepted,
            rejected_path.open("w", encoding="utf-8") as rejected,
        ):
            task = progress.add_task("reading", total=total)
            pipeline: Pipeline | None = None
            with asyncio.Runner() as runner:
                for chunk in _chunks(_messages(source, rejected, counts, done, lambda: progress.advance(task))):
                    pipeline = pipeline or Pipeline(start_engine(), taxonomy)
                    ids, messages = zip(*chunk, strict=True)
                    for prediction in runner.run(pipeline.predict(messages, deadline_s=DEADLINE_S, ids=ids)):
                        accepted.write(prediction.model_dump_json(exclude_none=True) + "\n")
                        counts.written += 1
                        counts.unread += prediction.status == "unread"
                    accepted.flush()
    except OSError as error:
        raise DatasetError(
            f"cannot write {error.filename or out}: {error.strerror}", "make room or name another folder, then run it again"
        ) from error
    if not counts.rejected:
        rejected_path.unlink(missing_ok=True)
    return counts


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
    """Ids that the output holds; a last line without its end, as a killed run leaves it, is cut off first."""
    if not out.exists():
        return set()
    with out.open("r+b") as stream:
        size = stream.seek(0, os.SEEK_END)
        if size:
            stream.seek(0)
            content = stream.read()
            whole = content.rfind(b"\n") + 1
            if whole < size:
                stream.truncate(whole)
    found: set[str] = set()
    for line in read_lines(out):
        if line.record is None or not isinstance(line.record.get("id"), str) or "ticket" not in line.record:
            raise DatasetError(f"{out}:{line.number} is not a prediction, so this run cannot go on in that file", "name another file with --out")
        found.add(line.record["id"])
        counts.unread += line.record.get("status") == "unread"
    return found


def _chunks(messages: Iterator[tuple[str, Message]]) -> Iterator[list[tuple[str, Message]]]:
    chunk: list[tuple[str, Message]] = []
    for item in messages:
        chunk.append(item)
        if len(chunk) == MESSAGES_AT_ONCE:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
