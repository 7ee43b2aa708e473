"""A source file -> candidates: read, mapped, redacted, checked, written; stopped at any moment, it goes on where it was.

Good rows go to `OUT`, bad ones to `OUT`'s `.rejected.jsonl` with file, line and reason, and `.import.json` reports what
happened and what had no home. Until the end everything lies in `.partial` files beside them; every `CHUNK_ROWS` rows these are
flushed to disk and their lengths noted in `.progress.json`, to which a later run cuts them back; when all is read, that file says so
before anything is renamed. So nothing is lost and nothing is there twice, whenever the run is killed.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from data.candidate import CANDIDATE_KEYS, Candidate
from data.desks import FLATTENERS, RowError
from data.import_report import ImportCounts, ImportReport, counts_as_json, counts_from_json
from data.language import tag_language
from data.mapping import Format, Mapping, RowMapper, SkippedRowError
from data.readers import Row, read_csv_rows, read_json_rows
from triage.answer import cut_summary
from triage.dataset import read_lines
from triage.errors import DatasetError
from triage.paths import file_digest, lock_file, write_json_atomically
from triage.redact import KINDS, redact_summary, redact_text
from triage.taxonomy import Taxonomy
from triage.ticket import clean_text, describe_faults

CHUNK_ROWS = 1_000


def run_import(source: Path, out: Path, mapping: Mapping, taxonomy: Taxonomy) -> ImportReport:
    """Import every row of `source` into `out`; run it again to go on.

    Raises:
        DatasetError: the source cannot be read or lacks a column that the mapping names, `out` holds something else, or
            another run is writing it.
    """
    is_table = source.suffix.lower() in {".csv", ".tsv"}
    format_name: Format = mapping.format or ("csv" if is_table else "jsonl")
    if not source.is_file():
        raise DatasetError(f"cannot read {source}: not a file", "name an existing file")
    if out.is_dir():
        raise DatasetError(f"{out} is a folder", "name a file with --out")
    identity = {"source": source.name, "sha256": file_digest(source), "format": format_name, "mapping": mapping.digest, "taxonomy": taxonomy.digest}
    run = _Import(source, out, format_name, mapping, taxonomy, identity)
    is_old = run.is_finished()
    counts = run.old_counts() if is_old else run.finish()
    return ImportReport(counts, out, run.rejected, run.report, is_old=is_old)


class _Import:
    """One run over one source."""

    def __init__(self, source: Path, out: Path, format_name: Format, mapping: Mapping, taxonomy: Taxonomy, identity: dict[str, str]) -> None:
        stem = out.name.removesuffix(".jsonl")
        self.rejected, self.report = out.with_name(f"{stem}.rejected.jsonl"), out.with_name(f"{stem}.import.json")
        self._source, self._out = source, out
        self._partial, self._bad = (path.with_name(f"{path.name}.partial") for path in (out, self.rejected))
        self._format, self._mapping, self._taxonomy, self._identity = format_name, mapping, taxonomy, identity
        self._mapper = RowMapper(mapping, taxonomy, format_name)
        self._progress_path = out.with_name(f"{out.name}.progress.json")
        self._seen: dict[str, int] = {}
        self._counts = ImportCounts()

    def is_finished(self) -> bool:
        """Whether an earlier run imported just this. A run that was killed while it put its files in place counts as not finished.

        Raises:
            DatasetError: `out` is there and is something else.
        """
        if not self._out.exists() or self._progress_path.exists():
            return False
        if self._fits(_read_json(self.report)):
            return True
        raise DatasetError(
            f"{self._out} is there already, and is not this source imported with this mapping and taxonomy",
            f"name another file with --out, or remove {self._out.name} and {self.report.name}",
        )

    def old_counts(self) -> ImportCounts:
        return counts_from_json(_read_json(self.report)["counts"])

    def finish(self) -> ImportCounts:
        """Import what is left and put the files in place."""
        self._out.parent.mkdir(parents=True, exist_ok=True)
        progress = _read_json(self._progress_path)
        if self._fits(progress) and progress.get("is_complete"):
            self._counts = counts_from_json(progress["counts"])
        else:
            self._read_all()
        if self._counts.rejected:
            _move(self._bad, self.rejected)
        else:
            self._bad.unlink(missing_ok=True)
        _move(self._partial, self._out)
        homeless = {"columns": dict(self._counts.homeless_columns.most_common()), "values": dict(self._counts.homeless_values.most_common())}
        terms = self._mapping.source.model_dump(exclude_none=True)
        write_json_atomically(self.report, {**self._identity, "terms": terms, "counts": counts_as_json(self._counts), "homeless": homeless})
        self._progress_path.unlink(missing_ok=True)
        return self._counts

    def _read_all(self) -> None:
        with self._partial.open("ab") as accepted, self._bad.open("ab") as rejected:
            lock_file(accepted, self._out)
            self._resume(accepted, rejected)
            columns = (TextColumn("importing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            try:
                with Progress(*columns, transient=True, console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
                    task = progress.add_task("importing", total=_count_lines(self._source), completed=self._counts.rows)
                    for row in self._rows():
                        self._take(row, accepted, rejected)
                        if self._counts.rows % CHUNK_ROWS == 0:
                            self._checkpoint(accepted, rejected)
                            progress.update(task, completed=self._counts.rows)
                if not self._counts.rows:
                    raise DatasetError(f"{self._source} holds no row", "export it again, or name another file")
            except DatasetError:
                if not self._counts.rows:
                    for path in (self._partial, self._bad):
                        path.unlink(missing_ok=True)
                raise
            self._counts.missing_columns = self._mapper.missing_fields()
            self._checkpoint(accepted, rejected, is_complete=True)

    def _fits(self, content: dict[str, Any]) -> bool:
        return all(content.get(key) == value for key, value in self._identity.items())

    def _rows(self) -> Iterator[Row]:
        if self._format == "csv":
            delimiter = self._mapping.delimiter or ("\t" if self._source.suffix.lower() == ".tsv" else ",")
            rows = read_csv_rows(self._source, delimiter=delimiter, encoding=self._mapping.encoding)
        else:
            rows = read_json_rows(self._source)
        is_checked = self._format != "csv"
        for count, row in enumerate(rows):
            if not is_checked and row.record is not None:
                self._mapper.check_columns(row.record, source=f"{self._source}:1")
                is_checked = True
            if count >= self._counts.rows:
                yield row

    def _take(self, row: Row, accepted: BinaryIO, rejected: BinaryIO) -> None:
        self._counts.rows += 1
        try:
            if row.record is None:
                raise RowError(row.fault)
            candidate = self._candidate(self._mapper.map_row(self._flatten(row.record)))
            if not self._is_new(candidate):
                self._counts.repeated += 1
                return
        except SkippedRowError as reason:
            self._counts.skipped[str(reason)] += 1
        except RowError as fault:
            self._counts.rejected += 1
            rejected.write(json.dumps({"file": str(self._source), row.unit: row.number, "reason": str(fault)}, ensure_ascii=False).encode() + b"\n")
        else:
            self._counts.written += 1
            accepted.write(render_candidate(candidate).encode("utf-8") + b"\n")

    def _flatten(self, record: dict[str, Any]) -> dict[str, Any]:
        """The row in the flat form.

        Raises:
            RowError: it is not what its format promises, however it fails to be: exports of the world hold anything.
        """
        if self._format not in FLATTENERS:
            return record
        try:
            return FLATTENERS[self._format](record)
        except RowError:
            raise
        except Exception as error:
            raise RowError(f"not of the form that {self._format} has ({type(error).__name__})") from error

    def _candidate(self, record: dict[str, Any]) -> Candidate:
        """Redact and check.

        Raises:
            RowError: with every fault of form.
        """
        terms = self._mapping.source
        for name in ("message", "subject"):
            if name in record:
                record[name] = self._redact(record[name])
        if isinstance(turns := record.get("thread"), list):
            record["thread"] = [{**turn, "text": self._redact(turn.get("text"))} if isinstance(turn, dict) else turn for turn in turns]
        if summary := record["labels"].get("summary"):
            text = redact_summary(" ".join(str(clean_text(summary)).split()))
            record["labels"]["summary"] = cut_summary(text)
            self._counts.summaries_cut += record["labels"]["summary"] != text
        record.setdefault("provenance", terms.name)
        record.setdefault("language", self._mapping.language or tag_language(record["message"] or record.get("subject", "")))
        try:
            return Candidate.model_validate({**record, "licence": terms.licence, "consent": terms.consent})
        except ValidationError as error:
            raise RowError("; ".join(describe_faults(error, Candidate))) from None

    def _redact(self, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        text = str(clean_text(value))
        redacted = redact_text(text)
        if redacted != text:
            self._counts.redacted.update({kind: redacted.count(f"[{kind}]") - text.count(f"[{kind}]") for kind in KINDS})
        return redacted

    def _is_new(self, candidate: Candidate) -> bool:
        """Whether the id is seen for the first time.

        Raises:
            RowError: the id was there with another text or other labels.
        """
        content = _content_hash(candidate)
        is_new = candidate.id not in self._seen
        if self._seen.setdefault(candidate.id, content) != content:
            raise RowError(f"the id {candidate.id!r} was there before, with another text or other labels")
        return is_new

    def _checkpoint(self, accepted: BinaryIO, rejected: BinaryIO, *, is_complete: bool = False) -> None:
        lengths = []
        for stream in (accepted, rejected):
            stream.flush()
            os.fsync(stream.fileno())
            lengths.append(stream.tell())
        self._counts.homeless_columns, self._counts.homeless_values = self._mapper.homeless_columns, self._mapper.homeless_values
        state = {**self._identity, "is_complete": is_complete, "lengths": lengths, "counts": counts_as_json(self._counts)}
        write_json_atomically(self._progress_path, state)

    def _resume(self, accepted: BinaryIO, rejected: BinaryIO) -> None:
        """Cut what a stopped run left back to its last checkpoint, and know again what it had seen; else begin anew."""
        lengths = [0, 0]
        content = _read_json(self._progress_path)
        present = [stream.seek(0, os.SEEK_END) for stream in (accepted, rejected)]
        if self._fits(content) and all(there >= noted for there, noted in zip(present, content["lengths"], strict=True)):
            lengths, self._counts = content["lengths"], counts_from_json(content["counts"])
        for stream, length in ((accepted, lengths[0]), (rejected, lengths[1])):
            stream.truncate(length)
            stream.seek(length)
        self._mapper.homeless_columns, self._mapper.homeless_values = self._counts.homeless_columns, self._counts.homeless_values
        if lengths[0]:
            for line in read_lines(self._partial):
                candidate = Candidate.model_validate(line.record)
                self._seen[candidate.id] = _content_hash(candidate)


def _content_hash(candidate: Candidate) -> int:
    """Equal for equal text and labels, within this process alone."""
    return hash((candidate.message, candidate.subject, tuple((turn.sender, turn.text) for turn in candidate.thread), candidate.labels))


def render_candidate(candidate: Candidate) -> str:
    """The line of a candidate, keys in a fixed order, what is empty left out."""
    record = candidate.model_dump(by_alias=True, exclude_none=True, include=set(CANDIDATE_KEYS))
    return json.dumps({key: record[key] for key in CANDIDATE_KEYS if record.get(key) not in (None, [])}, ensure_ascii=False)


def _read_json(path: Path) -> dict[str, Any]:
    """The object that a file of ours holds; empty where it is absent or damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _move(old: Path, new: Path) -> None:
    """Rename, unless an earlier run has done it before it was killed."""
    if old.exists():
        os.replace(old, new)


def _count_lines(path: Path) -> int:
    with path.open("rb") as stream:
        return sum(block.count(b"\n") for block in iter(lambda: stream.read(1 << 20), b""))
