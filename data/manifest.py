"""`manifest.json`: what a dataset is, in digests and counts. Written last by a build; holds no time, so the same tickets give the same bytes.

It also keeps what only it knows: on what terms each provenance may be used. Tickets written by hand get theirs from
`sources.toml` beside them, imported ones bring theirs along.
"""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from data.duplicates import NEAR
from data.rules import RULES_NAME
from data.split import SEED, SHARES
from triage.dataset import SPLITS, Example, Split, dataset_digest
from triage.errors import DatasetError
from triage.paths import file_digest, write_json_atomically
from triage.taxonomy import LABEL_FIELDS, Taxonomy

MANIFEST_NAME = "manifest.json"
SOURCES_NAME = "sources.toml"


class Terms(BaseModel):
    """On what terms the messages of one provenance may be used."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    licence: Annotated[str, Field(min_length=1, max_length=100)]
    consent: Annotated[str, Field(min_length=1, max_length=300)]
    """The lawful basis, in words."""


class SplitFile(BaseModel):
    """One file of tickets."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str
    tickets: int
    groups: int


class Source(Terms):
    """A provenance and how many tickets have it."""

    tickets: int


class Manifest(BaseModel):
    """The parsed file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = 1
    digest: str
    """`triage.dataset.dataset_digest` of the split files: the dataset's name in runs and scorecards."""
    taxonomy: str
    taxonomy_digest: str
    files: dict[str, SplitFile]
    counts: dict[str, dict[str, int]]
    """Tickets by label of each field, language and channel, over all splits."""
    sources: dict[str, Source]
    """By provenance."""
    rules_digest: str | None
    tombstones: int
    split: dict[str, Any]
    """How new groups get a split: seed and shares."""
    near_duplicate: float


def split_path(folder: Path, split: Split) -> Path:
    """The file of a split."""
    return folder / f"{split}.jsonl"


def split_paths(folder: Path) -> list[Path]:
    """The split files that are there, in the order of `SPLITS`.

    Raises:
        DatasetError: there are none.
    """
    paths = [path for split in SPLITS if (path := split_path(folder, split)).is_file()]
    if not paths:
        raise DatasetError(f"{folder} holds no dataset: none of {', '.join(f'{split}.jsonl' for split in SPLITS)}", "name the folder of the tickets")
    return paths


def make_manifest(folder: Path, examples: Sequence[Example], terms: Mapping[str, Terms], taxonomy: Taxonomy, tombstones: int) -> Manifest:
    """The manifest of split files that lie in `folder` already and hold exactly `examples`."""
    files = {}
    for path in split_paths(folder):
        members = [example for example in examples if example.split == path.stem]
        files[path.name] = SplitFile(sha256=file_digest(path), tickets=len(members), groups=len({example.group for example in members}))
    counts = {field: _count([example.labels.label(field) for example in examples]) for field in LABEL_FIELDS}
    counts |= {"language": _count([example.language for example in examples]), "channel": _count([example.channel or "none" for example in examples])}
    used = _count([example.provenance for example in examples])
    rules = folder / RULES_NAME
    return Manifest(
        digest=dataset_digest(split_paths(folder)),
        taxonomy=f"{taxonomy.name} {taxonomy.version}",
        taxonomy_digest=taxonomy.digest,
        files=files,
        counts=counts,
        sources={name: Source(**terms[name].model_dump(), tickets=count) for name, count in used.items()},
        rules_digest=file_digest(rules) if rules.exists() else None,
        tombstones=tombstones,
        split={"seed": SEED, "shares": dict(SHARES)},
        near_duplicate=NEAR,
    )


def write_manifest(folder: Path, manifest: Manifest) -> None:
    write_json_atomically(folder / MANIFEST_NAME, manifest.model_dump())


def load_manifest(folder: Path) -> Manifest | None:
    """The manifest of a dataset, or None where it has none.

    Raises:
        DatasetError: it cannot be read.
    """
    path = folder / MANIFEST_NAME
    if not path.exists():
        return None
    try:
        return Manifest.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise DatasetError(f"{path} cannot be read: {type(error).__name__}", "remove it and run `triage data build` again") from None


def load_terms(folder: Path) -> dict[str, Terms]:
    """The terms of every provenance that the dataset knows: those of its manifest, outranked by `sources.toml`.

    Raises:
        DatasetError: `sources.toml` is no such file.
    """
    manifest = load_manifest(folder)
    known = {name: Terms(licence=source.licence, consent=source.consent) for name, source in (manifest.sources if manifest else {}).items()}
    path = folder / SOURCES_NAME
    if not path.exists():
        return known
    try:
        written = TypeAdapter(dict[str, Terms]).validate_python(tomllib.loads(path.read_text(encoding="utf-8")))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DatasetError(f"{path} is not TOML: {error}", "mend the line it names") from None
    except ValidationError as error:
        places = sorted({".".join(map(str, item["loc"])) for item in error.errors(include_input=False)})
        raise DatasetError(f"{path} cannot be used: {', '.join(places)}", "each provenance is a table with `licence` and `consent`") from None
    return known | written


def _count(values: Sequence[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))
