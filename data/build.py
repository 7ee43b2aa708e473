"""Candidates and the tickets that are there -> the dataset: deduplicated, split by group, in one canonical form.

A ticket that is there keeps its split for ever. Tombstones are honoured first. Of two near-duplicates the one whose split
comes first in `KEEPING_ORDER` stays, so nothing near a test ticket is trained on; in one split the older one stays. Near-duplicates
in one split that differ in their labels stay both where both are tagged `look_alike_pair`: such pairs are written on purpose.

Every ticket that does not get in is reported with its place and reason. Building twice gives the same bytes.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from data.candidate import Candidate
from data.duplicates import find_near_examples, repeats_itself
from data.injections import TWINS_NAME, write_twins
from data.manifest import MANIFEST_NAME, Manifest, Terms, load_manifest, load_terms, make_manifest, split_path, split_paths, write_manifest
from data.rules import Rule, load_rules, rule_faults
from data.split import assign_split
from data.tombstones import add_tombstones, load_tombstones
from triage.dataset import SPLITS, Example, Split, list_faults, read_examples, read_records, render_example
from triage.errors import DatasetError
from triage.paths import write_bytes_atomically
from triage.taxonomy import Taxonomy

KEEPING_ORDER: tuple[Split, ...] = ("test", "calibration", "dev", "train")
LOOK_ALIKE = "look_alike_pair"
WRITTEN = (*(f"{split}.jsonl" for split in SPLITS), TWINS_NAME, MANIFEST_NAME)
"""What a build writes into the folder."""


@dataclass
class BuildReport:
    """What a build did."""

    manifest: Manifest
    added: int = 0
    relabelled: int = 0
    unchanged: int = 0
    """Candidates that were in the dataset already."""
    removed: Counter[str] = field(default_factory=Counter)
    """Tickets that were in the dataset and no longer are, by reason."""
    rejected: int = 0
    rejected_path: str = ""


@dataclass(slots=True)
class _Entry:
    example: Example
    place: str
    is_new: bool
    order: int
    """Its rank by age: tickets of the dataset come before candidates, candidates in their order."""


@dataclass
class _Rejected:
    """What did not get in: one line of JSON each."""

    lines: list[str] = field(default_factory=list)

    def add(self, place: str, identifier: str | None, reason: str) -> None:
        file, _, line = place.rpartition(":")
        self.lines.append(json.dumps({"file": file, "line": int(line), "id": identifier, "reason": reason}, ensure_ascii=False))


def build_dataset(inboxes: Sequence[Path], out: Path, taxonomy: Taxonomy, *, relabel: bool = False) -> BuildReport:
    """Take the candidates of `inboxes` into the dataset in `out`, which is made where there is none.

    `relabel` lets a candidate whose id is in the dataset replace that ticket's labels; otherwise other labels are a fault.

    Raises:
        DatasetError: a file cannot be read, the dataset itself has faults, it is of another taxonomy, nothing is left, or
            another build is at it. The dataset is as it was then.
    """
    _check_taxonomy(out, taxonomy)
    is_new = not out.exists()
    out.mkdir(parents=True, exist_ok=True)
    try:
        with _locked(out):
            return _build(inboxes, out, taxonomy, relabel=relabel)
    except BaseException:
        if is_new and not any(out.iterdir()):
            out.rmdir()
        raise


def forget_tickets(identifiers: Sequence[str], out: Path, taxonomy: Taxonomy, reason: str) -> tuple[list[str], BuildReport]:
    """Write a tombstone for each id and take the tickets out; the dataset may become empty. Returns the ids that were not in it.

    A tombstone is written for those too, so that a later import does not bring them in.

    Raises:
        DatasetError: there is no dataset in `out`, it is of another taxonomy, an id is none, or another build is at it.
    """
    paths = split_paths(out)
    _check_taxonomy(out, taxonomy)
    with _locked(out):
        present = {each.example.id for each in read_examples(paths, taxonomy)[0]}
        add_tombstones(out, identifiers, reason)
        report = _build([], out, taxonomy, may_be_empty=True)
    return [identifier for identifier in dict.fromkeys(identifiers) if identifier not in present], report


def _build(inboxes: Sequence[Path], out: Path, taxonomy: Taxonomy, *, relabel: bool = False, may_be_empty: bool = False) -> BuildReport:
    """The build itself, in a folder that is locked."""
    rules, tombstones, terms = load_rules(out, taxonomy), load_tombstones(out), load_terms(out)
    rejected, removed, counts = _Rejected(), Counter[str](), Counter[str]()
    existing = _load_existing(out, taxonomy)
    entries = {entry.example.id: entry for entry in existing if entry.example.id not in tombstones}
    removed["tombstone"] = len(existing) - len(entries)
    splits = _group_splits(entries.values())
    for place, candidate in _read_candidates(inboxes, rejected):
        fault = _candidate_fault(candidate, taxonomy, rules, tombstones, splits, terms)
        earlier = entries.get(candidate.id)
        if not fault and earlier is not None:
            outcome = _meet(earlier, candidate, relabel)
            counts[outcome] += 1
            fault = outcome if outcome not in ("unchanged", "relabelled") else ""
        elif not fault:
            split = splits.setdefault(candidate.group, candidate.split or assign_split(candidate.group))
            terms.setdefault(candidate.provenance, Terms(licence=candidate.licence, consent=candidate.consent))
            entries[candidate.id] = _Entry(candidate.as_example(split), place, True, len(entries) + len(existing))
        if fault:
            rejected.add(place, candidate.id, fault)
    kept = _without_duplicates(list(entries.values()), rejected, removed)
    if not kept and not may_be_empty:
        reasons = f"look into the reasons: {list_faults(rejected.lines)}" if rejected.lines else "name files of candidates"
        raise DatasetError(f"nothing is left for {out}: no ticket is there, and no candidate got in", reasons)
    manifest = _write(out, kept, terms, taxonomy, len(tombstones))
    rejected_path = rejected_path_of(out)
    if rejected.lines:
        write_bytes_atomically(rejected_path, "".join(line + "\n" for line in rejected.lines).encode())
    elif inboxes:
        rejected_path.unlink(missing_ok=True)
    added = sum(entry.is_new for entry in kept)
    return BuildReport(manifest, added, counts["relabelled"], counts["unchanged"], removed, len(rejected.lines), str(rejected_path))


def rejected_path_of(out: Path) -> Path:
    """Where a build lists what did not get in: beside the dataset's folder."""
    folder = out.resolve()
    return folder.with_name(f"{folder.name}.rejected.jsonl")


def _check_taxonomy(out: Path, taxonomy: Taxonomy) -> None:
    manifest = load_manifest(out)
    if manifest and manifest.taxonomy_digest != taxonomy.digest:
        raise DatasetError(
            f"the dataset in {out} is labelled in the taxonomy {manifest.taxonomy} ({manifest.taxonomy_digest[:12]}), not {taxonomy.name} "
            f"{taxonomy.version} ({taxonomy.digest[:12]})",
            "name that taxonomy with --taxonomy, or another folder with --out",
        )


def _load_existing(out: Path, taxonomy: Taxonomy) -> list[_Entry]:
    placed, faults = read_examples([path for split in SPLITS if (path := split_path(out, split)).exists()], taxonomy)
    faults += [f"{each.place}: split {each.example.split!r} in {each.path.name}" for each in placed if each.example.split != each.path.stem]
    if faults:
        raise DatasetError(f"{len(faults)} faults in the dataset:\n  {list_faults(faults)}", "mend these lines; nothing was written")
    return [_Entry(each.example, each.place, False, order) for order, each in enumerate(placed)]


def _group_splits(entries: Iterable[_Entry]) -> dict[str, Split]:
    """The split of each group that is in the dataset.

    Raises:
        DatasetError: a group lies in two.
    """
    splits: dict[str, Split] = {}
    faults = []
    for entry in entries:
        if splits.setdefault(entry.example.group, entry.example.split) != entry.example.split:
            faults.append(f"{entry.place}: the group {entry.example.group!r} is also in {splits[entry.example.group]}")
    if faults:
        raise DatasetError(f"{len(faults)} faults in the dataset:\n  {list_faults(faults)}", "a group lies in one split; nothing was written")
    return splits


def _read_candidates(inboxes: Sequence[Path], rejected: _Rejected) -> Iterator[tuple[str, Candidate]]:
    for path in inboxes:
        for number, candidate, wrong in read_records(path, Candidate):
            place = f"{path}:{number}"
            if candidate is None:
                rejected.add(place, None, "; ".join(wrong))
            else:
                yield place, candidate


def _candidate_fault(
    candidate: Candidate, taxonomy: Taxonomy, rules: list[Rule], tombstones: set[str], splits: dict[str, Split], terms: dict[str, Terms]
) -> str:
    """Why a candidate cannot become a ticket; empty where it can."""
    if candidate.id in tombstones:
        return "it was deleted: its id has a tombstone"
    if candidate.no_training:
        return "marked no_training"
    if missing := candidate.missing_labels():
        return f"no label for {', '.join(missing)}; label it, or map a column to it"
    if faults := candidate.label_faults(taxonomy):
        return "; ".join(faults)
    if candidate.split and splits.get(candidate.group, candidate.split) != candidate.split:
        return f"split {candidate.split}, but its group {candidate.group!r} lies in {splits[candidate.group]}"
    known = terms.get(candidate.provenance)
    if known and known != Terms(licence=candidate.licence, consent=candidate.consent):
        return f"the provenance {candidate.provenance!r} is known with another licence or consent"
    if repeats_itself(candidate.message):
        return "the message repeats itself: more than half of its words lie in repeated runs of five"
    return "; ".join(rule_faults(candidate.as_example("train").labels, rules))


def _meet(earlier: _Entry, candidate: Candidate, relabel: bool) -> str:
    """What becomes of a candidate whose id is there: `unchanged`, `relabelled`, or why it is rejected."""
    old, new = earlier.example, candidate.as_example(earlier.example.split)
    place = f"the id is also at {earlier.place}"
    if (old.message, old.subject, old.thread) != (new.message, new.subject, new.thread):
        return f"{place}, with another text"
    if old.group != new.group:
        return f"{place}, in the group {old.group!r}; a ticket that changed its author needs a dataset built anew"
    if old.labels == new.labels:
        return "unchanged"
    if not relabel:
        return f"{place}, with other labels; --relabel takes the new ones"
    earlier.example = old.model_copy(update={"labels": new.labels})
    return "relabelled"


def _without_duplicates(entries: list[_Entry], rejected: _Rejected, removed: Counter[str]) -> list[_Entry]:
    entries.sort(key=lambda entry: (KEEPING_ORDER.index(entry.example.split), entry.order))
    gone: set[int] = set()
    for pair in find_near_examples([entry.example for entry in entries]):
        if pair.first in gone or pair.second in gone:
            continue
        kept, other = entries[pair.first], entries[pair.second]
        if are_look_alikes(kept.example, other.example):
            continue
        gone.add(pair.second)
        same = "the same as" if pair.similarity == 1 else f"nearly the same (Jaccard {pair.similarity:.2f}) as"
        labels = "" if kept.example.labels == other.example.labels else ", with other labels"
        rejected.add(other.place, other.example.id, f"{same} {kept.example.id!r} in {kept.example.split}{labels}")
        if not other.is_new:
            removed["near-duplicate"] += 1
    return [entry for place, entry in enumerate(entries) if place not in gone]


def are_look_alikes(left: Example, right: Example) -> bool:
    """Nearly the same message with another label, in one split and so tagged on both sides: such a pair is meant to be there."""
    is_tagged = LOOK_ALIKE in left.slices and LOOK_ALIKE in right.slices
    return is_tagged and left.split == right.split and left.labels != right.labels and left.message != right.message


def _write(out: Path, entries: list[_Entry], terms: dict[str, Terms], taxonomy: Taxonomy, tombstones: int) -> Manifest:
    examples = sorted((entry.example for entry in entries), key=lambda example: example.id)
    if unknown := sorted({example.provenance for example in examples} - set(terms)):
        raise DatasetError(
            f"no licence and consent is known for the provenance {', '.join(map(repr, unknown))}", f"write them into {out / 'sources.toml'}"
        )
    for leftover in (path for name in WRITTEN for path in out.glob(f".{name}.*")):
        leftover.unlink()  # a killed build's half-written file holds tickets that may be deleted by now
    for split in SPLITS:
        lines = [render_example(example) for example in examples if example.split == split]
        path = split_path(out, split)
        if lines or split == "train":
            write_bytes_atomically(path, "".join(line + "\n" for line in lines).encode())
        else:
            path.unlink(missing_ok=True)
    write_twins(out, [example for example in examples if example.split == "test"], taxonomy)
    manifest = make_manifest(out, examples, terms, taxonomy, tombstones)
    write_manifest(out, manifest)
    return manifest


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep another build out of a folder while it is written.

    Raises:
        DatasetError: another build is at it.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise DatasetError(f"another build is writing {folder}", "wait for it, then build again") from None
    finally:
        os.close(handle)
