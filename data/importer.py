"""A source file -> candidates: read, mapped, redacted, checked, written; stopped at any moment, it goes on where it was.

Good rows go to `OUT`, bad ones to `OUT`'s `.rejected.jsonl` with file, line and reason, and `.import.json` reports what
happened and what had no home. Until the end everything lies in `.partial` files beside them; every `CHUNK_ROWS` rows these are
flushed to disk and their lengths noted in `.progress.json`, to which a later run cuts them back. So nothing is lost and
nothing is there twice, even after kill -9.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from data.candidate import CANDIDATE_KEYS, Candidate
from data.desks import FLATTENERS, RowError
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


@dataclass
class ImportCounts:
    """What an import did so far; the whole of it is stored with every chunk."""

    rows: int = 0
    written: int = 0
    rejected: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    """Rows left out on purpose, by reason."""
    repeated: int = 0
    """Rows that were there already, id and all."""
    redacted: Counter[str] = field(default_factory=Counter)
    """Placeholders set, by kind of personal data."""
    summaries_cut: int = 0
    homeless_columns: Counter[str] = field(default_factory=Counter)
    homeless_values: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class ImportReport:
    """A finished import: its counts, its paths, and whether an earlier run had done all of it."""

    counts: ImportCounts
    out: Path
    rejected: Path
    report: Path
    is_old: bool


def run_import(source: Path, out: Path, mapping: Mapping, taxonomy: Taxonomy) -> ImportReport:
    """Import every row of `source` into `out`; run it again to go on.

    Raises:
        DatasetError: the source cannot be read, `out` holds something else, or another run is writing it.
    """
    format_name: Format = mapping.format or ("csv" if source.suffix.lower() in {".csv", ".tsv"} else "jsonl")
    stem = out.name.removesuffix(".jsonl")
    rejected, report = out.with_name(f"{stem}.rejected.jsonl"), out.with_name(f"{stem}.import.json")
    if not source.is_file():
        raise DatasetError(f"cannot read {source}: not a file", "name an existing file")
    identity = {"source": source.name, "sha256": file_digest(source), "format": format_name, "mapping": mapping.digest, "taxonomy": taxonomy.digest}
    if report.exists() or out.exists():
        counts = _finished_counts(report, out, identity)
        return ImportReport(counts, out, rejected, report, is_old=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    run = _Import(source, out, rejected, format_name, mapping, taxonomy, identity)
    counts = run.finish()
    homeless = {"columns": dict(counts.homeless_columns.most_common()), "values": dict(counts.homeless_values.most_common())}
    write_json_atomically(report, {**identity, "terms": mapping.source.model_dump(), "counts": _as_json(counts), "homeless": homeless})
    return ImportReport(counts, out, rejected, report, is_old=False)


def _as_json(counts: ImportCounts) -> dict[str, Any]:
    return asdict(counts) | {
        name: dict(sorted(getattr(counts, name).items())) for name in ("skipped", "redacted", "homeless_columns", "homeless_values")
    }


def _from_json(content: dict[str, Any]) -> ImportCounts:
    counts = ImportCounts(**content)
    for name in ("skipped", "redacted", "homeless_columns", "homeless_values"):
        setattr(counts, name, Counter(getattr(counts, name)))
    return counts


def _finished_counts(report: Path, out: Path, identity: dict[str, str]) -> ImportCounts:
    try:
        content = json.loads(report.read_text(encoding="utf-8"))
        if out.exists() and all(content[key] == value for key, value in identity.items()):
            return _from_json(content["counts"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise DatasetError(f"{out} is there already, from another source, mapping or taxonomy", "name another file with --out, or remove that one")


class _Import:
    """One run over one source."""

    def __init__(
        self, source: Path, out: Path, rejected: Path, format_name: Format, mapping: Mapping, taxonomy: Taxonomy, identity: dict[str, str]
    ) -> None:
        self._source, self._out, self._rejected = source, out, rejected
        self._format, self._mapping, self._taxonomy, self._identity = format_name, mapping, taxonomy, identity
        self._mapper = RowMapper(mapping, taxonomy, format_name)
        self._progress_path = out.with_name(f"{out.name}.progress.json")
        self._seen: dict[str, int] = {}
        self._counts = ImportCounts()

    def finish(self) -> ImportCounts:
        partial, bad = (path.with_name(f"{path.name}.partial") for path in (self._out, self._rejected))
        with partial.open("ab") as accepted, bad.open("ab") as rejected:
            lock_file(accepted, partial)
            self._resume(partial, accepted, rejected)
            with Progress(
                *(TextColumn("importing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()), transient=True, console=Console(stderr=True)
            ) as progress:
                task = progress.add_task("importing", total=_count_lines(self._source), completed=self._counts.rows)
                for row in self._rows():
                    self._take(row, accepted, rejected)
                    if self._counts.rows % CHUNK_ROWS == 0:
                        self._checkpoint(accepted, rejected)
                        progress.update(task, completed=self._counts.rows)
            self._checkpoint(accepted, rejected)
        if not self._counts.rows:
            for path in (partial, bad, self._progress_path):
                path.unlink(missing_ok=True)
            raise DatasetError(f"{self._source} holds no row", "export it again, or name another file")
        if self._counts.rejected:
            os.replace(bad, self._rejected)
        else:
            bad.unlink()
        os.replace(partial, self._out)
        self._progress_path.unlink(missing_ok=True)
        return self._counts

    def _rows(self) -> Iterator[Row]:
        if self._format == "csv":
            rows = read_csv_rows(self._source, delimiter=self._mapping.delimiter, encoding=self._mapping.encoding)
        else:
            rows = read_json_rows(self._source)
        for count, row in enumerate(rows):
            if count >= self._counts.rows:
                yield row

    def _take(self, row: Row, accepted: BinaryIO, rejected: BinaryIO) -> None:
        self._counts.rows += 1
        try:
            if row.record is None:
                raise RowError(row.fault)
            flat = FLATTENERS[self._format](row.record) if self._format in FLATTENERS else row.record
            candidate = self._candidate(self._mapper.map_row(flat))
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

    def _checkpoint(self, accepted: BinaryIO, rejected: BinaryIO) -> None:
        lengths = []
        for stream in (accepted, rejected):
            stream.flush()
            os.fsync(stream.fileno())
            lengths.append(stream.tell())
        self._counts.homeless_columns, self._counts.homeless_values = self._mapper.homeless_columns, self._mapper.homeless_values
        write_json_atomically(self._progress_path, {**self._identity, "lengths": lengths, "counts": _as_json(self._counts)})

    def _resume(self, partial: Path, accepted: BinaryIO, rejected: BinaryIO) -> None:
        """Cut what a stopped run left back to its last checkpoint, and know again what it had seen."""
        lengths = [0, 0]
        try:
            content = json.loads(self._progress_path.read_text(encoding="utf-8"))
            if all(content[key] == value for key, value in self._identity.items()):
                lengths, self._counts = content["lengths"], _from_json(content["counts"])
        except (OSError, ValueError, KeyError, TypeError):
            pass
        for stream, length in ((accepted, lengths[0]), (rejected, lengths[1])):
            stream.truncate(length)
            stream.seek(length)
        self._mapper.homeless_columns, self._mapper.homeless_values = self._counts.homeless_columns, self._counts.homeless_values
        if lengths[0]:
            for line in read_lines(partial):
                candidate = Candidate.model_validate(line.record)
                self._seen[candidate.id] = _content_hash(candidate)


def _content_hash(candidate: Candidate) -> int:
    """Equal for equal text and labels, within this process alone."""
    return hash((candidate.message, candidate.subject, tuple((turn.sender, turn.text) for turn in candidate.thread), candidate.labels))


def render_candidate(candidate: Candidate) -> str:
    """The line of a candidate, keys in a fixed order, what is empty left out."""
    record = candidate.model_dump(by_alias=True, exclude_none=True, include=set(CANDIDATE_KEYS))
    return json.dumps({key: record[key] for key in CANDIDATE_KEYS if record.get(key) not in (None, [])}, ensure_ascii=False)


def _count_lines(path: Path) -> int:
    with path.open("rb") as stream:
        return sum(block.count(b"\n") for block in iter(lambda: stream.read(1 << 20), b""))
