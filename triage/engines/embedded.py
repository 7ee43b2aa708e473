"""The embedded engine: a small model in onnxruntime, decoded inside the automaton, on the CPU.

Messages that wait at the same time are answered together, in batches of like length; `decoding` has how. The release says how
its summaries come about: `written` greedily, token by token, under the automaton's counter, or `extracted`: the passage of the
message that, read alone, speaks most for the labels that were chosen.

A pass runs on onnxruntime's own threads, one batch at a time. What prompts begin with in common (instructions, worked
examples) is read once and kept.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from triage.answer import Answer, Failure, parse_answer, with_details, with_flag
from triage.automaton import TicketAutomaton, Tokens
from triage.engines.chatml import ANSWER_OPENS, render_chatml
from triage.engines.decoding import CONTEXT_TOKENS, LABEL_TOKENS, DeadlineError, Head, Walk, split_by_length
from triage.engines.jobs import Batch, Job, Row, to_failure
from triage.engines.onnx_bundle import MODEL_FILE, load_session, load_tokenizer
from triage.extract import candidate_sentences, shorten
from triage.guard import GUARD_FILE, load_guard
from triage.paths import EMBEDDED_RELEASE_DIR
from triage.prompt import ChatMessage, Prompt, PromptKind
from triage.release import Release, load_release
from triage.taxonomy import LABEL_FIELDS, Taxonomy

PROMPT_TOKENS = CONTEXT_TOKENS - 256
"""The longest prompt: what is left of the context once an answer has its place."""
STOP_TOKEN = "<|im_end|>"
GUARDED = "instructions_ignored"
"""The flag of an answer to a message of which the guard dropped a part."""
PASSAGE_TOKENS = 56
"""How much of a passage is read when passages are compared."""
BATCH_TOKENS, BATCH_ROWS = 1_024, 32
"""How much is read in one pass at most; more gains nothing on a CPU."""


class EmbeddedEngine:
    """Answers prompts with a verified embedded release.

    Args:
        release: a bundle that `load_release` has verified against `taxonomy`.
        threads: onnxruntime's threads for one pass; None takes up to four cores.

    Raises:
        EngineError: onnxruntime cannot load the model, or the tokenizer does not fit the taxonomy.
    """

    name = "embedded"

    def __init__(self, release: Release, taxonomy: Taxonomy, *, threads: int | None = None) -> None:
        self.release = release.manifest.name
        self.prompt_kind: PromptKind = release.manifest.prompt_kind
        self.text_budget = release.manifest.text_budget
        self._taxonomy = taxonomy
        self._tokenizer = load_tokenizer(release)
        self._automaton = TicketAutomaton(taxonomy, self._tokenizer)
        self._frame = tuple(self._automaton.encode(part) for part in render_chatml(Prompt((ChatMessage("user", "\0"),))).split("\0"))
        self._extracts = release.manifest.summary == "extracted"
        self._calibration = release.manifest.calibration
        self._guard = load_guard(release.path(GUARD_FILE)) if GUARD_FILE in release.manifest.files else None
        self._session = load_session(release.path(MODEL_FILE), threads)
        self._head: tuple[tuple[ChatMessage, ...], Head | None] = ((), None)
        self._last: tuple[ChatMessage, ...] = ()
        self._waiting: deque[Job] = deque()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="embedded-engine")
        self._lock = threading.Lock()
        self._closed = False

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, without special tokens beside those that stand in it."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def count_tokens(self, text: str) -> int:
        return len(self.encode(text))

    async def answer(self, prompts: Sequence[Prompt], *, deadline_s: float) -> list[Answer]:
        jobs = self._take(prompts, deadline_s)
        return list(await asyncio.gather(*(asyncio.wrap_future(job.done) for job in jobs)))

    async def aclose(self) -> None:
        self._closed = True

    def answer_now(self, prompt: Prompt, *, deadline_s: float) -> Answer:
        """`answer` for one prompt, for callers without an event loop."""
        [job] = self._take([prompt], deadline_s)
        return job.done.result()

    def shares(self, prompts: Sequence[Prompt]) -> list[dict[str, dict[str, float]]]:
        """For each prompt and field, the uncalibrated probability of every label, after the engine's own labels before. For calibration."""
        found = []
        for prompt in prompts:
            with self._lock:
                walk = self._walk([self._encode(self._guarded(prompt).messages)], float("inf"))
                rows = dict[str, dict[str, float]]()
                for name in LABEL_FIELDS:
                    [shares] = walk.score(name)
                    rows[name] = dict(zip(self._automaton.tries[name].labels, map(float, shares), strict=True))
                    walk.choose(name, [int(shares.argmax())])
            found.append(rows)
        return found

    async def write_free(self, prompts: Sequence[Prompt], *, deadline_s: float) -> list[Answer]:
        """`answer` without the automaton: the likeliest token each time, until the model stops or `FREE_TOKENS` are written.

        No service uses it: it tells how often the model would leave the schema. There are no probabilities.
        """
        end = time.monotonic() + deadline_s
        return await asyncio.to_thread(lambda: [self._write_one(prompt, end) for prompt in prompts])

    def _write_one(self, prompt: Prompt, end: float) -> Answer:
        ids = self._encode(prompt.messages)
        if len(ids) > PROMPT_TOKENS:
            return Failure("too_long", f"{len(ids)} prompt tokens")
        stop = self._tokenizer.token_to_id(STOP_TOKEN)
        assert stop is not None
        with self._lock:
            if self._closed:
                return Failure("unavailable", "the engine is closed")
            try:
                written = self._walk([ids], end, room=CONTEXT_TOKENS).write_free(stop)
            except DeadlineError:
                return Failure("timeout", "the deadline passed while writing")
        text = self._tokenizer.decode([token for token in written if token != stop], skip_special_tokens=False)
        answer = parse_answer(text, self._taxonomy, finished=written[-1] == stop)
        answer = with_details(answer, probabilities={}, prompt_tokens=len(ids), output_tokens=len(written))
        return with_flag(answer, "cut") if prompt.cut else answer

    def _take(self, prompts: Sequence[Prompt], deadline_s: float) -> list[Job]:
        """Put prompts into the queue and have the worker look at it."""
        end = time.monotonic() + deadline_s
        jobs = [Job(prompt, end) for prompt in prompts]
        self._waiting.extend(jobs)
        self._worker.submit(self._work)
        return jobs

    def _work(self) -> None:
        """Answer what waits, all that waits at one time together."""
        with self._lock:
            while self._waiting:
                jobs = [self._waiting.popleft() for _ in range(len(self._waiting))]
                for batch in self._batches(jobs):
                    self._answer_batch(batch)

    def _batches(self, jobs: Sequence[Job]) -> list[Batch]:
        """Prompts of like length that begin alike, `BATCH_TOKENS` a batch with padding; what cannot be answered is answered here."""
        rows: dict[tuple[ChatMessage, ...], list[Row]] = {}
        for job in jobs:
            if not job.done.set_running_or_notify_cancel():
                continue  # whoever asked has gone
            try:
                job.prompt = self._guarded(job.prompt)
                ids = self._encode(job.prompt.messages)
                head = self._shared(job.prompt.messages[:-1])
                row = Row(job, ids[len(self._encode(head, opens_answer=False)) :], len(ids))
            except Exception as error:  # a text that a tokenizer cannot take must not stop the queue
                job.done.set_result(Failure("unavailable", f"the prompt could not be read: {type(error).__name__}"))
                continue
            if self._closed:
                job.done.set_result(Failure("unavailable", "the engine is closed"))
            elif row.prompt_tokens > PROMPT_TOKENS:
                job.done.set_result(Failure("too_long", f"{row.prompt_tokens} prompt tokens"))
            else:
                rows.setdefault(head, []).append(row)
        most = BATCH_ROWS if self._extracts else 1
        return [
            Batch(head, [some[place] for place in places])
            for head, some in rows.items()
            for places in split_by_length([len(row.ids) for row in some], most_tokens=BATCH_TOKENS, most_rows=most)
        ]

    def _shared(self, turns: tuple[ChatMessage, ...]) -> tuple[ChatMessage, ...]:
        """What the turns before a prompt's last have in common with those of the prompt before it, at least the first of them."""
        count = 0
        while count < min(len(turns), len(self._last)) and turns[count] == self._last[count]:
            count += 1
        self._last = turns
        return turns[: max(count, 1)]

    def _read_head(self, turns: tuple[ChatMessage, ...], end: float) -> Head | None:
        """Keys and values of what a batch's prompts begin with. The last ones are kept."""
        if turns and self._head[0] != turns:
            self._head = (turns, self._walk([self._encode(turns, opens_answer=False)], end).read())
        return self._head[1] if turns else None

    def _answer_batch(self, batch: Batch) -> None:
        """Set each row's answer. If a batch fails, its rows are tried alone, so that one message takes no other along."""
        try:
            walk = self._decide(batch)
            if self._extracts:
                self._extract(batch.rows)
            else:
                batch.rows[0].summary = json.loads(f'"{walk.write_summary().decode()}"')
                batch.rows[0].output_tokens = int(walk.lengths[0]) - batch.rows[0].prompt_tokens
        except Exception as error:  # onnxruntime's errors have no common base
            if len(batch.rows) > 1:
                for row in batch.rows:
                    self._answer_batch(Batch(batch.head, [row]))
            else:
                batch.rows[0].job.done.set_result(to_failure(batch.rows[0], error))
            return
        for row in batch.rows:
            row.job.done.set_result(self._finish(row))

    def _decide(self, batch: Batch) -> Walk:
        """The label of each field and its probability, field after field."""
        end = max(row.job.end for row in batch.rows)
        room = LABEL_TOKENS if self._extracts else CONTEXT_TOKENS
        walk = self._walk([row.ids for row in batch.rows], end, head=self._read_head(batch.head, end), room=room)
        for name in LABEL_FIELDS:
            trie, shares = self._automaton.tries[name], walk.score(name)
            best = [int(place) for place in shares.argmax(axis=1)]
            for row, place, each in zip(batch.rows, best, shares, strict=True):
                row.labels[name] = trie.labels[place]
                row.probabilities[name] = round(self._calibration.probability(name, each, place) if self._calibration else float(each[place]), 6)
                row.output_tokens += len(self._automaton.prefix_ids[name]) + len(trie.paths[place])
            walk.choose(name, best)
        return walk

    def _extract(self, rows: Sequence[Row]) -> None:
        """For each message the passage that, as a message of its own, makes the message's four labels most likely together."""
        candidates = [candidate_sentences(row.job.prompt.newest) for row in rows]
        asked = [(row, passage) for row, passages in enumerate(candidates) if len(passages) > 1 for passage in passages]
        opening, closing = self._frame
        ids = [np.concatenate([opening, self._automaton.encode(passage)[:PASSAGE_TOKENS], closing]) for _, passage in asked]
        found = np.zeros(len(asked))
        for places in split_by_length([len(each) for each in ids], most_tokens=BATCH_TOKENS, most_rows=BATCH_ROWS):
            walk = self._walk([ids[place] for place in places], max(row.job.end for row in rows))
            for name in LABEL_FIELDS:
                wanted = [self._automaton.tries[name].labels.index(rows[asked[place][0]].labels[name]) for place in places]
                found[places] += np.log(np.maximum(walk.score(name)[np.arange(len(places)), wanted], 1e-9))
                walk.choose(name, wanted)
        best = [-np.inf] * len(rows)
        for row, passages in zip(rows, candidates, strict=True):
            row.summary = passages[0]
        for (place, passage), likelihood in zip(asked, found, strict=True):
            if likelihood > best[place]:
                best[place], rows[place].summary = float(likelihood), passage

    def _finish(self, row: Row) -> Answer:
        if time.monotonic() > row.job.end:
            return Failure("timeout", "the deadline passed while decoding")
        decided = {name: json.loads(label) if name == "needs_human" else label for name, label in row.labels.items()}
        answer = parse_answer(json.dumps({**decided, "summary": row.summary}), self._taxonomy)
        answer = with_details(answer, probabilities=row.probabilities, prompt_tokens=row.prompt_tokens, output_tokens=row.output_tokens)
        prompt = row.job.prompt
        doubts = self._calibration.flags(row.probabilities) if self._calibration else ()
        for flag in (*doubts, *(["cut"] if prompt.cut else []), *([GUARDED] if prompt.guarded else [])):
            answer = with_flag(answer, flag)
        return answer

    def _guarded(self, prompt: Prompt) -> Prompt:
        """The prompt without what addresses the machine in its last turn."""
        if self._guard is None:
            return prompt
        turn = prompt.messages[-1]
        cleaned = self._guard.clean(turn.content, self.encode)
        if cleaned == turn.content:
            return prompt
        newest = self._guard.clean(shorten(prompt.newest), self.encode)
        return replace(prompt, messages=(*prompt.messages[:-1], replace(turn, content=cleaned)), newest=newest, guarded=True)

    def _encode(self, turns: tuple[ChatMessage, ...], *, opens_answer: bool = True) -> Tokens:
        """Token ids of turns in ChatML. Turns begin and end with special tokens, so the ids of a prompt's first turns begin its own."""
        text = render_chatml(Prompt(turns))
        return self._automaton.encode(text if opens_answer else text.removesuffix(ANSWER_OPENS)) if turns else np.zeros(0, dtype=np.int64)

    def _walk(self, rows: Sequence[Tokens], end: float, *, head: Head | None = None, room: int = LABEL_TOKENS) -> Walk:
        return Walk(self._session, self._automaton, rows, head=head, end=end, room=room)


def load_embedded_engine(taxonomy: Taxonomy, folder: Path = EMBEDDED_RELEASE_DIR, *, threads: int | None = None) -> EmbeddedEngine:
    """Verify a bundle and start an engine on it.

    Raises:
        ReleaseError: the bundle is missing, damaged or of another taxonomy.
        EngineError: the model in it cannot be loaded.
    """
    return EmbeddedEngine(load_release(folder, taxonomy), taxonomy, threads=threads)
