"""What an import did, in counts: stored with every checkpoint, reported at its end."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


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
    missing_columns: list[str] = field(default_factory=list)
    """Columns that the mapping names and that no row had."""


@dataclass(frozen=True)
class ImportReport:
    """A finished import: its counts, its paths, and whether an earlier run had done all of it."""

    counts: ImportCounts
    out: Path
    rejected: Path
    report: Path
    is_old: bool


def counts_as_json(counts: ImportCounts) -> dict[str, Any]:
    """The counts as JSON, names sorted so that equal counts are equal bytes."""
    return asdict(counts) | {
        name: dict(sorted(getattr(counts, name).items())) for name in ("skipped", "redacted", "homeless_columns", "homeless_values")
    }


def counts_from_json(content: dict[str, Any]) -> ImportCounts:
    """The counts that `counts_as_json` wrote."""
    counts = ImportCounts(**content)
    for name in ("skipped", "redacted", "homeless_columns", "homeless_values"):
        setattr(counts, name, Counter(getattr(counts, name)))
    return counts
