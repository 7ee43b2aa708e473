"""The files of the world, read one row at a time: JSON Lines, JSON arrays and CSV. Nothing here knows what a row means.

A bad row is a row with a fault, never an exception: its neighbours go through. Memory stays with one row for JSON Lines
and CSV; a JSON array is read as a whole and may not be larger than `LARGEST_ARRAY_BYTES`.
"""

from __future__ import annotations

import csv
import io
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

from triage.dataset import LONGEST_LINE_BYTES, TOO_LONG, read_bounded_lines, read_lines
from triage.errors import DatasetError
from triage.strict_json import JsonError, parse_json

LARGEST_ARRAY_BYTES = 512 * 1024 * 1024
ARRAY_KEYS = ("tickets", "results", "data", "items")
"""Where an export that is one JSON object keeps its rows; the first that holds a list counts."""
_SEPARATOR = re.compile(rb"(?:\xef\xbb\xbf)?sep=([;,|\t])\r?\n", re.IGNORECASE)
_BOMS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a source: its number from 1 counted in `unit`, and its content or what is wrong with it."""

    number: int
    unit: Literal["line", "item"]
    record: dict[str, Any] | None
    fault: str = ""


def read_json_rows(path: Path) -> Iterator[Row]:
    """The objects of a file that is JSON Lines, a JSON array, or one object that holds an array under a usual key.

    Raises:
        DatasetError: the file cannot be opened, is UTF-16, or is an array that cannot be read at all.
    """
    with _open(path) as stream:
        first = b""
        while not first and (raw := stream.readline(LARGEST_ARRAY_BYTES)):
            first = raw.removeprefix(b"\xef\xbb\xbf").strip()
        is_alone = not stream.read(4096).strip()
    is_open = first.startswith(b"{") and not is_alone and _is_cut(first)
    if first.startswith(b"[") or is_open or (is_alone and _holds_array(first)):
        yield from _read_array(path)
        return
    for line in read_lines(path):
        yield Row(line.number, "line", line.record, line.fault)


def read_csv_rows(path: Path, *, delimiter: str, encoding: str) -> Iterator[Row]:
    """The rows of a CSV file (RFC 4180) as objects keyed by its header; a row's number is the line it begins on.

    A row with more or fewer fields than the header, or with a quote that never closes, is a fault of its own: reading
    goes on at the line after the one it began on. Columns without a name and rows without a value are passed over, and so is
    the line `sep=;` that Excel reads and writes, which outranks `delimiter`.

    Raises:
        DatasetError: the file cannot be opened, is UTF-16, has no header, or a header that names a column twice.
    """
    csv.field_size_limit(LONGEST_LINE_BYTES)
    with _open(path) as stream:
        hint = _SEPARATOR.match(stream.readline(64))
        delimiter = hint.group(1).decode() if hint else delimiter
        stream.seek(0)
        records = _csv_records(stream, delimiter, encoding)
        if hint:
            next(records)
        first = next(records, None)
        if first is None or first.fields is None:
            raise DatasetError(f"{path}: no header{f': {first.fault}' if first else ', the file is empty'}", "the first line names the columns")
        header = [name.strip() for name in first.fields]
        if len(header) == 1 and (other := next((mark for mark in ";\t|" if mark in header[0] and mark != delimiter), None)):
            raise DatasetError(f"{path}:1: the header is one column, {header[0][:60]!r}", f"the mapping's `delimiter` is {other!r}, it seems")
        if repeated := sorted({name for name in header if name and header.count(name) > 1}):
            raise DatasetError(f"{path}:1: the header names {', '.join(map(repr, repeated))} more than once", "give every column a name of its own")
        for record in records:
            if record.fields is None:
                yield Row(record.number, "line", None, record.fault)
            elif len(record.fields) != len(header):
                yield Row(record.number, "line", None, f"{len(record.fields)} fields where the header has {len(header)}")
            elif any(field.strip() for field in record.fields):
                yield Row(record.number, "line", {name: value for name, value in zip(header, record.fields, strict=True) if name})


@dataclass(frozen=True, slots=True)
class _CsvRecord:
    number: int
    fields: list[str] | None
    fault: str = ""


def _csv_records(stream: BinaryIO, delimiter: str, encoding: str) -> Iterator[_CsvRecord]:
    """Records of a CSV stream. One that spans lines and is at fault gives its later lines back, to be read as records of their own."""
    lines = enumerate(read_bounded_lines(stream), start=1)
    waiting: deque[tuple[int, bytes]] = deque()
    width = 0
    while True:
        taken: list[tuple[int, bytes]] = []
        quotes = size = 0
        while not taken or quotes % 2:
            following = waiting.popleft() if waiting else next(lines, None)
            if following is None:
                break
            taken.append(following)
            quotes += following[1].count(b'"')
            size += len(following[1])
            if size > LONGEST_LINE_BYTES:
                break
        if not taken:
            return
        record = _parse_csv(taken, quotes, size, delimiter, encoding)
        width = width or len(record.fields or ())
        if len(taken) > 1 and (record.fields is None or len(record.fields) != width):
            waiting.extendleft(reversed(taken[1:]))
            fault = (
                record.fault
                if quotes % 2 or size > LONGEST_LINE_BYTES
                else "a quote opens here and what follows makes no row of the header's columns"
            )
            record = _CsvRecord(record.number, None, fault)
        if record.fault or record.fields:
            yield record


def _parse_csv(taken: list[tuple[int, bytes]], quotes: int, size: int, delimiter: str, encoding: str) -> _CsvRecord:
    number = taken[0][0]
    if size > LONGEST_LINE_BYTES:
        return _CsvRecord(number, None, TOO_LONG if len(taken) == 1 else "a quote opens here and does not close within 4 MiB")
    if quotes % 2:
        return _CsvRecord(number, None, "a quote opens here and never closes")
    content = b"".join(raw for _, raw in taken)
    if number == 1:
        content = content.removeprefix(b"\xef\xbb\xbf")
    try:
        text = content.decode(encoding)
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except UnicodeDecodeError as error:
        return _CsvRecord(
            number, None, f"not {encoding.upper()}: byte {error.start} of the row cannot be read; the mapping's `encoding` names another"
        )
    except csv.Error as error:
        return _CsvRecord(number, None, f"not CSV: {error}")
    if len(rows) > 1:
        return _CsvRecord(number, None, "several rows on one line: its line ends are carriage returns alone")
    return _CsvRecord(number, rows[0] if rows else [])


def _read_array(path: Path) -> Iterator[Row]:
    size = path.stat().st_size
    if size > LARGEST_ARRAY_BYTES:
        raise DatasetError(f"{path} is one JSON value of {size // 2**20} MiB, more than is read at once", "write it as JSON Lines: jq -c '.[]'")
    try:
        content = parse_json(path.read_bytes().removeprefix(b"\xef\xbb\xbf"))
    except JsonError as error:
        raise DatasetError(f"{path}: {error}", "export it again, or write it as JSON Lines, where one bad line spoils no other") from None
    if isinstance(content, dict):
        content = next((content[key] for key in ARRAY_KEYS if _are_objects(content.get(key))), [content])
    for number, item in enumerate(content, start=1):
        is_object = isinstance(item, dict)
        yield Row(number, "item", item if is_object else None, "" if is_object else f"not an object, but a {type(item).__name__}")


def _open(path: Path) -> BinaryIO:
    try:
        stream = path.open("rb")
    except OSError as error:
        raise DatasetError(f"cannot read {path}: {error.strerror}", "name an existing file") from None
    mark = stream.read(2)
    if mark in _BOMS:
        stream.close()
        raise DatasetError(f"{path} is {_BOMS[mark]}", f"convert it: iconv -f {_BOMS[mark]} -t UTF-8")
    stream.seek(0)
    return stream


def _holds_array(content: bytes) -> bool:
    try:
        value = parse_json(content)
    except JsonError:
        return False
    return isinstance(value, dict) and any(_are_objects(value.get(key)) for key in ARRAY_KEYS)


def _are_objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, dict) for each in value)


def _is_cut(line: bytes) -> bool:
    """Whether a line opens an object that goes on behind it: the first line of a printed document, not a bad line of JSON Lines."""
    return line == b"{" or line.endswith((b"[", b"{", b","))
