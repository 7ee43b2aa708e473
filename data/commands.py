"""Import labelled messages, build, check and describe the dataset."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from data.mapping import Mapping
    from triage.taxonomy import Taxonomy

EXIT_FAULT = 3
FolderArgument = Annotated[Path, typer.Argument(help="The folder of the tickets.")]
OutFolder = Annotated[Path, typer.Option("--out", help="The folder of the dataset.")]
TaxonomyOption = Annotated[Path | None, typer.Option(help="A taxonomy file of your own; the default one otherwise.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
TICKETS = Path("data/tickets")

app = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True, help=__doc__)


@app.command("import")
def import_(
    source: Annotated[Path, typer.Argument(help="A file of messages: JSON Lines, JSON or CSV.")],
    out: Annotated[Path, typer.Option(help="Where the candidates go, one JSON object a line.")],
    mapping: Annotated[Path | None, typer.Option(help="Which column is what: a TOML file such as data/outside/banking77.toml.")] = None,
    form: Annotated[
        str | None, typer.Option("--format", help="jsonl, chat, csv, label_studio, zendesk, zammad or feedback; told by the mapping otherwise.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Without a mapping: the source's name, which begins every id.")] = None,
    licence: Annotated[str | None, typer.Option(help="Without a mapping: the licence of the messages.")] = None,
    consent: Annotated[str | None, typer.Option(help="Without a mapping: the lawful basis on which they may be used, in words.")] = None,
    taxonomy: TaxonomyOption = None,
    allow_rejected: Annotated[bool, typer.Option("--allow-rejected", help="Leave with 0 although rows were rejected or columns not found.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Bring a file of messages into the project's form, redacted; run it again to go on where it stopped."""
    from data.importer import run_import
    from triage.taxonomy import load_taxonomy

    loaded = load_taxonomy(taxonomy)
    report = run_import(source, out, _choose_mapping(mapping, form, name, licence, consent, loaded), loaded)
    counts = report.counts
    if as_json:
        typer.echo(report.report.read_text(encoding="utf-8").strip())
    else:
        note = "had been imported before" if report.is_old else "imported"
        typer.echo(
            f"{report.out}: {counts.written} of {counts.rows} rows {note}, {counts.skipped.total()} left out on purpose, {counts.repeated} repeated"
        )
        typer.echo("redacted: " + (", ".join(f"{count} {kind}" for kind, count in sorted(counts.redacted.items()) if count) or "nothing"))
        for what, homeless in (("column", counts.homeless_columns), ("value", counts.homeless_values)):
            typer.echo("".join(f"no home for the {what} {key} ({count} rows)\n" for key, count in homeless.most_common(10)), nl=False)
        for column in counts.missing_columns:
            typer.echo(f"no row had the mapping's column {column}")
        typer.echo(f"{report.report}: the whole report")
        if counts.rejected:
            typer.echo(f"{report.rejected}: {counts.rejected} rows rejected, each with its place and reason")
    if (counts.rejected or counts.missing_columns) and not allow_rejected:
        raise typer.Exit(EXIT_FAULT)


@app.command()
def build(
    out: OutFolder,
    inboxes: Annotated[list[Path] | None, typer.Argument(help="Files of candidates from `triage data import`; none rebuilds what is there.")] = None,
    taxonomy: TaxonomyOption = None,
    relabel: Annotated[bool, typer.Option("--relabel", help="Let a candidate whose id is there replace that ticket's labels.")] = False,
    allow_rejected: Annotated[bool, typer.Option("--allow-rejected", help="Leave with 0 although candidates were rejected.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Take candidates into the dataset: deduplicated, split by group, with a manifest. An id never changes its split."""
    from data.build import build_dataset
    from triage.taxonomy import load_taxonomy

    report = build_dataset(inboxes or [], out, load_taxonomy(taxonomy), relabel=relabel)
    sizes = {name.removesuffix(".jsonl"): part.tickets for name, part in report.manifest.files.items()}
    if as_json:
        typer.echo(
            json.dumps(
                {"out": str(out), "digest": report.manifest.digest, "tickets": sizes, "added": report.added, "relabelled": report.relabelled}
                | {"unchanged": report.unchanged, "removed": dict(report.removed), "rejected": report.rejected, "rejected_path": report.rejected_path}
            )
        )
    else:
        named = ", ".join(f"{split} {size}" for split, size in sizes.items())
        typer.echo(f"{out}: {sum(sizes.values())} tickets ({named}), digest {report.manifest.digest[:12]}")
        gone = ", ".join(f"{count} removed ({reason})" for reason, count in report.removed.items() if count)
        typer.echo(f"{report.added} added, {report.relabelled} relabelled, {report.unchanged} were there already{', ' + gone if gone else ''}")
        if report.rejected:
            typer.echo(f"{report.rejected_path}: {report.rejected} did not get in, each with its place and reason")
    if report.rejected and not allow_rejected:
        raise typer.Exit(EXIT_FAULT)


@app.command()
def check(
    folder: FolderArgument = TICKETS,
    taxonomy: TaxonomyOption = None,
    suspicious: Annotated[bool, typer.Option("--suspicious", help="Also list labels that a cross-validated model does not bear out.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Look for everything that can be wrong with a dataset, and name file and line."""
    from dataclasses import asdict

    from data.check import check_dataset
    from triage.taxonomy import load_taxonomy

    loaded = load_taxonomy(taxonomy)
    report = check_dataset(folder, loaded)
    suspects = []
    if suspicious:
        from data.manifest import split_paths
        from data.suspects import find_suspects
        from triage.dataset import read_examples

        typer.echo("cross-validating; some minutes for thousands of tickets", err=True)
        suspects = find_suspects(read_examples(split_paths(folder), loaded)[0])
    if as_json:
        typer.echo(json.dumps({**asdict(report), "suspects": [asdict(suspect) for suspect in suspects]}, ensure_ascii=False))
    else:
        for suspect in suspects:
            likelier = f"{suspect.likelier} would be {suspect.likelier_probability:.0%}"
            typer.echo(f"suspicious {suspect.place}: {suspect.field} {suspect.label} ({suspect.probability:.0%}), {likelier}")
        for warning in report.warnings:
            typer.echo(f"warning {warning}")
        for fault in report.faults:
            typer.echo(f"fault {fault}")
        typer.echo(f"{folder}: {report.tickets} tickets, {len(report.faults)} faults, {len(report.warnings)} warnings")
    if report.faults:
        raise typer.Exit(EXIT_FAULT)


@app.command()
def stats(
    folder: FolderArgument = TICKETS,
    out: Annotated[Path | None, typer.Option(help="Write one self-contained HTML page here.")] = None,
    taxonomy: TaxonomyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Describe a dataset in numbers, and on a page with plots."""
    from data.manifest import split_paths
    from data.stats import describe_dataset
    from triage.dataset import load_examples
    from triage.taxonomy import load_taxonomy

    loaded = load_taxonomy(taxonomy)
    described = describe_dataset(load_examples(split_paths(folder), loaded))
    if out:
        from data.stats_page import render_page
        from triage.paths import write_bytes_atomically

        write_bytes_atomically(out, render_page(described, loaded, str(folder)).encode())
    if as_json:
        typer.echo(json.dumps(described, ensure_ascii=False))
        return
    for split, part in described["splits"].items():
        words = part["words"]
        typer.echo(
            f"{split:12s} {part['tickets']:6d} tickets of {part['groups']} groups" + (f", {words['min']} to {words['max']} words" if words else "")
        )
    repetition, near = described["repetition"], described["near_duplicates"]
    typer.echo(f"runs of five words in more than 5 tickets: {repetition['share_in_more_than_5_tickets']:.2%}")
    typer.echo(f"commonest opening: {repetition['commonest_opening']!r}, {repetition['commonest_opening_share']:.2%} of the tickets")
    pairs = f"{near['across_splits']} across splits, {near['within_a_split']} look-alikes within one"
    typer.echo(f"near-duplicates (Jaccard {near['threshold']} or more): {pairs}")
    if out:
        typer.echo(f"{out}: the page")


@app.command()
def diff(
    old: Annotated[Path, typer.Argument(help="The folder of the older dataset.")],
    new: Annotated[Path, typer.Argument(help="The folder of the newer one.")],
    taxonomy: TaxonomyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what changed between two datasets, ticket by ticket."""
    from data.diff import compare_datasets
    from triage.taxonomy import load_taxonomy

    changes = compare_datasets(old, new, load_taxonomy(taxonomy)).as_dict()
    if as_json:
        typer.echo(json.dumps(changes, ensure_ascii=False))
        return
    for kind, entries in changes.items():
        typer.echo(f"{kind}: {len(entries)}")
        typer.echo("".join(f"  {entry}\n" for entry in entries), nl=False)


@app.command()
def forget(
    identifiers: Annotated[list[str], typer.Argument(help="Ids of tickets that are never to come back.")],
    out: OutFolder,
    reason: Annotated[str, typer.Option(help="Why, in words that name nobody.")] = "asked to be deleted",
    taxonomy: TaxonomyOption = None,
) -> None:
    """Delete tickets for good: a tombstone each, which every later build honours, and a build."""
    from data.build import forget_tickets
    from triage.taxonomy import load_taxonomy

    absent, report = forget_tickets(identifiers, out, load_taxonomy(taxonomy), reason)
    others = sum(report.removed.values()) - report.removed["tombstone"]
    note = f", and {others} that nearly repeat another ({report.rejected_path})" if others else ""
    typer.echo(f"{out}: {report.removed['tombstone']} tickets removed{note}")
    typer.echo("files they were imported from, and older copies of the dataset, still hold their text")
    if absent:
        typer.echo(f"not in the dataset, and kept out of it from now on: {', '.join(absent)}", err=True)
        raise typer.Exit(EXIT_FAULT)


def _choose_mapping(path: Path | None, form: str | None, name: str | None, licence: str | None, consent: str | None, taxonomy: Taxonomy) -> Mapping:
    from data.mapping import FORMATS, Mapping, Source, load_mapping
    from triage.errors import DatasetError

    if form is not None and form not in FORMATS:
        raise typer.BadParameter(f"{form!r} is not one of {', '.join(FORMATS)}", param_hint="--format")
    if path is not None:
        if name or licence or consent:
            raise typer.BadParameter("name, licence and consent stand in the mapping", param_hint="--mapping")
        mapping = load_mapping(path, taxonomy)
    elif name and licence and consent:
        from pydantic import ValidationError

        try:
            mapping = Mapping(source=Source(name=name, licence=licence, consent=consent))
        except ValidationError as error:
            raise DatasetError(
                f"the source cannot be called {name[:60]!r}: {error.errors()[0]['msg']}", "letters, digits, _ . and -, at most 40"
            ) from None
    else:
        raise typer.BadParameter("name a mapping, or give all of --name, --licence and --consent", param_hint="--mapping")
    return mapping if form is None else mapping.model_copy(update={"format": form})
