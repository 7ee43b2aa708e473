"""Agreement between the first and the second label of the held-out tickets: Cohen's kappa a field, with intervals.

Prints a Markdown table and every disagreement. The interval is a percentile bootstrap that draws whole groups (authors)
with replacement, since tickets of one author resemble each other. Agreement of two readers under one guide is not truth.

    python -m data.agreement [--disagreements FILE]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from triage.dataset import Example, load_examples, read_lines
from triage.errors import DatasetError
from triage.paths import write_bytes_atomically
from triage.taxonomy import LABEL_FIELDS, Taxonomy, load_taxonomy

HERE = Path(__file__).resolve().parent
SECOND_PATH = HERE / "second_labels.jsonl"
TICKET_PATHS = (HERE / "tickets" / "test.jsonl", HERE / "tickets" / "calibration.jsonl")
RESAMPLES = 2_000
SEED = 20261122


def cohen_kappa(first: Sequence[str], second: Sequence[str]) -> float:
    """Cohen's kappa (1960): agreement beyond what the two readers' own label frequencies would give by chance.

    1 when both readers use a single label throughout, since they agree on everything.

    Raises:
        ValueError: the two are of different length or empty.
    """
    if len(first) != len(second) or not first:
        raise ValueError("kappa needs two label lists of one length, not empty")
    observed = float(np.mean([left == right for left, right in zip(first, second, strict=True)]))
    labels = set(first) | set(second)
    count = len(first)
    chance = sum(first.count(label) * second.count(label) for label in labels) / (count * count)
    return 1.0 if chance == 1.0 else (observed - chance) / (1 - chance)


def kappa_interval(first: Sequence[str], second: Sequence[str], groups: Sequence[str], *, resamples: int = RESAMPLES) -> tuple[float, float]:
    """The middle 95 % of kappa over resamples of whole groups, seeded."""
    draw = np.random.default_rng(SEED)
    members: dict[str, list[int]] = {}
    for place, group in enumerate(groups):
        members.setdefault(group, []).append(place)
    names = sorted(members)
    values = []
    for _ in range(resamples):
        places = [place for index in draw.integers(0, len(names), len(names)) for place in members[names[index]]]
        values.append(cohen_kappa([first[place] for place in places], [second[place] for place in places]))
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def load_second_labels(path: Path, taxonomy: Taxonomy) -> dict[str, dict[str, str]]:
    """Second labels by ticket id, each field as text.

    Raises:
        DatasetError: a line cannot be read, names a label that the taxonomy lacks, or repeats an id.
    """
    found: dict[str, dict[str, str]] = {}
    faults = []
    for line in read_lines(path):
        record = line.record or {}
        labels = {field: str(record.get(field)).lower() for field in LABEL_FIELDS}
        wrong = [field for field, label in labels.items() if label not in taxonomy.labels(field)]
        identifier = str(record.get("id"))
        if line.fault or wrong or identifier in found:
            faults.append(
                f"{path}:{line.number}: {line.fault or ('labels at fault: ' + ', '.join(wrong) if wrong else 'a second time ' + identifier)}"
            )
            continue
        found[identifier] = labels
    if faults:
        raise DatasetError("; ".join(faults), "mend these lines")
    return found


def compare(examples: Sequence[Example], second: dict[str, dict[str, str]]) -> tuple[list[str], list[str]]:
    """The table's lines, and one line of JSON for every ticket on which the readers differ.

    Raises:
        DatasetError: a ticket has no second label.
    """
    missing = [example.id for example in examples if example.id not in second]
    if missing:
        raise DatasetError(f"{len(missing)} tickets have no second label, the first is {missing[0]}", "label them, or compare fewer files")
    groups = [example.group for example in examples]
    rows = ["| field | same label | Cohen's kappa | 95 % interval |", "|---|---|---|---|"]
    for field in LABEL_FIELDS:
        left = [example.labels.label(field) for example in examples]
        right = [second[example.id][field] for example in examples]
        low, high = kappa_interval(left, right, groups)
        same = sum(one == other for one, other in zip(left, right, strict=True))
        rows.append(f"| {field} | {same} of {len(left)} ({same / len(left):.1%}) | {cohen_kappa(left, right):.3f} | {low:.3f} to {high:.3f} |")
    same = sum(all(example.labels.label(field) == second[example.id][field] for field in LABEL_FIELDS) for example in examples)
    rows.append(f"| all four | {same} of {len(examples)} ({same / len(examples):.1%}) | | |")
    differing = []
    for example in examples:
        fields = {field: [example.labels.label(field), second[example.id][field]] for field in LABEL_FIELDS}
        fields = {field: pair for field, pair in fields.items() if pair[0] != pair[1]}
        if fields:
            differing.append(json.dumps({"id": example.id, **fields}))
    return rows, differing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--disagreements", type=Path, help="write every disagreement here, one JSON object a line")
    arguments = parser.parse_args()
    taxonomy = load_taxonomy()
    second = load_second_labels(SECOND_PATH, taxonomy)
    every: list[str] = []
    for path in TICKET_PATHS:
        examples = load_examples([path], taxonomy)
        rows, differing = compare(examples, second)
        print(f"\n{path.stem}: {len(examples)} tickets of {len({example.group for example in examples})} groups\n")
        print("\n".join(rows))
        every += differing
    if arguments.disagreements:
        write_bytes_atomically(arguments.disagreements, ("\n".join(every) + "\n").encode())
        print(f"\n{arguments.disagreements}: {len(every)} tickets with a disagreement")


if __name__ == "__main__":
    main()
