"""The figures of DATASHEET.md, computed from the tickets. A test fails when the page tells other ones.

python -m data.datasheet [--write]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data.manifest import split_paths
from data.stats import describe_dataset
from triage.dataset import SPLITS, Example, load_examples
from triage.errors import DatasetError
from triage.paths import write_bytes_atomically
from triage.taxonomy import load_taxonomy

HERE = Path(__file__).resolve().parent
PAGE_PATH = HERE / "DATASHEET.md"
PERSONAS_PATH = HERE / "personas.jsonl"
TICKETS = HERE / "tickets"
BEGIN, END = "<!-- figures: `python -m data.datasheet --write` -->\n", "<!-- end of figures -->\n"


def load_personas(path: Path = PERSONAS_PATH) -> dict[str, dict[str, Any]]:
    """The author of each group: industry, product, voice."""
    return {persona["group"]: persona for persona in map(json.loads, path.read_text(encoding="utf-8").splitlines())}


def render_figures(examples: Sequence[Example], personas: Mapping[str, Mapping[str, Any]]) -> str:
    """The tables in Markdown."""
    described = describe_dataset(examples)
    parts = described["splits"]
    industries = {split: len({personas[each.group]["industry"] for each in examples if each.split == split}) for split in SPLITS}
    rows = [
        _row("tickets", {split: parts[split]["tickets"] for split in SPLITS}),
        _row("authors (groups)", {split: parts[split]["groups"] for split in SPLITS}),
        _row("industries", industries),
        _row("with earlier turns", {split: f"{100 * parts[split]['with_thread']:.0f} %" for split in SPLITS}),
        _row("words: median", {split: parts[split]["words"]["p50"] for split in SPLITS}),
        _row("words: 95 % have at most", {split: parts[split]["words"]["p95"] for split in SPLITS}),
        _row("words: shortest to longest", {split: f"{parts[split]['words']['min']} to {parts[split]['words']['max']}" for split in SPLITS}),
    ]
    blocks = ["\n".join([_head("split"), *rows])]
    tables = {**described["labels"], "slice": described["slices"], "channel": described["channels"], "language": described["languages"]}
    blocks += ["\n".join([_head(name), *(_row(f"`{key}`", counts) for key, counts in table.items())]) for name, table in tables.items()]
    repetition, near = described["repetition"], described["near_duplicates"]
    blocks.append(
        f"Runs of five words that occur in more than 5 tickets: {100 * repetition['share_in_more_than_5_tickets']:.2f} % of "
        f"{repetition['runs_of_5_words']:,}. The commonest opening of three words, “{repetition['commonest_opening']}”, begins "
        f"{100 * repetition['commonest_opening_share']:.2f} % of the tickets. Pairs with a Jaccard similarity of {near['threshold']} or more (word "
        f"5-shingles): {near['across_splits']} across splits, {near['within_a_split']} within one, all of them look-alikes written on purpose."
    )
    return "\n\n".join(blocks) + "\n"


def replace_figures(page: str, figures: str) -> str:
    """The page with its tables replaced.

    Raises:
        DatasetError: the page has lost the marks between which they stand.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise DatasetError(f"{PAGE_PATH.name} has lost its marks", f"put {BEGIN.strip()} and {END.strip()} around its tables")
    return f"{before}{begin}{figures}{end}{after}"


def _head(name: str) -> str:
    return f"| {name} | {' | '.join(SPLITS)} |\n|{'---|' * (len(SPLITS) + 1)}"


def _row(name: str, values: Mapping[Any, object]) -> str:
    return f"| {name} | {' | '.join(str(values[split]) for split in SPLITS)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--write", action="store_true", help=f"put the tables into {PAGE_PATH.name}")
    arguments = parser.parse_args()
    figures = render_figures(load_examples(split_paths(TICKETS), load_taxonomy()), load_personas())
    if arguments.write:
        write_bytes_atomically(PAGE_PATH, replace_figures(PAGE_PATH.read_text(encoding="utf-8"), figures).encode())
        print(f"{PAGE_PATH}: figures written")
    else:
        print(figures, end="")


if __name__ == "__main__":
    main()
