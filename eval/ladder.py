"""The ladder: every row that ran on one split side by side, and how far releases are from the best baseline of each metric.

`ladder.json` holds it for a program, `ladder.md` for a reader. The opponent in a metric is the row with the highest value of it among
those that are no release of ours. It was picked on the same messages, so its value of that metric is a little too high, and what
beats it beats a number that is a little too high. Baselines are not compared with each other: their intervals stand in the table.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from eval.columns import load_row, row_name
from eval.comparison import Comparison, adjust, compare, render_comparisons
from eval.estimates import Estimate, Number, Strict, show
from eval.intervals import RESAMPLES
from eval.metrics import HandoverCosts
from eval.outside import OUTSIDE_NAME, OUTSIDE_PREFIX, OutsideScore, load_outside
from eval.predictions import Predictions
from eval.rungs import BASE, CLASSICAL, LARGER, RELEASED
from eval.scorecard import Scorecard, load_costs, write_scorecard
from eval.scoring import score_predictions
from eval.twins import score_twins
from triage.dataset import Example
from triage.errors import DatasetError
from triage.paths import file_digest, write_bytes_atomically
from triage.run import RECORD_NAME
from triage.taxonomy import LABEL_FIELDS, Taxonomy

LADDER_NAME, TABLE_NAME, ABSENT_NAME = "ladder.json", "ladder.md", "absent.json"
ORDER = (*CLASSICAL, *BASE, *LARGER, *RELEASED)
COMPARED = ("release", "candidate")
"""The rows that are compared with baselines; free decoding of a release only shows what constraints are for."""
METRICS = ("category_macro_f1", *(f"{field}_accuracy" for field in LABEL_FIELDS), "exact_match")
HEADS = ("category macro-F1", "category", "urgency", "needs_human", "next_action", "all four")


class LadderRow(Strict):
    """One row. `scores` has the headline's names and is None where too many messages failed."""

    row: str
    run: str
    """Digest of `run.json`."""
    n: int
    failed: int
    unread: int
    scores: dict[str, Estimate] | None
    category_brier: Number | None
    latency_p50_ms: Number
    latency_p95_ms: Number
    cost_per_1000: Number | None


class Ladder(Strict):
    """The file. `comparisons` are of `COMPARED` against each metric's best baseline; Holm's p-values hold for all of them together."""

    format: int = 1
    split: str
    dataset: str
    taxonomy: str
    n: int
    groups: int
    estimators: list[str]
    rows: list[LadderRow]
    absent: dict[str, str]
    """Rows that could not be run, and why."""
    outside: dict[str, OutsideScore]
    outside_left_out: dict[str, str]
    """Folders whose outside score is of another taxonomy or run, and why it is not shown."""
    best_baselines: dict[str, str]
    """By metric, the row that is no release of ours and has the highest value; empty without any."""
    comparisons: list[Comparison]


def write_ladder(
    folder: Path, examples: Sequence[Example], taxonomy: Taxonomy, *, dataset: str, twins: Path | None = None, resamples: int = RESAMPLES
) -> Path:
    """Score every finished row folder in `folder`, each into its own `scorecard.json`, and write the ladder beside them.

    `dataset` is the digest of the examples' file; `twins` is the file of their injection twins, for the rows that answered them.
    Returns the path of `ladder.md`; `ladder.json` lies beside it.

    Raises:
        DatasetError: no row is finished, two have one name, or as `eval.columns.load_row` for the first row that is at fault.
    """
    folders = [path.parent for path in sorted(folder.glob(f"*/{RECORD_NAME}")) if not path.parent.name.startswith(OUTSIDE_PREFIX)]
    if not folders:
        raise DatasetError(f"no finished row in {folder}", "run `triage baseline`")
    loaded: dict[str, Predictions] = {}
    for each in folders:
        predictions = load_row(each, examples, taxonomy, dataset=dataset)
        if (name := row_name(predictions)) in loaded:
            raise DatasetError(f"{loaded[name].folder} and {each} are both the row {name}", "move one of them elsewhere")
        loaded[name] = predictions
    names = sorted(loaded, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))
    cards = {name: _score(loaded[name], examples, taxonomy, twins, resamples) for name in names}
    for name, card in cards.items():
        write_scorecard(loaded[name].folder, card)
    best = _best_baselines(cards)
    against = []
    for name in COMPARED:
        if name in cards and cards[name].headline:
            for other in dict.fromkeys(best.values()):
                metrics = [metric for metric in best if best[metric] == other]
                against.append(compare(loaded[name], loaded[other], examples, taxonomy, metrics=metrics, resamples=resamples))
    outside, left_out = _load_outside(folder, taxonomy)
    ladder = Ladder(
        split=examples[0].split,
        dataset=dataset,
        taxonomy=taxonomy.digest,
        n=len(examples),
        groups=len({example.group for example in examples}),
        estimators=sorted({score.estimator for card in cards.values() for score in (card.headline or {}).values()}),
        rows=[_to_row(card) for card in cards.values()],
        absent=_load_absent(folder / ABSENT_NAME),
        outside=outside,
        outside_left_out=left_out,
        best_baselines=best,
        comparisons=adjust(against),
    )
    write_bytes_atomically(folder / LADDER_NAME, (ladder.model_dump_json(indent=2) + "\n").encode())
    path = folder / TABLE_NAME
    write_bytes_atomically(path, ("\n".join(render_ladder(ladder)) + "\n").encode())
    return path


def _score(predictions: Predictions, examples: Sequence[Example], taxonomy: Taxonomy, twins: Path | None, resamples: int) -> Scorecard:
    """The scorecard of a row, with the hand-over costs that its last one was given."""
    costs = load_costs(predictions.folder, file_digest(predictions.folder / RECORD_NAME)) or HandoverCosts()
    moved = score_twins(predictions, examples, taxonomy, twins, resamples=resamples) if twins else None
    return score_predictions(predictions, examples, taxonomy, costs=costs, resamples=resamples, twins=moved)


def _best_baselines(cards: Mapping[str, Scorecard]) -> dict[str, str]:
    """By metric, the highest of the rows that are no release of ours and complete; of equals the first."""
    headlines = {name: card.headline for name, card in cards.items() if card.headline and name not in RELEASED}
    return {metric: max(headlines, key=lambda name: headlines[name][metric].estimate) for metric in METRICS} if headlines else {}


def _load_outside(folder: Path, taxonomy: Taxonomy) -> tuple[dict[str, OutsideScore], dict[str, str]]:
    """The outside scores that are of this taxonomy and of the run beside them, and why others are not shown, by folder."""
    found: dict[str, OutsideScore] = {}
    left_out: dict[str, str] = {}
    for path in sorted(folder.glob(f"{OUTSIDE_PREFIX}*/{OUTSIDE_NAME}")):
        name, record = path.parent.name, path.parent / RECORD_NAME
        try:
            score = load_outside(path)
        except DatasetError as error:
            left_out[name] = str(error)
            continue
        if score.taxonomy != taxonomy.digest:
            left_out[name] = f"its taxonomy is {score.taxonomy[:12]}, not {taxonomy.digest[:12]}"
        elif not record.is_file() or score.run != file_digest(record):
            left_out[name] = f"it is the score of another run ({score.run[:12]}) than the one beside it"
        else:
            found[name] = score
    return found, left_out


def _to_row(card: Scorecard) -> LadderRow:
    return LadderRow(
        row=card.row,
        run=card.run,
        n=card.n,
        failed=card.failed,
        unread=card.unread,
        scores=card.headline,
        category_brier=card.calibration["category"].brier if "category" in card.calibration else None,
        latency_p50_ms=card.speed.latency_p50_ms,
        latency_p95_ms=card.speed.latency_p95_ms,
        cost_per_1000=card.speed.cost_per_1000,
    )


def _load_absent(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_bytes())
        return {str(name): str(reason) for name, reason in found.items()}
    except (ValueError, AttributeError):
        raise DatasetError(f"{path} is not an object of row and reason", "delete it and run `triage baseline` again") from None


def render_ladder(ladder: Ladder) -> Iterator[str]:
    """The lines of `ladder.md`."""
    yield f"# The ladder on {ladder.split}"
    yield f"{ladder.n} messages of {ladder.groups} authors, dataset {ladder.dataset[:12]}, taxonomy {ladder.taxonomy[:12]}. After policy; in brackets"
    yield "95 % intervals. Brier: of the category's confidence. Cost: of 1,000 messages, in the currency of the prices."
    yield f"Intervals: {'; '.join(ladder.estimators) or 'none'}."
    yield ""
    yield f"| row | {' | '.join(HEADS)} | missed hand-overs | Brier | p50 / p95 ms | cost | unread | failed |"
    yield "|" + "---|" * (len(HEADS) + 7)
    for row in ladder.rows:
        scores = [show(row.scores.get(metric)) for metric in (*METRICS, "missed_handovers")] if row.scores else ["incomplete"] * (len(HEADS) + 1)
        numbers = ["–" if value is None else f"{value:.3f}" for value in (row.category_brier, row.cost_per_1000)]
        latency = f"{row.latency_p50_ms:.1f} / {row.latency_p95_ms:.1f}"
        yield f"| {row.row} | {' | '.join(scores)} | {numbers[0]} | {latency} | {numbers[1]} | {row.unread} | {row.failed} |"
    for name, reason in ladder.absent.items():
        yield f"| {name} | absent: {' '.join(reason.split()).replace('|', '/')} |" + " |" * (len(HEADS) + 5)
    if ladder.comparisons:
        yield ""
        yield "## Releases against the best baseline of each metric"
        yield "The opponent in a metric is the row with the highest value of it among those that are no release of ours. It was picked on these"
        yield "same messages: its value of that metric is a little too high, and what beats it beats a number that is a little too high."
        yield from render_comparisons(ladder.comparisons)
    if ladder.outside:
        yield ""
        yield "## Outside: messages of strangers, category alone"
        yield "Agreement with a map from another set's intents, not truth (data/outside/README.md)."
        yield ""
        yield "| row | set | release | messages | share right | mean recall over categories | unread | failed |"
        yield "|---|---|---|---|---|---|---|---|"
        for name, score in ladder.outside.items():
            numbers = [str(score.n), show(score.accuracy), show(score.mean_recall), str(score.unread), str(score.failed)]
            yield f"| {name} | {score.source} | {score.release} | {' | '.join(numbers)} |"
    if ladder.outside_left_out:
        yield ""
        yield "Outside scores that are not shown; `triage outside` makes them again:"
        for name, reason in ladder.outside_left_out.items():
            yield f"- {name}: {' '.join(reason.split())}"
