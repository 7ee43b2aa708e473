"""Deleted tickets: ids that no later build lets back in. `tombstones.jsonl` beside the tickets, one `{"id", "reason", "date"}` a line.

A tombstone keeps no text. It names the id alone, so a source has to give the same message the same id again for it to hold:
ids made from the source's own ids and from the text's digest do.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from triage.dataset import Identifier, read_lines
from triage.errors import DatasetError
from triage.paths import write_bytes_atomically

TOMBSTONES_NAME = "tombstones.jsonl"
_IDENTIFIER = TypeAdapter[str](Identifier)


def load_tombstones(folder: Path) -> set[str]:
    """The ids that are never to come back; empty where there is no file.

    Raises:
        DatasetError: naming every line that is no tombstone. A tombstone that cannot be read must not be passed over.
    """
    return {entry["id"] for entry in _entries(folder)}


def add_tombstones(folder: Path, identifiers: Sequence[str], reason: str) -> list[str]:
    """Write a tombstone for each id that has none; returns those ids. The tickets themselves go with the next build.

    Raises:
        DatasetError: an id is none, or the file cannot be read.
    """
    for identifier in identifiers:
        try:
            _IDENTIFIER.validate_python(identifier)
        except ValidationError:
            raise DatasetError(f"{identifier[:100]!r} is no id", "an id is 1 to 100 letters, digits and _ . : -") from None
    entries = _entries(folder)
    known = {entry["id"] for entry in entries}
    new = [identifier for identifier in dict.fromkeys(identifiers) if identifier not in known]
    date = datetime.now(UTC).date().isoformat()
    entries += [{"id": identifier, "reason": reason, "date": date} for identifier in new]
    write_bytes_atomically(folder / TOMBSTONES_NAME, "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries).encode())
    return new


def _entries(folder: Path) -> list[dict[str, str]]:
    path = folder / TOMBSTONES_NAME
    if not path.exists():
        return []
    entries, faults = [], []
    for line in read_lines(path):
        if line.record is None or not isinstance(line.record.get("id"), str):
            faults.append(f"{path}:{line.number}: {line.fault or 'no `id`'}")
        else:
            entries.append({key: str(value) for key, value in line.record.items()})
    if faults:
        raise DatasetError("; ".join(faults), "mend these lines; a deletion must not be lost")
    return entries
