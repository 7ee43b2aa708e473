"""A source's columns and values -> ours: one small TOML file a source, which `data/outside/` shows by example.

Whatever has no home is reported, never guessed: a column that no field takes, a label that the taxonomy lacks.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from data.desks import DEFAULT_COLUMNS, RowError
from triage.dataset import SPLITS
from triage.errors import DatasetError
from triage.paths import canonical_json, text_digest
from triage.redact import find_personal_data, redact_text
from triage.taxonomy import LABEL_FIELDS, Taxonomy
from triage.ticket import TICKET_FIELDS, Channel

Format = Literal["jsonl", "chat", "csv", "label_studio", "zendesk", "zammad", "feedback"]
FORMATS: tuple[Format, ...] = get_args(Format)
STANDARD_FIELDS = ("id", "group", "subject", "message", "thread", "channel", "language", "split", "slices", "no_training")
OUR_FIELDS = (*STANDARD_FIELDS, *TICKET_FIELDS, "provenance", "taxonomy")
CHANNELS: tuple[str, ...] = get_args(Channel)
LONGEST_MESSAGE = 256 * 1024
"""Characters; what the service would refuse as a request is no training example either."""
MOST_HOMELESS = 200
"""Distinct values without a home that are counted by name."""
_UNFIT = re.compile(r"[^A-Za-z0-9_.:-]+")


def _check_encoding(name: str) -> str:
    try:
        "".encode(name)
    except LookupError:
        raise ValueError(f"{name!r} is no text encoding; usual ones are utf-8, cp1252, latin-1") from None
    return name


class Source(BaseModel):
    """Where messages come from and on what terms."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,40}$")]
    """Begins every id and group, and is the provenance."""
    licence: Annotated[str, Field(min_length=1, max_length=100)]
    """SPDX identifier, or words such as `internal`."""
    consent: Annotated[str, Field(min_length=1, max_length=300)]
    """The lawful basis on which the messages may be used, in words."""
    groups: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,40}$")] | None = None
    """Sources that name the same here share their groups, so that a customer of both lies in one split; the source's name where absent."""


class Mapping(BaseModel):
    """The parsed file. Construct it with `load_mapping` or directly."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Source
    format: Format | None = None
    """Told from the file's name where it is absent: `.csv` is csv, anything else jsonl."""
    encoding: Annotated[str, AfterValidator(_check_encoding)] = "utf-8"
    """Of a CSV file, as Python names it."""
    delimiter: Annotated[str, Field(pattern=r"^[^\"\r\n]$")] | None = None
    """Of a CSV file; a comma where it is absent, a tab in a `.tsv`."""
    language: Annotated[str, Field(pattern=r"^[a-z]{2,3}$")] | None = None
    """ISO 639 code of every row; detected where it is absent."""
    columns: dict[str, str] = {}
    """Our field = the source's column. Dots go into objects and lists."""
    labels: dict[str, dict[str, str]] = {}
    """For a label field, the source's value = our label. An empty label leaves such rows out on purpose."""
    channels: dict[str, str] = {}
    """The source's value = our channel."""
    defaults: dict[str, Any] = {}
    """Constant values of our fields, for rows that have none."""

    @property
    def digest(self) -> str:
        """SHA-256 of the content in canonical JSON."""
        return text_digest(canonical_json(self.model_dump()))


class SkippedRowError(RowError):
    """A row that the mapping leaves out on purpose."""


def load_mapping(path: Path, taxonomy: Taxonomy) -> Mapping:
    """Read and check a mapping file.

    Raises:
        DatasetError: it cannot be read, or names a field, label or channel that there is not; every fault at once.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DatasetError(f"cannot read the mapping {path}: {error.strerror}", "name an existing TOML file") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DatasetError(f"{path} is not TOML: {error}", "mend the line it names") from None
    try:
        mapping = Mapping.model_validate(content)
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors(include_input=False)]
        raise DatasetError(f"the mapping {path} cannot be used: {'; '.join(faults)}", "data/outside/banking77.toml shows the form") from None
    check_mapping(mapping, taxonomy, source=str(path))
    return mapping


def check_mapping(mapping: Mapping, taxonomy: Taxonomy, *, source: str) -> None:
    """Check that every field, label and channel that a mapping names exists.

    Raises:
        DatasetError: with every fault.
    """
    faults = [f"{table}.{name}: no such field{_nearest(name, OUR_FIELDS)}" for table, name in _field_names(mapping) if name not in OUR_FIELDS]
    for field, values in mapping.labels.items():
        if field not in LABEL_FIELDS:
            faults.append(f"labels.{field}: no such label field{_nearest(field, LABEL_FIELDS)}")
            continue
        known = taxonomy.labels(field)
        faults += [
            f"labels.{field}.{value}: {label!r} is no label{_nearest(label, known)}" for value, label in values.items() if label not in ("", *known)
        ]
    faults += [
        f"channels.{value}: {name!r} is no channel{_nearest(name, CHANNELS)}" for value, name in mapping.channels.items() if name not in CHANNELS
    ]
    for field, value in mapping.defaults.items():
        if field in LABEL_FIELDS and str(value).casefold() not in taxonomy.labels(field):
            faults.append(f"defaults.{field}: {value!r} is no label{_nearest(str(value), taxonomy.labels(field))}")
        if field == "channel" and value not in CHANNELS:
            faults.append(f"defaults.channel: {value!r} is no channel{_nearest(str(value), CHANNELS)}")
    if faults:
        raise DatasetError(f"the mapping {source} cannot be used: {'; '.join(faults)}", "mend these entries")


def _field_names(mapping: Mapping) -> list[tuple[str, str]]:
    return [("columns", name) for name in mapping.columns] + [("defaults", name) for name in mapping.defaults]


def _nearest(name: str, known: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f" (known are {', '.join(known)})"


class RowMapper:
    """Applies a mapping to flattened rows, and counts what had no home."""

    def __init__(self, mapping: Mapping, taxonomy: Taxonomy, format_name: Format) -> None:
        self._mapping = mapping
        self._taxonomy = taxonomy
        self.columns = {**{field: field for field in STANDARD_FIELDS}, **DEFAULT_COLUMNS[format_name], **mapping.columns}
        self._values = {field: {key.casefold(): label for key, label in values.items()} for field, values in mapping.labels.items()}
        self._channels = {key.casefold(): name for key, name in mapping.channels.items()}
        self._taken = {path.split(".")[0] for path in self.columns.values()} | set(self.columns.values())
        self.homeless_columns: Counter[str] = Counter()
        self.homeless_values: Counter[str] = Counter()
        self.found_fields: set[str] = set()
        """The fields for which some row held a value."""

    def check_columns(self, header: Iterable[str], *, source: str) -> None:
        """Check that a table has every column which the mapping names.

        Raises:
            DatasetError: naming each that it lacks, with the nearest that it has.
        """
        known = tuple(header)
        absent = [f"{field} = {path!r}{_nearest(path, known)}" for field, path in self._mapping.columns.items() if path not in known]
        if absent:
            raise DatasetError(f"{source} has no such column: {'; '.join(absent)}", "mend the mapping's [columns], or its delimiter")

    def missing_fields(self) -> list[str]:
        """The fields that the mapping names a column for and no row held a value of, as `field = 'column'`."""
        return [f"{field} = {path!r}" for field, path in self._mapping.columns.items() if field not in self.found_fields]

    def map_row(self, row: dict[str, Any]) -> dict[str, Any]:
        """The fields of a candidate that the row holds, not yet redacted or checked.

        Raises:
            RowError: the row cannot become a candidate. `SkippedRowError` where the mapping wants it so.
        """
        self.homeless_columns.update(key for key in row if key not in self._taken)
        found = {field: self._value(row, field) for field in self.columns}
        found = {field: value for field, value in found.items() if value not in (None, "", [])}
        self.found_fields.update(found)
        if "no_training" in found and _truth(found["no_training"]):
            raise SkippedRowError("marked no_training")
        if (digest := found.get("taxonomy")) and digest not in (self._taxonomy.digest, self._taxonomy.digest[:12]):
            raise RowError(f"labelled in the taxonomy {str(digest)[:12]}, and this one is {self._taxonomy.digest[:12]}")
        record: dict[str, Any] = {field: self._text(found, field) for field in ("subject", "message") if field in found}
        if not (record.get("message", "").strip() or record.get("subject", "").strip()):
            raise RowError("the message is empty")
        if len(record.setdefault("message", "")) > LONGEST_MESSAGE:
            raise RowError(f"the message is longer than {LONGEST_MESSAGE // 1024} Ki characters")
        record["labels"] = self._labels(found)
        record |= {field: found[field] for field in ("thread", "provenance") if field in found}
        if channel := self._channel(found.get("channel")):
            record["channel"] = channel
        if "split" in found:
            record["split"] = str(found["split"]).strip().lower()
            if record["split"] not in SPLITS:
                raise RowError(f"split: {record['split'][:20]!r} is not one of {', '.join(SPLITS)}")
        if "slices" in found:
            record["slices"] = _names(found["slices"])
        if "language" in found and (language := _language(found["language"])):
            record["language"] = language
        return record | self._identity(found, record)

    def _value(self, row: dict[str, Any], field: str) -> Any:
        path = self.columns[field]
        value: Any = row.get(path)
        if value is None and "." in path:
            value = row
            for part in path.split("."):
                if isinstance(value, dict):
                    value = value.get(part)
                elif isinstance(value, list) and part.isdecimal():
                    value = value[int(part)] if int(part) < len(value) else None
                else:
                    value = None
        return self._mapping.defaults.get(field) if value in (None, "") else value

    def _text(self, found: dict[str, Any], field: str) -> str:
        value = found[field]
        if not isinstance(value, str):
            raise RowError(f"{field}: not text, but a {type(value).__name__}")
        return value

    def _labels(self, found: dict[str, Any]) -> dict[str, Any]:
        labels: dict[str, Any] = {}
        for field in LABEL_FIELDS:
            if field not in found:
                continue
            value = str(found[field]).strip()
            label = self._values.get(field, {}).get(value.casefold())
            if label == "":
                raise SkippedRowError(f"{field}: {_shown(value)} is left out by the mapping")
            label = label or (value.casefold() if value.casefold() in self._taxonomy.labels(field) else None)
            if label is None:
                self._count_homeless(field, value)
                raise RowError(f"{field}: {_shown(value)} has no home; give it one under [labels.{field}]")
            labels[field] = label == "true" if field == "needs_human" else label
        if "summary" in found:
            labels["summary"] = self._text(found, "summary")
        return labels

    def _channel(self, value: Any) -> str | None:
        """A channel without a home is no reason to lose a row: it is counted and left out."""
        if value is None:
            return None
        name = str(value).strip()
        channel = self._channels.get(name.casefold()) or (name if name in CHANNELS else None)
        if channel is None:
            self._count_homeless("channel", name)
        return channel

    def _count_homeless(self, field: str, value: str) -> None:
        key = f"{field}: {_shown(value)}"
        if key not in self.homeless_values and len(self.homeless_values) >= MOST_HOMELESS:
            key = "(further values)"
        self.homeless_values[key] += 1

    def _identity(self, found: dict[str, Any], record: dict[str, Any]) -> dict[str, str]:
        """Id and group. The group is a digest of the source's own value: a pseudonym, which whoever knows that value can confirm."""
        name = self._mapping.source.name
        if own := str(found.get("id", "")).strip():
            fit = _UNFIT.sub("_", own)[:40]
            if fit != own:
                fit = f"{fit}-{text_digest(own)[:8]}"
            identifier = f"{name}-{text_digest(own)[:16] if find_personal_data(own) else fit}"
        else:
            identifier = f"{name}-{text_digest(canonical_json([record.get('subject'), found.get('thread'), record['message']]))[:16]}"
        author = " ".join(str(found.get("group", "")).split()).casefold()
        group = f"{self._mapping.source.groups or name}-g{text_digest(author)[:12]}" if author else identifier
        return {"id": identifier, "group": group}


def _shown(value: str) -> str:
    """A source's value as reports quote it: short and redacted, since a mapping may name the wrong column."""
    return repr(redact_text(value)[:60])


def _truth(value: Any) -> bool:
    word = str(value).strip().casefold()
    if word in ("true", "yes", "y", "1", "x"):
        return True
    if word in ("false", "no", "n", "0"):
        return False
    raise RowError("no_training: neither true nor false")


def _language(value: Any) -> str | None:
    """An ISO 639-1 code, or None where the source has something else and the text has to tell."""
    word = str(value).strip().lower().replace("_", "-").partition("-")[0]
    return word if len(word) == 2 and word.isascii() and word.isalpha() else None


def _names(value: Any) -> list[str]:
    parts = value if isinstance(value, list) else str(value).replace(";", ",").split(",")
    return [str(part).strip() for part in parts if str(part).strip()]
