"""The command score: a finished run's scorecard, and how far it is from other runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eval.reads import LEDGER_PATH, note_read

if TYPE_CHECKING:
    from eval.estimates import Estimate
    from eval.scorecard import Scorecard

EXIT_FAULT = 3
COMPARISON_NAME = "comparison.json"


def score(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run, with predictions.jsonl and run.json.", show_default=False)],
    data: Annotated[Path, typer.Option(help="The folder of the tickets.")] = Path("data/tickets"),
    against: Annotated[list[Path] | None, typer.Option(help="Another run on the same split to compare with; may be given several times.")] = None,
    taxonomy: Annotated[Path | None, typer.Option(help="A taxonomy file of your own; the default one otherwise.")] = None,
    missed_cost: Annotated[float, typer.Option(min=0, help="What a customer left alone with a machine costs.")] = 5.0,
    needless_cost: Annotated[float, typer.Option(min=0, help="What a needless hand-over costs.")] = 1.0,
    judge_page: Annotated[Path | None, typer.Option(help="Write a page here on which a person judges summaries.")] = None,
    judge_count: Annotated[int, typer.Option(min=1, help="How many summaries that page has.")] = 30,
    purpose: Annotated[str, typer.Option(help="Why the test split is looked at; it is noted in the ledger.")] = "",
    ledger: Annotated[Path, typer.Option(help="The ledger of looks at the test split.", show_default="eval/TEST_READS.md")] = LEDGER_PATH,
    as_json: Annotated[bool, typer.Option("--json", help="Print scorecard and comparisons as one JSON object.")] = False,
) -> None:
    """Score a finished run, with intervals, and compare it with others."""
    import json

    from eval.columns import load_row
    from eval.comparison import adjust, compare, render_comparisons
    from eval.metrics import HandoverCosts
    from eval.scorecard import write_scorecard
    from eval.scoring import check_complete, score_predictions
    from eval.twins import TWINS_NAME, score_twins
    from triage.dataset import SPLITS, load_examples
    from triage.errors import DatasetError
    from triage.paths import file_digest, write_bytes_atomically, write_json_atomically
    from triage.run import read_run_record
    from triage.taxonomy import load_taxonomy

    loaded = load_taxonomy(taxonomy)
    split = str(read_run_record(run).config.get("split"))
    path = data / f"{split}.jsonl"
    if split not in SPLITS or not path.is_file():
        raise DatasetError(
            f"{run} is a run on {split!r}, and {data} has no such split", "name the tickets with --data; `triage outside` scores others"
        )
    digest = file_digest(path)
    others = against or []
    named = " ".join(["triage score", str(run), *(f"--against {other}" for other in others)])
    note_read(split=split, purpose=purpose, command=named, dataset=digest, ledger=ledger)
    examples = load_examples([path], loaded)
    predictions = load_row(run, examples, loaded, dataset=digest)
    card = score_predictions(
        predictions,
        examples,
        loaded,
        costs=HandoverCosts(missed_cost, needless_cost),
        twins=score_twins(predictions, examples, loaded, data / TWINS_NAME),
    )
    written = [write_scorecard(run, card)]
    rivals = [load_row(other, examples, loaded, dataset=digest) for other in others]
    for each in [predictions, *rivals] if rivals else []:
        check_complete(each)
    comparisons = adjust([compare(predictions, rival, examples, loaded) for rival in rivals])
    if comparisons:
        written.append(run / COMPARISON_NAME)
        write_json_atomically(written[-1], [comparison.model_dump() for comparison in comparisons])
    if judge_page:
        from eval.reading_page import render_reading_page

        write_bytes_atomically(judge_page, render_reading_page(predictions, examples, count=judge_count).encode())
        written.append(judge_page)
    if as_json:
        typer.echo(json.dumps({"scorecard": card.model_dump(), "comparisons": [comparison.model_dump() for comparison in comparisons]}))
    else:
        for line in [*render_card(card), *(render_comparisons(comparisons) if comparisons else ())]:
            typer.echo(line)
        for place in written:
            typer.echo(f"{place}: written")
    if card.incomplete:
        typer.echo(f"incomplete: {card.failed} of {card.n} messages got no answer; predict again, then score", err=True)
        raise typer.Exit(EXIT_FAULT)


def render_card(card: Scorecard) -> Iterator[str]:
    """A scorecard for people, without the labels' own numbers, which are in the file."""
    from eval.estimates import show

    counts = f"{card.triaged} triaged, {card.unread} unread, {card.failed} failed"
    yield f"{card.row} on {card.split}: {card.n} messages of {card.groups} authors, {counts}"
    if card.incomplete:
        yield "incomplete: too many messages got no answer, so there is no headline"
        return
    rows: list[tuple[str, Estimate | None, Estimate | None]] = []
    for field in card.after.fields:
        rows.append((f"{field} accuracy", card.before.fields[field].accuracy, card.after.fields[field].accuracy))
        rows.append((f"{field} macro-F1", card.before.fields[field].macro_f1, card.after.fields[field].macro_f1))
    rows.append(("all four labels", card.before.exact_match, card.after.exact_match))
    rows.append(("missed hand-overs", card.before.handover.missed, card.after.handover.missed))
    rows.append(("needless hand-overs", card.before.handover.needless, card.after.handover.needless))
    yield f"{'':22s} {'before policy':24s} after policy"
    yield from (f"{name:22s} {show(before):24s} {show(after)}" for name, before, after in rows)
    yield f"intervals: {card.after.exact_match.estimator}"
    handover, urgency = card.after.handover, card.after.fields["urgency"]
    weights = f"missed {handover.cost_of_missed:g}, needless {handover.cost_of_needless:g}"
    yield f"cost of hand-over errors a ticket: {handover.cost_a_ticket:.3f} ({weights})"
    if urgency.kappa is not None and urgency.off_by_two is not None:
        yield f"urgency: quadratic kappa {urgency.kappa:.3f}, two or more steps off {urgency.off_by_two:.1%}"
    if card.validity:
        yield f"as written: valid JSON {show(card.validity.valid_json)}, valid ticket {show(card.validity.valid_ticket)}"
    if summary := card.summary:
        yield f"summary: contract kept {show(summary.within_contract)}; hints from {summary.word_rows} English messages:"
        if summary.word_rows:
            likeness = "–" if summary.rouge_l is None else f"{summary.rouge_l:.3f}"
            yield f"  any word the message lacks {show(summary.with_made_up)}, 8 words copied {show(summary.with_copied_run)}, ROUGE-L {likeness}"
    for field, each in card.calibration.items():
        expected = f"ECE {each.ece:.3f} (perfect: {each.ece_if_perfect:.3f}, up to {each.ece_if_perfect_95:.3f})"
        risk = f"answers {each.coverage_at_5_percent_risk:.0%} at 5 % risk, AURC {each.aurc:.3f}"
        yield f"confidence of {field}: Brier {each.brier:.3f}, {expected}, {risk}"
    for name, part in card.slices.items():
        mark = "  <- worst" if name == card.worst_slice else ""
        sizes = f"{part.n} of {part.groups} authors"
        yield f"{name:38s} {sizes:18s} category {show(part.category_accuracy):22s} all four {show(part.exact_match)}{mark}"
    if twins := card.twins:
        for name, side in (("before", twins.before), ("after", twins.after)):
            hits = f"of {side.to_target.n} that name another label {show(side.to_target)} moved to it" if side.to_target else "none names another"
            yield f"injection twins, {name} policy: of {side.changed.n} any label changed {show(side.changed)}; {hits}"
    speed = card.speed
    yield f"latency ms: p50 {speed.latency_p50_ms:.1f}, p95 {speed.latency_p95_ms:.1f}, p99 {speed.latency_p99_ms:.1f}"
    cost = "no price" if speed.cost_per_1000 is None else f"{speed.cost_per_1000:.4f} a 1,000 tickets"
    memory = "unknown" if speed.peak_rss_mib is None else f"{speed.peak_rss_mib:.0f} MiB"
    yield f"tokens: {speed.prompt_tokens_mean:.0f} in, {speed.output_tokens_mean:.0f} out; cost: {cost}; memory: {memory}"
