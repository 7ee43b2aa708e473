"""How often the embedded release labels messages as the guide does: by default 20 that were written blind.

Prints each ticket beside the labels the message deserves, and a table with intervals. Policy is included, as in
service. It decides nothing. Twenty messages say little about accuracy: read the interval.

    python -m eval.accuracy [--messages FILE] [--quiet]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from eval.intervals import wilson_interval
from triage.engines.embedded import load_embedded_engine
from triage.paths import EMBEDDED_RELEASE_DIR
from triage.pipeline import Pipeline
from triage.taxonomy import LABEL_FIELDS, load_taxonomy
from triage.ticket import Message, Ticket

MESSAGES_PATH = Path(__file__).resolve().parents[1] / "data" / "blind" / "messages.jsonl"


def score(records: list[dict[str, Any]], release: Path) -> list[tuple[dict[str, Any], Ticket]]:
    """Each record with the ticket that the release gives its message, policy included."""
    taxonomy = load_taxonomy()
    pipeline = Pipeline(load_embedded_engine(taxonomy, release), taxonomy)
    messages = [Message.model_validate({key: record[key] for key in Message.model_fields if key in record}) for record in records]
    predictions = asyncio.run(pipeline.predict(messages, deadline_s=60.0 * len(messages)))
    return [(record, prediction.ticket) for record, prediction in zip(records, predictions, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--release", type=Path, default=EMBEDDED_RELEASE_DIR)
    parser.add_argument("--messages", type=Path, default=MESSAGES_PATH)
    parser.add_argument("--quiet", action="store_true", help="print the table alone")
    arguments = parser.parse_args()
    records = [json.loads(line) for line in arguments.messages.read_text(encoding="utf-8").splitlines()]
    if any(record.get("split") == "test" for record in records):
        sys.exit("error: this command notes no look at the test split\nhint: triage predict --split test --purpose … and triage score do")
    console = Console(soft_wrap=True)
    right = dict.fromkeys((*LABEL_FIELDS, "all four"), 0)
    for record, ticket in score(records, arguments.release):
        wanted = Ticket.model_validate(record["labels"])
        hits = {field: ticket.label(field) == wanted.label(field) for field in LABEL_FIELDS}
        for field, hit in hits.items():
            right[field] += hit
        right["all four"] += all(hits.values())
        if arguments.quiet:
            continue
        console.print(f"\n[bold]{record['id']}[/bold] {escape(' '.join(record['message'].split())[:150])}", highlight=False)
        said = [ticket.label(field) if hits[field] else f"[red]{ticket.label(field)}[/red] (guide: {wanted.label(field)})" for field in LABEL_FIELDS]
        console.print("  " + " · ".join(said), highlight=False)
        console.print(f"  {ticket.summary}", highlight=False, style="dim", markup=False)
    table = Table("field", "right", "share", "95 % interval", box=None)
    for name, count in right.items():
        low, high = wilson_interval(count, len(records))
        table.add_row(name, f"{count} of {len(records)}", f"{count / len(records):.0%}", f"{low:.0%} to {high:.0%}")
    console.print()
    console.print(table)


if __name__ == "__main__":
    main()
