"""The commands that predict: baseline runs the ladder, predict one release."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from eval.endpoint import EndpointSettings
    from eval.predict import PredictReport
    from eval.questions import HeldOut, LoadedSplit
    from eval.rungs import RungBuilder
    from triage.taxonomy import Taxonomy

EXIT_FAULT = 3
TICKETS, BASE = Path("data/tickets"), Path("runs/base-release")
SplitOption = Annotated[Literal["dev", "calibration", "test"], typer.Option(help="Which messages are read; test wants --purpose.")]
DataOption = Annotated[Path, typer.Option(help="The folder of the tickets.")]
TaxonomyOption = Annotated[Path | None, typer.Option(help="A taxonomy file of your own; the default one otherwise.")]
PurposeOption = Annotated[str | None, typer.Option(help="Why the test split is read; it is noted in eval/TEST_READS.md.")]
TwinsOption = Annotated[bool, typer.Option("--twins", help="Also read the injection twins of the test split.")]


def baseline(
    data: DataOption = TICKETS,
    split: SplitOption = "dev",
    rows: Annotated[str | None, typer.Option(help="Rows to run, with commas between; all that can be run otherwise.")] = None,
    out: Annotated[Path, typer.Option(help="The folder that gets a folder a row.")] = Path("runs/baselines"),
    taxonomy: TaxonomyOption = None,
    base: Annotated[Path, typer.Option(help="The bundle of the untuned base, from training.release_base.")] = BASE,
    release: Annotated[str, typer.Option(help="`embedded`, or a release bundle: the row release.")] = "embedded",
    candidate: Annotated[Path | None, typer.Option(help="A second release bundle: the row candidate.")] = None,
    endpoint: Annotated[str | None, typer.Option(help="An OpenAI-compatible server, up to /chat/completions: the rows endpoint_….")] = None,
    model: Annotated[str | None, typer.Option(help="The model's name on that server.")] = None,
    key_variable: Annotated[str, typer.Option(help="The environment variable that holds its key.")] = "TRIAGE_EVAL_API_KEY",
    input_price: Annotated[float | None, typer.Option(help="Its price of a million prompt tokens.")] = None,
    output_price: Annotated[float | None, typer.Option(help="Its price of a million written tokens.")] = None,
    purpose: PurposeOption = None,
    twins: TwinsOption = False,
) -> None:
    """Run the ladder of baselines on a split; run it again to go on where it stopped."""
    from eval.rungs import ROWS, RungBuilder
    from triage.taxonomy import load_taxonomy

    names = tuple(dict.fromkeys(name.strip() for name in rows.split(","))) if rows else ROWS
    if unknown := [name for name in names if name not in ROWS]:
        raise typer.BadParameter(f"no such row: {', '.join(unknown)}; there are {', '.join(ROWS)}", param_hint="--rows")
    _check_held_out(split, purpose, twins)
    larger = _endpoint_settings(endpoint, model, key_variable, input_price, output_price)
    loaded = load_taxonomy(taxonomy)
    builder = RungBuilder(data, loaded, base, _release_folder(release), candidate, larger)
    target = _load(data, split, loaded, purpose, f"triage baseline --split {split} --rows {','.join(names)}{' --twins' if twins else ''}")
    reports, absent, stopped = asyncio.run(_run_rows(builder, names, target, out, twins))
    for name, reason in absent.items():
        typer.echo(f"{name}: absent, {reason}")
    for name, reason in stopped.items():
        typer.echo(f"{name}: stopped, {reason}", err=True)
    from eval.ladder import write_ladder
    from eval.twins import TWINS_NAME
    from triage.run import RECORD_NAME

    if not any(out.glob(f"*/{RECORD_NAME}")):
        raise typer.Exit(EXIT_FAULT)
    path = write_ladder(out, target.examples, loaded, dataset=target.digest, twins=data / TWINS_NAME)
    typer.echo(f"{path}: the ladder")
    _leave(reports)
    if stopped or not reports:
        raise typer.Exit(EXIT_FAULT)


def predict(
    out: Annotated[Path, typer.Option(help="The folder that gets predictions.jsonl and run.json.")],
    release: Annotated[str, typer.Option(help="`embedded`, or the folder of a release bundle.")] = "embedded",
    data: DataOption = TICKETS,
    split: SplitOption = "dev",
    taxonomy: TaxonomyOption = None,
    name: Annotated[str | None, typer.Option(help="How tables name it; the release's own name otherwise.")] = None,
    free: Annotated[bool, typer.Option("--free", help="Let the model write without a schema, to see how often it leaves it.")] = False,
    purpose: PurposeOption = None,
    twins: TwinsOption = False,
) -> None:
    """Write what a release says about each message of a split; run it again to go on where it stopped."""
    from eval.rungs import RungBuilder
    from triage.taxonomy import load_taxonomy

    _check_held_out(split, purpose, twins)
    loaded = load_taxonomy(taxonomy)
    builder = RungBuilder(data, loaded, BASE, _release_folder(release))
    target = _load(data, split, loaded, purpose, f"triage predict --release {release} --split {split}{' --twins' if twins else ''}")
    _leave(asyncio.run(_run_row(builder, "release_free" if free else "release", target, out, twins, shown=name or builder.release_name())))


async def _run_rows(
    builder: RungBuilder, names: Sequence[str], target: LoadedSplit, out: Path, twins: bool
) -> tuple[list[PredictReport], dict[str, str], dict[str, str]]:
    """Every row that can be run, each in a folder of its name; why others cannot be, and what stopped the rest: one row's fault costs no other."""
    from eval.rungs import AbsentError
    from triage.errors import TriageError

    reports: list[PredictReport] = []
    absent: dict[str, str] = {}
    stopped: dict[str, str] = {}
    try:
        for name in names:
            try:
                reports += await _run_row(builder, name, target, out / name, twins)
            except AbsentError as error:
                absent[name] = f"{error}: {error.hint}"
            except TriageError as error:
                stopped[name] = f"{error}: {error.hint}"
    finally:
        await builder.aclose()
    _write_absent(out, names, absent)
    return reports, absent, stopped


def _write_absent(out: Path, names: Sequence[str], absent: dict[str, str]) -> None:
    """Note why rows are absent, and keep what an earlier command noted of rows that this one did not try."""
    from triage.paths import write_json_atomically
    from triage.run import RECORD_NAME

    path = out / "absent.json"
    earlier: dict[str, str] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    kept = {name: reason for name, reason in earlier.items() if name not in names}
    write_json_atomically(path, {name: reason for name, reason in (kept | absent).items() if not (out / name / RECORD_NAME).exists()})


async def _run_row(builder: RungBuilder, name: str, target: LoadedSplit, out: Path, twins: bool, *, shown: str = "") -> list[PredictReport]:
    from eval.predict import predict_split
    from eval.predictions import PredictionRow
    from eval.prompted import choose_k
    from eval.questions import load_split, load_twins, to_questions
    from eval.rungs import CHOOSES_K
    from eval.twins import TWINS_FOLDER, TWINS_NAME
    from triage.paths import file_digest

    known: Sequence[PredictionRow] = ()
    if name in CHOOSES_K:
        is_dev = target.name == "dev"
        dev = target if is_dev else load_split(builder.data, "dev", builder.taxonomy, purpose=None, command="")
        choice = await choose_k(lambda k: builder.build(name, k), dev.examples, out / "choosing", builder.taxonomy, dataset=dev.digest)
        scores = {str(k): {"category_macro_f1": category, "exact": exact} for k, (category, exact) in choice.scores.items()}
        rung = builder.build(name, choice.k)
        rung.card = replace(rung.card, config={**rung.card.config, "scores_on_dev": scores})
        known = choice.rows if is_dev else ()
    else:
        rung = builder.build(name)
        rung.card = replace(rung.card, name=shown or name)
    reports = [await predict_split(rung, to_questions(target.examples), out, builder.taxonomy, dataset=target.digest, split=target.name, known=known)]
    if twins:
        path = builder.data / TWINS_NAME
        questions = load_twins(path, target.examples)
        reports.append(await predict_split(rung, questions, out / TWINS_FOLDER, builder.taxonomy, dataset=file_digest(path), split="twins"))
    for report in reports:
        typer.echo(_describe(report))
    return reports


def _describe(report: PredictReport) -> str:
    metrics = report.record.metrics
    done = "was there already" if report.is_old else f"{report.resumed} were there already" if report.resumed else "done"
    text = f"{report.folder}: {metrics['triaged']} triaged, {metrics['unread']} unread, {metrics['failed']} failed of {metrics['rows']}, {done}"
    return text + (f" ({metrics['failed_because']})" if report.failed else f" in {metrics['prepare_s']} + {metrics['predict_s']} s")


def _leave(reports: Sequence[PredictReport]) -> None:
    """Leave with 3 where messages got no answer: the scores would be about fewer messages than they say."""
    if failed := sum(report.failed for report in reports):
        again = sum(report.failed for report in reports if report.is_current)
        typer.echo(f"{failed} messages got no answer; the same command asks {again} of them again", err=True)
        raise typer.Exit(EXIT_FAULT)


def _check_held_out(split: HeldOut, purpose: str | None, twins: bool) -> None:
    if split == "test" and not (purpose or "").strip():
        raise typer.BadParameter("every look at the test split wears it out; say what this one is for", param_hint="--purpose")
    if twins and split != "test":
        raise typer.BadParameter("the twins are those of the test split; they go with --split test", param_hint="--twins")


def _load(data: Path, split: HeldOut, taxonomy: Taxonomy, purpose: str | None, command: str) -> LoadedSplit:
    from eval.questions import load_split

    return load_split(data, split, taxonomy, purpose=purpose, command=command)


def _release_folder(release: str) -> Path:
    from triage.paths import EMBEDDED_RELEASE_DIR

    return EMBEDDED_RELEASE_DIR if release == "embedded" else Path(release)


def _endpoint_settings(
    url: str | None, model: str | None, key_variable: str, input_price: float | None, output_price: float | None
) -> EndpointSettings | None:
    """The larger model's settings; None where none is named.

    Raises:
        SettingsError: with every option that cannot be used.
    """
    from pydantic import ValidationError

    from eval.endpoint import EndpointSettings
    from triage.errors import SettingsError

    if url is None and model is None:
        return None
    if url is None or model is None:
        raise typer.BadParameter("--endpoint and --model go together", param_hint="--endpoint" if url is None else "--model")
    try:
        return EndpointSettings(base_url=url, model=model, key_variable=key_variable, input_price=input_price, output_price=output_price)
    except ValidationError as error:
        found = error.errors(include_input=False)
        faults = [": ".join([*map(str, item["loc"]), item["msg"].removeprefix("Value error, ")]) for item in found]
        raise SettingsError(f"the endpoint cannot be used: {'; '.join(faults)}", "mend these options") from None
