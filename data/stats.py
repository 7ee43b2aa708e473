"""What a dataset looks like in numbers: sizes, labels, slices, lengths, repetition, near-duplicates across splits. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from data.duplicates import NEAR, find_near_examples
from triage.dataset import SPLITS, Example
from triage.taxonomy import LABEL_FIELDS

_WORD = re.compile(r"\w+")
RUN_WORDS = 5
COMMON_RUN_TICKETS = 5
OPENING_WORDS = 3


def describe_dataset(examples: Sequence[Example]) -> dict[str, Any]:
    """Every figure, as JSON. Shares are in [0, 1], lengths in words separated by blanks."""
    return {
        "tickets": len(examples),
        "groups": len({example.group for example in examples}),
        "splits": {split: _describe_split([example for example in examples if example.split == split]) for split in SPLITS},
        "labels": {field: _by_split(examples, lambda example, field=field: [example.labels.label(field)]) for field in LABEL_FIELDS},  # type: ignore[misc]
        "slices": _by_split(examples, lambda example: example.slices),
        "channels": _by_split(examples, lambda example: [example.channel or "none"]),
        "languages": _by_split(examples, lambda example: [example.language]),
        "repetition": _repetition(examples),
        "near_duplicates": _near_duplicates(examples),
    }


def _describe_split(examples: Sequence[Example]) -> dict[str, Any]:
    lengths = sorted(len(example.message.split()) for example in examples)
    return {
        "tickets": len(examples),
        "groups": len({example.group for example in examples}),
        "with_thread": round(sum(bool(example.thread) for example in examples) / len(examples), 4) if examples else 0.0,
        "words": {name: lengths[min(len(lengths) - 1, int(share * len(lengths)))] for name, share in _QUANTILES.items()} if lengths else {},
    }


_QUANTILES = {"min": 0.0, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p95": 0.95, "max": 1.0}


def _by_split(examples: Sequence[Example], names: Callable[[Example], Sequence[str]]) -> dict[str, dict[str, int]]:
    """Counts by name and split, the commonest name first."""
    counts: dict[str, Counter[str]] = {}
    for example in examples:
        for name in names(example):
            counts.setdefault(name, Counter())[example.split] += 1
    order = sorted(counts, key=lambda name: (-counts[name].total(), name))
    return {name: {split: counts[name][split] for split in SPLITS} for name in order}


def _repetition(examples: Sequence[Example]) -> dict[str, Any]:
    """How much of the text recurs: the mark of tickets made from templates."""
    runs, where, openings = Counter[tuple[str, ...]](), dict[tuple[str, ...], set[str]](), Counter[tuple[str, ...]]()
    for example in examples:
        words = _WORD.findall(example.message.lower())
        for start in range(len(words) - RUN_WORDS + 1):
            run = tuple(words[start : start + RUN_WORDS])
            runs[run] += 1
            where.setdefault(run, set()).add(example.id)
        if len(words) >= OPENING_WORDS:
            openings[tuple(words[:OPENING_WORDS])] += 1
    common = sum(count for run, count in runs.items() if len(where[run]) > COMMON_RUN_TICKETS)
    opening, times = openings.most_common(1)[0] if openings else ((), 0)
    return {
        "runs_of_5_words": runs.total(),
        "share_in_more_than_5_tickets": round(common / runs.total(), 6) if runs else 0.0,
        "commonest_opening": " ".join(opening),
        "commonest_opening_share": round(times / len(examples), 6) if examples else 0.0,
    }


def _near_duplicates(examples: Sequence[Example]) -> dict[str, Any]:
    """Pairs at `NEAR` or above: across splits there must be none, within one there are look-alikes."""
    across, within = [], 0
    for pair in find_near_examples(examples):
        first, second = examples[pair.first], examples[pair.second]
        if first.split == second.split:
            within += 1
        else:
            across.append({"ids": [first.id, second.id], "similarity": round(pair.similarity, 4)})
    return {"threshold": NEAR, "across_splits": len(across), "pairs_across_splits": across[:20], "within_a_split": within}
