"""The command outside: a row's category on messages of strangers."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

EXIT_FAULT = 3


def outside(
    source: Annotated[Path, typer.Argument(help="Candidates from `triage data import … --mapping data/outside/banking77.toml`.", show_default=False)],
    row: Annotated[str, typer.Option(help="Which row of the ladder answers; none that is shown examples chosen on dev.")] = "release",
    release: Annotated[str, typer.Option(help="`embedded`, or the folder of a release bundle, for the row release.")] = "embedded",
    out: Annotated[Path | None, typer.Option(help="The run's folder; runs/baselines/outside_FILE_ROW otherwise, where the ladder looks.")] = None,
    data: Annotated[Path, typer.Option(help="The folder of the tickets that rows are trained on.")] = Path("data/tickets"),
    base: Annotated[Path, typer.Option(help="The bundle of the untuned base, for its rows.")] = Path("runs/base-release"),
    taxonomy: Annotated[Path | None, typer.Option(help="A taxonomy file of your own; the default one otherwise.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the score as JSON.")] = False,
) -> None:
    """Score the category alone on messages from outside; run it again to go on where it stopped."""
    from eval.estimates import show
    from eval.outside import OUTSIDE_NAME, OUTSIDE_PREFIX, OUTSIDE_SPLIT, load_candidates, score_outside, to_question
    from eval.predict import predict_split
    from eval.rungs import CHOOSES_K, LARGER, ROWS, RungBuilder
    from triage.paths import EMBEDDED_RELEASE_DIR, file_digest, write_bytes_atomically
    from triage.taxonomy import load_taxonomy

    possible = [name for name in ROWS if name not in (*CHOOSES_K, *LARGER, "candidate")]
    if row not in possible:
        raise typer.BadParameter(f"{row!r} is not one of {', '.join(possible)}", param_hint="--row")
    loaded = load_taxonomy(taxonomy)
    messages = load_candidates(source, loaded)
    folder = out or Path("runs/baselines") / f"{OUTSIDE_PREFIX}{source.stem}_{row}"
    builder = RungBuilder(data, loaded, base, EMBEDDED_RELEASE_DIR if release == "embedded" else Path(release))

    async def answer() -> None:
        try:
            questions = [to_question(message) for message in messages]
            await predict_split(builder.build(row), questions, folder, loaded, dataset=file_digest(source), split=OUTSIDE_SPLIT)
        finally:
            await builder.aclose()

    asyncio.run(answer())
    score = score_outside(folder, source, loaded)
    path = folder / OUTSIDE_NAME
    write_bytes_atomically(path, (score.model_dump_json(indent=2) + "\n").encode())
    if as_json:
        typer.echo(score.model_dump_json())
    else:
        typer.echo(f"{score.row} on {score.n} messages of {score.source}: {show(score.accuracy)} right, {show(score.mean_recall)} mean recall")
        for label, each in score.by_category.items():
            typer.echo(f"  {label:16s} {100 * each.recall:5.1f} % [{100 * each.low:.1f}, {100 * each.high:.1f}] of {each.support}")
        typer.echo(f"no message of {', '.join(score.without_messages) or 'no category'}: left out of the mean")
        typer.echo(f"{path}: the score")
    if score.failed:
        typer.echo(f"{score.failed} messages got no answer; the same command asks them again", err=True)
        raise typer.Exit(EXIT_FAULT)
