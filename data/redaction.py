"""Recall and precision of `triage.redact` by type, on generated cases and, where the file is given, on presidio-research.

A gold span counts as found when a find of its type covers at least half of it; a find that overlaps no gold span of its type is
false. The generated cases (`data.redaction_cases`) are seeded and share no pattern with the redactor: 500 a type hold one piece of
personal data in a sentence, 200 hold an order number, version, date, amount or tracking id that must be left alone. The sentences were written by
the hand that wrote the redactor, so the generated half says what forms are covered, not how customers write. Misses of either
half were looked at and mended: both are development data, not a blind test.

presidio-research's `synth_dataset_v2.jsonl` (MIT, not part of this repository) comes from Faker: its phones and IPs are drawn
without regard to any numbering plan. Of its types EMAIL_ADDRESS, PHONE_NUMBER, CREDIT_CARD, IBAN_CODE and IP_ADDRESS are measured. The
redactor does not look for the others: DOMAIN_NAME (bare home pages), US_SSN, US_DRIVER_LICENSE, ZIP_CODE and DATE_TIME have no type
here, so a find of another type on one of them is false; PERSON, STREET_ADDRESS and the rest have no structure.

    python -m data.redaction [--presidio FILE] [--show] [--json]
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import sqrt
from pathlib import Path

from data.redaction_cases import SEED, Case, generate_cases, generate_harmless
from triage.errors import DatasetError
from triage.redact import KINDS, Kind, find_personal_data, redact_text

RECALL_GOAL = 0.97
PRECISION_GOAL = 0.9
PRESIDIO_KINDS: dict[str, Kind] = {"EMAIL_ADDRESS": "email", "PHONE_NUMBER": "phone", "CREDIT_CARD": "card", "IBAN_CODE": "iban", "IP_ADDRESS": "ip"}


@dataclass(frozen=True, slots=True)
class Score:
    """Counts of one kind: gold spans, those found, and finds that overlap no gold span."""

    gold: int
    found: int
    false: int

    @property
    def recall(self) -> float:
        return self.found / self.gold

    @property
    def precision(self) -> float:
        """Found gold spans to all finds that are right or false; 1 where nothing was found at all."""
        return self.found / (self.found + self.false) if self.found + self.false else 1.0

    @property
    def reaches_goal(self) -> bool:
        return self.recall >= RECALL_GOAL and self.precision >= PRECISION_GOAL


def score_cases(cases: Iterable[Case]) -> tuple[dict[Kind, Score], list[str]]:
    """Scores of every kind that the cases hold or that was found in them falsely, and each miss and false find as a line."""
    gold: Counter[Kind] = Counter()
    found: Counter[Kind] = Counter()
    false: Counter[Kind] = Counter()
    faults = []
    for case in cases:
        finds = find_personal_data(case.text)
        for kind, start, end in case.spans:
            gold[kind] += 1
            covered = sum(max(0, min(find.end, end) - max(find.start, start)) for find in finds if find.kind == kind)
            if covered * 2 >= end - start:
                found[kind] += 1
            else:
                faults.append(f"missed {kind} {case.text[start:end]!r} in {case.text[max(0, start - 40) : end + 20]!r}")
        for find in finds:
            if not any(kind == find.kind and start < find.end and find.start < end for kind, start, end in case.spans):
                false[find.kind] += 1
                faults.append(f"false {find.kind} {case.text[find.start : find.end]!r} in {case.text[max(0, find.start - 40) : find.end + 20]!r}")
    return {kind: Score(gold[kind], found[kind], false[kind]) for kind in KINDS if gold[kind]}, faults


def load_presidio(path: Path) -> list[Case]:
    """The cases of a presidio-research file as this project's archive of public texts keeps it: `text` and `labels.spans`.

    Raises:
        DatasetError: the file cannot be read or a line is not of that form.
    """
    cases = []
    try:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            try:
                record = json.loads(line)
                spans = tuple(
                    (PRESIDIO_KINDS[kind], int(start), int(end)) for kind, start, end in record["labels"]["spans"] if kind in PRESIDIO_KINDS
                )
                cases.append(Case(str(record["text"]), spans))
            except (ValueError, TypeError, KeyError) as error:
                raise DatasetError(f"{path}:{number}: no text with labels.spans ({type(error).__name__})", "give synth_dataset_v2.jsonl") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} cannot be read: {error}", "unpack presidio_pii/synth_dataset_v2.jsonl from support_text.tar.xz") from error
    return cases


def _wilson_interval(right: int, total: int, *, z: float = 1.96) -> tuple[float, float]:
    """Wilson's score interval (1927) for a share."""
    share = right / total
    middle = share + z * z / (2 * total)
    half = z * sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return max(0.0, (middle - half) / (1 + z * z / total)), min(1.0, (middle + half) / (1 + z * z / total))


def _table(scores: dict[Kind, Score]) -> Iterator[str]:
    yield "| type | gold | recall | 95 % interval | false | precision | goal |"
    yield "|---|---|---|---|---|---|---|"
    for kind, score in scores.items():
        low, high = _wilson_interval(score.found, score.gold)
        reached = "reached" if score.reaches_goal else "missed"
        yield f"| {kind} | {score.gold} | {score.recall:.3f} | {low:.3f} to {high:.3f} | {score.false} | {score.precision:.3f} | {reached} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--presidio", type=Path, metavar="FILE", help="presidio-research's synth_dataset_v2.jsonl")
    parser.add_argument("--show", action="store_true", help="print every miss and false find")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    arguments = parser.parse_args()
    halves = {"generated": generate_cases()} | ({"presidio": load_presidio(arguments.presidio)} if arguments.presidio else {})
    harmless = generate_harmless()
    touched = [text for text in harmless if redact_text(text) != text]
    results = {name: score_cases(cases) for name, cases in halves.items()}
    if arguments.json:
        measured = {
            name: {
                kind: {"gold": score.gold, "found": score.found, "false": score.false, "recall": score.recall, "precision": score.precision}
                for kind, score in scores.items()
            }
            for name, (scores, _) in results.items()
        }
        print(json.dumps({**measured, "harmless": {"texts": len(harmless), "touched": len(touched)}, "seed": SEED}))
        return
    for name, (scores, faults) in results.items():
        print(f"\n{name}: {len(halves[name])} texts, goal recall {RECALL_GOAL} and precision {PRECISION_GOAL}\n")
        print("\n".join([*_table(scores), *(faults if arguments.show else ())]))
    print(f"\nharmless: {len(touched)} of {len(harmless)} texts touched")
    if arguments.show:
        print("\n".join(f"{text!r} -> {redact_text(text)!r}" for text in touched))


if __name__ == "__main__":
    main()
