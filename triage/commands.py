"""The core's commands: ask, batch, doctor."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from triage.engines.base import Engine
    from triage.taxonomy import Taxonomy

TaxonomyOption = Annotated[Path | None, typer.Option(help="A taxonomy file of your own; the default one otherwise.")]
ReleaseOption = Annotated[Path | None, typer.Option(help="A release bundle; the embedded one otherwise.")]


def ask(
    message: Annotated[str | None, typer.Argument(help="The customer's message; `-` or nothing reads standard input.")] = None,
    subject: Annotated[str | None, typer.Option(help="The message's subject.")] = None,
    taxonomy: TaxonomyOption = None,
    release: ReleaseOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the prediction as one line of JSON.")] = False,
) -> None:
    """Read one message and print its ticket."""
    from triage.pipeline import Pipeline
    from triage.taxonomy import load_taxonomy
    from triage.ticket import parse_message

    text = message if message not in (None, "-") else sys.stdin.buffer.read().decode("utf-8", "replace")
    record = {"message": text} | ({"subject": subject} if subject else {})
    loaded = load_taxonomy(taxonomy)
    pipeline = Pipeline(_load_engine(release, loaded), loaded)
    [prediction] = asyncio.run(pipeline.predict([parse_message(record, source="the message")], deadline_s=60))
    if as_json:
        typer.echo(prediction.model_dump_json(exclude_none=True))
        return
    for field, value in prediction.ticket.model_dump().items():
        share = f"  {prediction.confidence[field]:.0%}" if field in prediction.confidence else ""
        typer.echo(f"{field:12s} {json.dumps(value) if isinstance(value, bool) else value}{share}")
    note = f", {', '.join(prediction.reasons)}" if prediction.reasons else ""
    typer.echo(f"decided by {prediction.decided_by}{note} · {prediction.release} · {prediction.latency_ms:.0f} ms", err=True)


def batch(
    source: Annotated[Path, typer.Argument(help="Messages, one JSON object a line, each with an `id`.")],
    out: Annotated[Path, typer.Option(help="Where the predictions go, one JSON object a line.")],
    taxonomy: TaxonomyOption = None,
    release: ReleaseOption = None,
    strict: Annotated[bool, typer.Option("--strict", help="Leave with 3 when any line was rejected.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as one line of JSON.")] = False,
) -> None:
    """Read a file of messages and write their tickets; run it again to go on where it stopped."""
    from triage.batch import run_batch
    from triage.taxonomy import load_taxonomy

    loaded = load_taxonomy(taxonomy)
    counts = run_batch(source, out, lambda: _load_engine(release, loaded), loaded)
    if as_json:
        typer.echo(json.dumps(counts.as_dict()))
    else:
        typer.echo(f"{out}: {counts.written} tickets written, {counts.resumed} were there already; unread: {counts.unread}")
        if counts.rejected:
            typer.echo(f"{counts.rejected_path}: {counts.rejected} lines rejected, each with its place and reason")
    if strict and counts.rejected:
        raise typer.Exit(3)


def doctor(
    taxonomy: TaxonomyOption = None,
    release: ReleaseOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as one line of JSON.")] = False,
) -> None:
    """Say what is installed, what works, and what to do about the rest."""
    from triage.doctor import examine
    from triage.paths import EMBEDDED_RELEASE_DIR

    findings = examine(taxonomy, release or EMBEDDED_RELEASE_DIR)
    if as_json:
        typer.echo(json.dumps([finding.as_dict() for finding in findings]))
    else:
        for finding in findings:
            typer.echo(f"{finding.state:8s} {finding.name}: {finding.detail}")
            if finding.hint:
                typer.echo(f"         hint: {finding.hint}")
    if any(finding.state == "broken" for finding in findings):
        raise typer.Exit(3)


def _load_engine(release: Path | None, taxonomy: Taxonomy) -> Engine:
    from triage.engines.embedded import load_embedded_engine
    from triage.paths import EMBEDDED_RELEASE_DIR

    return load_embedded_engine(taxonomy, release or EMBEDDED_RELEASE_DIR)
