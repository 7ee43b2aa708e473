"""Everything that can be wrong with a dataset, each fault with its file and line. Writes nothing.

A fault has to be mended; a warning is for a person to look at: a split that is empty, a language tag that a detector doubts,
few or very many training tickets.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from data.build import are_look_alikes
from data.duplicates import find_near_examples, repeats_itself
from data.injections import TWINS_NAME, twins_fault
from data.language import detect_language
from data.manifest import MANIFEST_NAME, Manifest, load_manifest, load_terms, make_manifest, split_paths
from data.rules import load_rules, rule_faults
from data.tombstones import load_tombstones
from triage.dataset import SPLITS, Example, PlacedExample, read_examples
from triage.redact import find_personal_data, redact_summary
from triage.taxonomy import Taxonomy

PERSONAL_DATA = "personal_data"
"""The slice of tickets that hold invented personal data on purpose."""
FEWEST_TRAINING, MOST_TRAINING = 500, 5_000
DOUBTED_FROM = 0.95
DOUBTED_WORDS = 6


@dataclass
class CheckReport:
    """Faults and warnings, each `place: what is wrong`, and how many tickets were looked at."""

    tickets: int = 0
    digest: str = ""
    faults: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def check_dataset(folder: Path, taxonomy: Taxonomy) -> CheckReport:
    """Look at every ticket of a dataset.

    Raises:
        DatasetError: there is no dataset, or its rules, sources or tombstones cannot be read.
    """
    paths = split_paths(folder)
    placed, faults = read_examples(paths, taxonomy)
    report = CheckReport(tickets=len(placed), faults=faults)
    if fault := _taxonomy_fault(folder, taxonomy):
        report.faults.insert(0, fault)
        return report
    _check_tickets(folder, placed, taxonomy, report)
    _check_groups(placed, report)
    _check_duplicates(placed, report)
    _check_manifest(folder, [each.example for each in placed], taxonomy, report)
    test = [each.example for each in placed if each.example.split == "test"]
    if fault := twins_fault(folder, test, taxonomy):
        report.faults.append(f"{folder / TWINS_NAME}:1: {fault}")
    _warn(placed, report)
    return report


def _taxonomy_fault(folder: Path, taxonomy: Taxonomy) -> str:
    """Whether the dataset is labelled in another taxonomy, which makes every other fault a consequence."""
    manifest = load_manifest(folder)
    if manifest is None or manifest.taxonomy_digest == taxonomy.digest:
        return ""
    digests = f"labelled in the taxonomy {manifest.taxonomy_digest[:12]}, and this one is {taxonomy.digest[:12]}"
    return f"{folder / MANIFEST_NAME}:1: {digests}; name the right one with --taxonomy"


def _check_tickets(folder: Path, placed: list[PlacedExample], taxonomy: Taxonomy, report: CheckReport) -> None:
    rules, tombstones, terms = load_rules(folder, taxonomy), load_tombstones(folder), load_terms(folder)
    for each in placed:
        example = each.example
        faults = list(rule_faults(example.labels, rules))
        if example.split != each.path.stem:
            faults.append(f"split {example.split!r} in the file of {each.path.stem}")
        if example.id in tombstones:
            faults.append(f"the id {example.id!r} has a tombstone; `triage data build` takes the ticket out")
        if example.provenance not in terms:
            faults.append(f"no licence and consent is known for the provenance {example.provenance!r}; write them into sources.toml")
        if not (example.message.strip() or (example.subject or "").strip()):
            faults.append("message and subject are empty")
        if repeats_itself(example.message):
            faults.append("the message repeats itself")
        if redact_summary(example.labels.summary) != example.labels.summary:
            faults.append("labels.summary holds personal data or a long number")
        if PERSONAL_DATA not in example.slices and (kinds := _personal_data(example)):
            faults.append(f"holds {', '.join(kinds)}; import it again with redaction, or tag it {PERSONAL_DATA} where it is invented")
        report.faults += [f"{each.place}: {fault}" for fault in faults]


def _personal_data(example: Example) -> list[str]:
    texts = [example.message, example.subject or "", *(turn.text for turn in example.thread)]
    return sorted({span.kind for text in texts for span in find_personal_data(text)})


def _check_groups(placed: list[PlacedExample], report: CheckReport) -> None:
    first: dict[str, PlacedExample] = {}
    for each in placed:
        earlier = first.setdefault(each.example.group, each)
        if earlier.example.split != each.example.split:
            report.faults.append(f"{each.place}: the group {each.example.group!r} is also in {earlier.example.split}, at {earlier.place}")


def _check_duplicates(placed: list[PlacedExample], report: CheckReport) -> None:
    for pair in find_near_examples([each.example for each in placed]):
        first, second = placed[pair.first], placed[pair.second]
        if are_look_alikes(first.example, second.example):
            continue
        same = "the same message as" if pair.similarity == 1 else f"nearly the same message (Jaccard {pair.similarity:.2f}) as"
        across = f", in {first.example.split}" if first.example.split != second.example.split else ""
        labels = "" if first.example.labels == second.example.labels else ", with other labels"
        report.faults.append(f"{second.place}: {same} {first.place}{across}{labels}")


def _check_manifest(folder: Path, examples: list[Example], taxonomy: Taxonomy, report: CheckReport) -> None:
    place = f"{folder / MANIFEST_NAME}:1"
    manifest = load_manifest(folder)
    if manifest is None:
        report.faults.append(f"{place}: there is none; run `triage data build --out {folder}`")
        return
    report.digest = manifest.digest
    terms = load_terms(folder)
    if {example.provenance for example in examples} - set(terms):
        return
    differing = _differing(manifest, make_manifest(folder, examples, terms, taxonomy, len(load_tombstones(folder))))
    if differing:
        report.faults.append(
            f"{place}: it tells of other files ({', '.join(differing)}); run `triage data build --out {folder}`, and look at the change"
        )


def _differing(old: Manifest, new: Manifest) -> list[str]:
    left, right = old.model_dump(), new.model_dump()
    return [name for name in left if left[name] != right[name]]


def _warn(placed: list[PlacedExample], report: CheckReport) -> None:
    sizes = {split: sum(each.example.split == split for each in placed) for split in SPLITS}
    report.warnings += [f"{split} is empty; give some groups that split, or collect more" for split, size in sizes.items() if not size]
    if 0 < sizes["train"] < FEWEST_TRAINING:
        report.warnings.append(f"{sizes['train']} training tickets: collect first; under {FEWEST_TRAINING} a fine-tune is an experiment")
    if sizes["train"] > MOST_TRAINING:
        report.warnings.append(
            f"{sizes['train']} training tickets: train first; what is learnt beyond {MOST_TRAINING} comes from better ones, not more"
        )
    for each in placed:
        language, probability = detect_language(each.example.message)
        if language != each.example.language and probability >= DOUBTED_FROM and len(each.example.message.split()) >= DOUBTED_WORDS:
            report.warnings.append(f"{each.place}: tagged {each.example.language}, reads like {language} ({probability:.2f})")
