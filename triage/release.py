"""A release bundle: an immutable folder that says what it is made of and can prove it.

`release.json` is the manifest; it names every other file with its SHA-256. Nothing is loaded from a bundle before
`load_release` has read every file and compared. Scores and the gate's decision belong to the bundle once they exist.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from triage.confidence import Calibration
from triage.errors import ReleaseError
from triage.paths import canonical_json, file_digest, text_digest, write_json_atomically
from triage.prompt import PromptKind, prompt_id
from triage.taxonomy import Taxonomy

MANIFEST_NAME = "release.json"
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class BaseModelRecord(BaseModel):
    """Which weights a release was made from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    revision: str
    """Digest of the base's weight index, or a hub revision."""
    license: str


class ReleaseManifest(BaseModel):
    """What a release is made of. Digests are SHA-256 in hexadecimal."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,79}$")]
    """How tickets and metrics name it."""
    engine: Literal["embedded"]
    """Which engine serves it."""
    created_at: str
    base: BaseModelRecord
    prompt_kind: PromptKind
    prompt_id: str
    text_budget: Annotated[int, Field(ge=16)]
    """Tokens of customer text that the model was trained to read."""
    summary: Literal["written", "extracted"]
    """Whether the model writes summaries, or chooses a sentence of the message because what it writes is not faithful."""
    calibration: Calibration | None = None
    """What makes its probabilities believable; None where nothing was fitted: then they are the model's own."""
    taxonomy: Digest
    tokenizer: Digest
    chat_template: Digest
    dataset: Digest
    files: dict[str, Digest]
    """Every other file of the bundle."""
    seal: Digest
    """Digest of everything above, in canonical JSON: the manifest itself cannot be edited unnoticed."""


class Release:
    """A verified bundle on disk."""

    def __init__(self, folder: Path, manifest: ReleaseManifest) -> None:
        self.folder = folder
        self.manifest = manifest

    def path(self, name: str) -> Path:
        """A file of the bundle; raises KeyError for a file that the manifest does not name."""
        if name not in self.manifest.files:
            raise KeyError(name)
        return self.folder / name


def write_manifest(folder: Path, fields: Mapping[str, object]) -> ReleaseManifest:
    """Digest every file in `folder` and write the manifest beside them, which makes the folder a bundle."""
    files = {path.name: file_digest(path) for path in sorted(folder.iterdir()) if path.is_file() and path.name != MANIFEST_NAME}
    stamp = datetime.now(UTC).isoformat(timespec="seconds")
    content = {"created_at": stamp, **fields, "files": files}
    unsealed = ReleaseManifest.model_validate({**content, "seal": "0" * 64})
    manifest = unsealed.model_copy(update={"seal": _seal(unsealed)})
    write_json_atomically(folder / MANIFEST_NAME, manifest.model_dump(exclude_none=True))
    return manifest


def load_release(folder: Path, taxonomy: Taxonomy) -> Release:
    """Read and verify a bundle.

    Raises:
        ReleaseError: it is missing, unreadable, holds a file that was changed, added or removed, or was made for another
            taxonomy than the one given.
    """
    release = verify_release(folder)
    if release.manifest.taxonomy != taxonomy.digest:
        raise ReleaseError(
            f"the release {release.manifest.name} was made for the taxonomy {release.manifest.taxonomy[:12]}, "
            f"but the one loaded ({taxonomy.name} {taxonomy.version}) is {taxonomy.digest[:12]}",
            "load the taxonomy it was made for, or train a release for this one",
        )
    if (prompt := prompt_id(release.manifest.prompt_kind, taxonomy)) != release.manifest.prompt_id:
        raise ReleaseError(
            f"the release {release.manifest.name} was made for the prompt {release.manifest.prompt_id}, but this program's is {prompt}",
            "use the version of the program that it was made with, or train a release for this one",
        )
    return release


def verify_release(folder: Path) -> Release:
    """Read a bundle and compare every file with its manifest.

    Raises:
        ReleaseError: naming every file that is missing, changed or not listed.
    """
    path = folder / MANIFEST_NAME
    try:
        manifest = ReleaseManifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ReleaseError(f"no release in {folder}: {path.name} cannot be read ({error.strerror})", "name a release bundle") from None
    except ValidationError as error:
        places = ", ".join(sorted({".".join(map(str, item["loc"])) or "the file" for item in error.errors(include_input=False)}))
        raise ReleaseError(f"{path} is damaged: {places} cannot be read", "restore the bundle from where it was made") from None
    if manifest.seal != _seal(manifest):
        raise ReleaseError(f"{path} was edited: its seal does not fit its content", "restore the bundle from where it was made")
    present = {str(item.relative_to(folder)) for item in folder.rglob("*") if not item.is_dir()} - {MANIFEST_NAME}
    faults = [f"{name} is missing" for name in sorted(set(manifest.files) - present)]
    faults += [f"{name} is not listed" for name in sorted(present - set(manifest.files))]
    faults += [f"{name} was changed" for name in sorted(present & set(manifest.files)) if file_digest(folder / name) != manifest.files[name]]
    if faults:
        raise ReleaseError(
            f"the release {manifest.name} in {folder} is damaged: {'; '.join(faults)}",
            "restore the bundle from where it was made; for the embedded one, install the package again",
        )
    return Release(folder, manifest)


def _seal(manifest: ReleaseManifest) -> str:
    return text_digest(canonical_json(manifest.model_dump(exclude={"seal"}, exclude_none=True)))
