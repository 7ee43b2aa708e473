"""The record of a run: what was run, on what, with which result.

A run is a folder. Its `run.json` is written last and atomically, so a folder that has one is a finished run
(the convention of nanochat's dataset manifests: the manifest last means done). The record does not hold the
results themselves, only their paths and digests and a few headline figures.
"""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from triage.errors import RunError
from triage.paths import file_digest, write_json_atomically

RECORD_NAME = "run.json"
CODE_VERSION_VARIABLE = "TRIAGE_CODE_VERSION"
"""Names the commit where the code runs outside a git checkout, for example on a GPU machine it was copied to."""


class RunRecord(BaseModel):
    """One finished run. Digests are SHA-256 in hexadecimal; times are UTC in ISO 8601; durations are seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    """What ran, for example `pretrain` or `finetune`."""
    config: dict[str, Any]
    """Every setting as resolved, seeds included."""
    inputs: dict[str, str]
    """Digest of each file or dataset that was read, by a name that means something off this machine."""
    outputs: dict[str, str]
    """Digest of each file that was written, by its path inside the run folder."""
    metrics: dict[str, float | int | str]
    """Headline figures."""
    code_version: str
    """The git commit, with `+changes` when the working tree differed from it."""
    environment: dict[str, str]
    """Python, platform, device and the versions of the packages that matter."""
    started_at: str
    duration_s: float


class RunClock:
    """Notes when a run began, so that its record can be written at its end."""

    def __init__(self) -> None:
        self.started_at = datetime.now(UTC).isoformat(timespec="seconds")
        self._start_s = time.monotonic()

    def elapsed_s(self) -> float:
        return time.monotonic() - self._start_s


def write_run_record(
    folder: Path,
    *,
    kind: str,
    clock: RunClock,
    config: Mapping[str, Any],
    inputs: Mapping[str, str],
    outputs: Sequence[str],
    metrics: Mapping[str, float | int | str],
    packages: Sequence[str] = (),
    device: str = "cpu",
) -> RunRecord:
    """Digest the outputs and write `run.json` into `folder`.

    Raises:
        RunError: an output that the run claims does not exist.
    """
    missing = [name for name in outputs if not (folder / name).is_file()]
    if missing:
        raise RunError(f"the run in {folder} names outputs it did not write: {', '.join(missing)}")
    record = RunRecord(
        kind=kind,
        config=dict(config),
        inputs=dict(inputs),
        outputs={name: file_digest(folder / name) for name in outputs},
        metrics=dict(metrics),
        code_version=code_version(),
        environment=describe_environment(packages, device),
        started_at=clock.started_at,
        duration_s=round(clock.elapsed_s(), 2),
    )
    write_json_atomically(folder / RECORD_NAME, record.model_dump())
    return record


def read_run_record(folder: Path) -> RunRecord:
    """Read the record of a finished run.

    Raises:
        RunError: the folder has no record, so the run did not finish, or the record cannot be read.
    """
    path = folder / RECORD_NAME
    try:
        return RunRecord.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise RunError(f"{folder} is not a finished run: it has no {RECORD_NAME}", "run it again, or name another folder") from None
    except ValueError as error:
        raise RunError(f"{path} cannot be read as a run record: {error}") from error


def code_version() -> str:
    """The commit of the working tree, or what `TRIAGE_CODE_VERSION` says, or `unknown`."""
    if named := os.environ.get(CODE_VERSION_VARIABLE):
        return named
    folder = Path(__file__).resolve().parent
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        return commit + ("+changes" if _git(folder, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def describe_environment(packages: Sequence[str], device: str) -> dict[str, str]:
    """Python, platform, cores and device of this process, and the installed version of each package named."""
    found = {"python": platform.python_version(), "platform": platform.platform(), "cores": str(os.cpu_count()), "device": device}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "absent"
    return found


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *words], check=True, capture_output=True, text=True, timeout=10)
    return done.stdout.strip()
