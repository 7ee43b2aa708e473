"""What is installed here, what works, and what to do about the rest."""

from __future__ import annotations

import importlib
import importlib.util
import platform
import sys
import time
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from triage.errors import TriageError

State = Literal["works", "absent", "broken"]

CORE_PACKAGES = ("pydantic", "numpy", "tokenizers", "onnxruntime", "outlines-core", "typer", "rich", "httpx")
OPTIONAL_PACKAGES = {
    "service": ("fastapi", "uvicorn", "prometheus-client", "pydantic-settings"),
    "train": ("torch", "transformers", "accelerate"),
}
"""The packages that tell whether an extra is installed, by extra."""


@dataclass(frozen=True)
class Finding:
    """One thing looked at. `absent` is optional and not installed; `broken` stops the product from working."""

    state: State
    name: str
    detail: str
    hint: str = ""

    def as_dict(self) -> dict[str, str]:
        return asdict(self)


def examine(taxonomy_path: Path | None, release_folder: Path) -> list[Finding]:
    """Look at Python, packages, taxonomy and release, and let the release answer one message."""
    findings = [_python(), _packages("core", CORE_PACKAGES, required=True)]
    findings += [_packages(extra, names, required=False) for extra, names in OPTIONAL_PACKAGES.items()]
    findings.append(_accelerator())
    if any(finding.state == "broken" for finding in findings):
        return findings
    from triage.answer import Failure
    from triage.engines.embedded import load_embedded_engine
    from triage.prompt import build_prompt
    from triage.taxonomy import load_taxonomy
    from triage.ticket import Message

    try:
        taxonomy = load_taxonomy(taxonomy_path)
    except TriageError as error:
        return [*findings, Finding("broken", "taxonomy", str(error), error.hint)]
    findings.append(Finding("works", "taxonomy", f"{taxonomy.name} {taxonomy.version}, digest {taxonomy.digest[:12]}"))
    try:
        begin = time.monotonic()
        engine = load_embedded_engine(taxonomy, release_folder)
        loaded_s = time.monotonic() - begin
    except TriageError as error:
        return [*findings, Finding("broken", "release", str(error), error.hint)]
    findings.append(Finding("works", "release", f"{engine.release}, every file verified, loaded in {loaded_s:.1f} s"))
    findings.append(Finding("absent", "gate", "this release carries no decision: the gate does not exist yet"))
    prompt = build_prompt(Message(message="The export button does nothing since yesterday."), taxonomy)
    begin = time.monotonic()
    answer = engine.answer_now(prompt, deadline_s=60)
    took_ms = (time.monotonic() - begin) * 1000
    if isinstance(answer, Failure):
        return [*findings, Finding("broken", "answer", f"a test message failed: {answer.reason} {answer.detail}", "please report this")]
    return [*findings, Finding("works", "answer", f"a test message became a valid ticket in {took_ms:.0f} ms")]


def _python() -> Finding:
    version = platform.python_version()
    if sys.version_info < (3, 11):
        return Finding("broken", "python", version, "use Python 3.11 or newer")
    return Finding("works", "python", f"{version} on {platform.platform()}")


def _packages(extra: str, names: tuple[str, ...], *, required: bool) -> Finding:
    versions, missing = [], []
    for name in names:
        try:
            if required:
                importlib.import_module(name.replace("-", "_"))
            versions.append(f"{name} {metadata.version(name)}")
        except (metadata.PackageNotFoundError, ImportError):
            missing.append(name)
    if not missing:
        return Finding("works", extra, ", ".join(versions))
    hint = f"in the checkout: pip install -e '.[{extra}]'" if extra != "core" else "install the package again"
    return Finding("broken" if required else "absent", extra, f"without {', '.join(missing)}", hint)


def _accelerator() -> Finding:
    """Asks torch, which is imported only where it is installed; the core itself never needs it."""
    if importlib.util.find_spec("torch") is None:
        return Finding("absent", "gpu", "not looked for: torch is not installed here", "serving with the embedded model needs none")
    torch = importlib.import_module("torch")
    if torch.cuda.is_available():
        return Finding("works", "gpu", torch.cuda.get_device_name())
    return Finding("absent", "gpu", "torch sees none", "the embedded model needs none")
