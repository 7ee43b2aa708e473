"""A rung of the ladder reads every message of a split: resumable, in the split's order at the end, `run.json` written last.

Each row is flushed to `predictions.partial.jsonl` as it is made; the first line of that file says what run it is. A later run
of the same rung on the same split goes on there: rows that are done are kept, rows that failed (the infrastructure's fault) are
asked again, and another rung, dataset or configuration is refused. The finished file is that of a run that was never stopped,
byte for byte but the measured `latency_ms`. A run that ended with failed rows takes them up again when it is run once more; its
files stay as they are until the new ones replace them.

A run is of one version of the code. A finished one of another version is kept and said to be, an unfinished one is begun anew.

Labels never come here: a rung sees a `Question`.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from eval.memory import peak_rss_mib, reset_peak_rss
from eval.predictions import PREDICTIONS_NAME, PredictionRow, render_row, to_row
from eval.questions import Question
from eval.rung import Reading, Rung
from eval.unfinished import PARTIAL_NAME, check_outputs, read_finished_run, reopen_run, resume_run
from triage.answer import Failure
from triage.errors import DatasetError, RunError, TriageError
from triage.paths import lock_file, write_bytes_atomically
from triage.run import RunClock, RunRecord, code_version, write_run_record
from triage.taxonomy import Taxonomy

MOST_FAILURES_IN_A_ROW = 20
"""After so many messages without an answer the run stops: whatever is broken is not about one message."""


@dataclass(frozen=True)
class PredictReport:
    """A finished run, how many of its rows an earlier one had made, and whether nothing was left to do."""

    folder: Path
    record: RunRecord
    resumed: int
    is_old: bool

    @property
    def failed(self) -> int:
        """Rows without an answer; the same command asks them again, unless another version of the code made the run."""
        return int(self.record.metrics["failed"])

    @property
    def is_current(self) -> bool:
        """Whether this version of the code made the run."""
        return self.record.code_version == code_version()


async def predict_split(
    rung: Rung,
    questions: Sequence[Question],
    out: Path,
    taxonomy: Taxonomy,
    *,
    dataset: str,
    split: str,
    known: Sequence[PredictionRow] = (),
    clock: Callable[[], float] = time.perf_counter,
) -> PredictReport:
    """Read every question and write the run into `out`; call it again to go on.

    `dataset` is the digest of the file the questions come from. `known` are rows that an equal rung has made of them already.
    `clock` gives seconds, for `latency_ms` alone.

    Raises:
        DatasetError: there is no question, `out` holds another run, one that is damaged, or cannot be written, or another process
            is writing it.
        RunError: `MOST_FAILURES_IN_A_ROW` messages in a row got no answer. What was written stays.
        TriageError: the rung says that no message can be answered. What was written stays.
    """
    if not questions:
        raise DatasetError(f"there is nothing to predict: the {split} split is empty", "name a split that holds tickets")
    card = rung.card
    inputs = {"dataset": dataset, "taxonomy": taxonomy.digest, **card.inputs}
    identity = json.loads(json.dumps({"config": {"row": card.name, "split": split, "is_free": card.is_free, **card.config}, "inputs": inputs}))
    partial, version = out / PARTIAL_NAME, code_version()
    try:
        out.mkdir(parents=True, exist_ok=True)
        is_new = not partial.exists()
        with partial.open("a+b") as stream:
            lock_file(stream, partial)
            try:
                finished = read_finished_run(out, identity)
                if finished is not None and (finished.code_version != version or not int(finished.metrics["failed"])):
                    check_outputs(out, finished)
                    if finished.code_version != version:
                        _notice(f"{out}: made by another version of the code ({finished.code_version[:20]}); remove the folder to run it anew")
                    partial.unlink(missing_ok=True)
                    return PredictReport(out, finished, len(questions), is_old=True)
                if finished is not None and not partial.stat().st_size:
                    rows = reopen_run(stream, out, finished, identity, version)
                else:
                    rows, other = resume_run(stream, partial, identity, version, known)
                    if other is not None:
                        _notice(f"{out}: begun by another version of the code ({other[:20] or 'not said'}), so it is begun anew")
            except TriageError:
                if is_new:
                    partial.unlink(missing_ok=True)
                raise
            return await _Predicting(rung, questions, out, taxonomy, identity, stream, rows, clock).finish()
    except OSError as error:
        raise DatasetError(
            f"cannot write {error.filename or out}: {error.strerror}", "make room or name another folder, then run it again"
        ) from error


class _Predicting:
    """One session of a run, from the rows an earlier one left to the record."""

    def __init__(
        self,
        rung: Rung,
        questions: Sequence[Question],
        out: Path,
        taxonomy: Taxonomy,
        identity: Mapping[str, Any],
        stream: BinaryIO,
        rows: dict[str, PredictionRow],
        clock: Callable[[], float],
    ) -> None:
        self._rung, self._questions, self._out, self._taxonomy, self._identity = rung, questions, out, taxonomy, identity
        self._stream, self._rows, self._clock = stream, rows, clock
        self._resumed = len(rows)
        self._failed_because = Counter[str]()
        self._streak = 0
        self._prepare_s = 0.0

    async def finish(self) -> PredictReport:
        card, run_clock = self._rung.card, RunClock()
        reset_peak_rss()
        if self._resumed < len(self._questions):
            self._rung.prepare()
        self._prepare_s = run_clock.elapsed_s()
        columns = (TextColumn(card.name), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, transient=True, console=Console(stderr=True)) as progress:
            task = progress.add_task(card.name, total=len(self._questions), completed=self._resumed)
            waiting = iter([question for question in self._questions if question.id not in self._rows])
            await _run_all([self._work(waiting, lambda: progress.advance(task)) for _ in range(card.concurrency)])
        rows = [self._rows[question.id] for question in self._questions]
        write_bytes_atomically(self._out / PREDICTIONS_NAME, "".join(render_row(row) + "\n" for row in rows).encode())
        record = write_run_record(
            self._out,
            kind="predict",
            clock=run_clock,
            config=self._identity["config"],
            inputs=self._identity["inputs"],
            outputs=[PREDICTIONS_NAME],
            metrics=self._metrics(rows, run_clock.elapsed_s()),
            packages=card.packages,
        )
        (self._out / PARTIAL_NAME).unlink(missing_ok=True)
        return PredictReport(self._out, record, self._resumed, is_old=False)

    async def _work(self, waiting: Iterator[Question], advance: Callable[[], None]) -> None:
        for question in waiting:
            begin = self._clock()
            reading = await self._rung.read(question)
            self._take(question, reading, (self._clock() - begin) * 1000)
            advance()
            await asyncio.sleep(0)  # a rung that never waits would not let Ctrl-C through

    def _take(self, question: Question, reading: Reading, latency_ms: float) -> None:
        """Keep one row, flushed.

        Raises:
            RunError: it is one failure too many.
        """
        answer = reading.answer
        row = to_row(question.id, answer, self._taxonomy, latency_ms=latency_ms, cost=reading.cost, is_prompted=self._rung.card.is_prompted)
        if row.status != "failed":
            row = row.model_copy(update={"prompt_tokens": reading.prompt_tokens, "output_tokens": reading.output_tokens})
        self._rows[row.id] = row
        self._stream.write(render_row(row).encode() + b"\n")
        self._stream.flush()
        self._streak = self._streak + 1 if row.status == "failed" else 0
        if isinstance(answer, Failure) and row.status == "failed":
            self._failed_because[answer.detail or answer.reason] += 1
        if self._streak >= MOST_FAILURES_IN_A_ROW:
            raise RunError(
                f"{self._streak} messages in a row got no answer from {self._rung.card.name}: {_most_common(self._failed_because)}",
                "mend that and run the same command again; it goes on where it stopped",
            )

    def _metrics(self, rows: Sequence[PredictionRow], elapsed_s: float) -> dict[str, float | int | str]:
        counts = Counter(row.status for row in rows)
        metrics: dict[str, float | int | str] = {
            "rows": len(rows),
            **{status: counts[status] for status in ("triaged", "unread", "failed")},
            "asked": len(rows) - self._resumed,
            "prepare_s": round(self._prepare_s, 2),
            "predict_s": round(elapsed_s - self._prepare_s, 2),
            "concurrency": self._rung.card.concurrency,
            "prompt_tokens": sum(row.prompt_tokens for row in rows),
            "output_tokens": sum(row.output_tokens for row in rows),
            "peak_rss_mib": peak_rss_mib(),
        }
        if costs := [row.cost for row in rows if row.cost is not None]:
            metrics["cost"] = round(sum(costs), 6)
        if self._failed_because and counts["failed"]:
            metrics["failed_because"] = _most_common(self._failed_because)
        return metrics


async def _run_all(workers: Sequence[Any]) -> None:
    """Run coroutines together; the first exception stops the others and is raised as it is."""
    tasks = [asyncio.create_task(worker) for worker in workers]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _notice(text: str) -> None:
    Console(stderr=True, soft_wrap=True, markup=False, highlight=False).print(text)


def _most_common(reasons: Counter[str]) -> str:
    return "; ".join(f"{reason} ({count} times)" for reason, count in reasons.most_common(3))
