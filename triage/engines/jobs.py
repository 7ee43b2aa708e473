"""What waits for the embedded engine, and the one thread that has it answered, batch after batch, the most urgent first."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from dataclasses import dataclass, field

from triage.answer import Answer, Failure
from triage.engines.decoding import ContextError, DeadlineError
from triage.label_trie import Tokens
from triage.prompt import ChatMessage, Prompt

TIMEOUT = Failure("timeout", "the deadline passed while decoding")


@dataclass
class Job:
    """A prompt that waits for its answer until `end`, a time of `time.monotonic()`."""

    prompt: Prompt
    end: float
    done: Future[Answer] = field(default_factory=Future)

    def resolve(self, answer: Answer) -> None:
        """Give the answer, unless there is one or whoever asked has gone."""
        try:
            self.done.set_result(answer)
        except InvalidStateError:
            return


@dataclass
class Row:
    """A prompt that is read: its token ids without the head's, and what was decided so far."""

    prompt: Prompt
    head: tuple[ChatMessage, ...]
    """The first turns, which it has in common with the prompt before."""
    ids: Tokens
    prompt_tokens: int
    end: float = 0.0
    output_tokens: int = 0
    labels: dict[str, str] = field(default_factory=dict)
    probabilities: dict[str, float] = field(default_factory=dict)
    summary: str = ""


class JobQueue:
    """Prompts in, answers out, in batches of prompts that begin alike and are of like length.

    Every job is answered: with a `Failure` when its deadline passes, its prompt cannot be read, or its batch fails even alone.

    Args:
        prepare: a prompt as a row, or why it is not answered. It may raise.
        answer: the answers to rows with one head, in order. It may raise: then each row is tried alone.
        most_tokens, most_rows: the size of a batch at most, padding included; a longer prompt makes a batch of its own.
        lock: held while a batch is answered, so that others can use the model in between.
    """

    def __init__(
        self,
        prepare: Callable[[Prompt], Row | Failure],
        answer: Callable[[Sequence[Row]], list[Answer]],
        *,
        most_tokens: int,
        most_rows: int,
        lock: threading.Lock,
    ) -> None:
        self._prepare, self._answer, self._lock = prepare, answer, lock
        self._most_tokens, self._most_rows = most_tokens, most_rows
        self._arrived: deque[Job] = deque()
        self._ready: list[tuple[Job, Row]] = []
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="embedded-engine")

    def put(self, prompts: Sequence[Prompt], deadline_s: float) -> list[Job]:
        """Queue prompts and wake the worker."""
        end = time.monotonic() + deadline_s
        jobs = [Job(prompt, end) for prompt in prompts]
        self._arrived.extend(jobs)
        self._worker.submit(self._work)
        return jobs

    async def wait(self, job: Job) -> Answer:
        """The job's answer, at its deadline at the latest."""
        try:
            return await asyncio.wait_for(asyncio.wrap_future(job.done), max(0.0, job.end - time.monotonic()))
        except TimeoutError:
            return TIMEOUT

    def wait_now(self, job: Job) -> Answer:
        """`wait` for a caller without an event loop."""
        try:
            return job.done.result(max(0.0, job.end - time.monotonic()))
        except TimeoutError:
            job.done.cancel()
            return TIMEOUT

    def _work(self) -> None:
        """Answer until nothing waits. What arrives meanwhile is considered before each batch."""
        try:
            while True:
                with self._lock:
                    self._receive()
                    batch = self._next_batch()
                    if batch:
                        self._answer_batch(batch)
                    elif not self._ready:
                        return
        except BaseException as error:  # nobody reads this thread's exceptions, and no caller may wait for ever
            for job in [*(job for job, _ in self._ready), *self._arrived]:
                job.resolve(Failure("unavailable", f"the engine stopped: {type(error).__name__}"))
            self._ready.clear()
            raise

    def _receive(self) -> None:
        while self._arrived:
            job = self._arrived.popleft()
            if job.done.cancelled():
                continue
            try:
                row = self._prepare(job.prompt)
            except Exception as error:  # a text that a tokenizer cannot take must not stop the queue
                row = Failure("unavailable", f"the prompt could not be read: {type(error).__name__}")
            if isinstance(row, Failure):
                job.resolve(row)
            else:
                row.end = job.end
                self._ready.append((job, row))

    def _next_batch(self) -> list[tuple[Job, Row]]:
        """The most urgent row and those most like it in length, behind the same head. Late ones and those nobody waits for are dropped."""
        now = time.monotonic()
        for job, _ in self._ready:
            if job.end < now:
                job.resolve(TIMEOUT)
        self._ready = [(job, row) for job, row in self._ready if not job.done.done()]
        if not self._ready:
            return []
        _, first = min(self._ready, key=lambda entry: entry[0].end)
        alike = sorted((entry for entry in self._ready if entry[1].head == first.head), key=lambda entry: abs(len(entry[1].ids) - len(first.ids)))
        batch, longest = list[tuple[Job, Row]](), 0
        for job, row in alike:
            longest = max(longest, len(row.ids))
            if batch and (len(batch) == self._most_rows or longest * (len(batch) + 1) > self._most_tokens):
                break
            if job.done.set_running_or_notify_cancel():
                batch.append((job, row))
        taken = {id(row) for _, row in batch}
        self._ready = [entry for entry in self._ready if id(entry[1]) not in taken]
        return batch

    def _answer_batch(self, batch: list[tuple[Job, Row]]) -> None:
        """Answer each job. If a batch fails, its rows are tried alone, so that one message takes no other along."""
        try:
            answers = self._answer([row for _, row in batch])
        except BaseException as error:
            if len(batch) == 1 or not isinstance(error, Exception):
                for job, row in batch:
                    job.resolve(_to_failure(row, error))
                if not isinstance(error, Exception):
                    raise
                return
            for entry in batch:
                self._answer_batch([entry])
            return
        for (job, _), answer in zip(batch, answers, strict=True):
            job.resolve(answer)


def _to_failure(row: Row, error: BaseException) -> Failure:
    if isinstance(error, DeadlineError):
        return TIMEOUT
    if isinstance(error, ContextError):
        return Failure("truncated", "the summary outgrew the context", prompt_tokens=row.prompt_tokens, output_tokens=row.output_tokens)
    return Failure("unavailable", f"the model failed: {type(error).__name__}")
