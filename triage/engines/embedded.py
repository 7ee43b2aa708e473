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
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from triage.answer import Answer, Failure, parse_answer, with_details, with_flag
from triage.automaton import TicketAutomaton
from triage.engines.chatml import ANSWER_OPENS, render_chatml
from triage.engines.decoding import CONTEXT_TOKENS, DeadlineError, Head, Walk, split_by_length
from triage.engines.jobs import TIMEOUT, JobQueue, Row
from triage.engines.onnx_bundle import MODEL_FILE, load_session, load_tokenizer
from triage.errors import EngineError
from triage.extract import candidate_sentences, shorten
from triage.guard import GUARD_FILE, load_guard
from triage.label_trie import Tokens
from triage.paths import EMBEDDED_RELEASE_DIR
from triage.policy import GUARDED, MOSTLY_GUARDED
from triage.prompt import ChatMessage, Prompt, PromptKind
from triage.release import Release, load_release
from triage.taxonomy import LABEL_FIELDS, Taxonomy

PROMPT_TOKENS = CONTEXT_TOKENS - 256
"""The longest prompt: what is left of the context once an answer has its place."""
STOP_TOKEN = "<|im_end|>"
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
        self._label_room = _label_room(self._automaton)
        self._lock = threading.Lock()
        self._closed = False
        self._queue = JobQueue(
            self._prepare, self._answer_rows, most_tokens=BATCH_TOKENS, most_rows=BATCH_ROWS if self._extracts else 1, lock=self._lock
        )

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, without special tokens beside those that stand in it."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def count_tokens(self, text: str) -> int:
        return len(self.encode(text))

    async def answer(self, prompts: Sequence[Prompt], *, deadline_s: float) -> list[Answer]:
        jobs = self._queue.put(prompts, deadline_s)
        return list(await asyncio.gather(*(self._queue.wait(job) for job in jobs)))

    async def aclose(self) -> None:
        self._closed = True

    def answer_now(self, prompt: Prompt, *, deadline_s: float) -> Answer:
        """`answer` for one prompt, for callers without an event loop."""
        [job] = self._queue.put([prompt], deadline_s)
        return self._queue.wait_now(job)

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
        ids = self._encode(self._guarded(prompt).messages)
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

    def _prepare(self, prompt: Prompt) -> Row | Failure:
        """The prompt as token ids, guarded, or why it is not answered."""
        if self._closed:
            return Failure("unavailable", "the engine is closed")
        prompt = self._guarded(prompt)
        ids = self._encode(prompt.messages)
        if len(ids) > PROMPT_TOKENS:
            return Failure("too_long", f"{len(ids)} prompt tokens")
        head = self._shared(prompt.messages[:-1])
        return Row(prompt, head, ids[len(self._encode(head, opens_answer=False)) :], len(ids))

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

    def _answer_rows(self, rows: Sequence[Row]) -> list[Answer]:
        """The answers to rows with one head."""
        walk = self._decide(rows)
        if self._extracts:
            self._extract(rows)
        else:
            rows[0].summary = json.loads(f'"{walk.write_summary().decode()}"')
            rows[0].output_tokens = int(walk.lengths[0]) - rows[0].prompt_tokens
        return [self._finish(row) for row in rows]

    def _decide(self, rows: Sequence[Row]) -> Walk:
        """The label of each field and its probability, field after field."""
        end = max(row.end for row in rows)
        room = self._label_room if self._extracts else CONTEXT_TOKENS
        walk = self._walk([row.ids for row in rows], end, head=self._read_head(rows[0].head, end), room=room)
        for row in rows:
            row.output_tokens = 0  # a batch that failed is tried again
        for name in LABEL_FIELDS:
            trie, shares = self._automaton.tries[name], walk.score(name)
            best = [int(place) for place in shares.argmax(axis=1)]
            for row, place, each in zip(rows, best, shares, strict=True):
                row.labels[name] = trie.labels[place]
                row.probabilities[name] = round(self._calibration.probability(name, each, place) if self._calibration else float(each[place]), 6)
                row.output_tokens += len(self._automaton.prefix_ids[name]) + len(trie.paths[place])
            walk.choose(name, best)
        return walk

    def _extract(self, rows: Sequence[Row]) -> None:
        """For each message the passage that, as a message of its own, makes the message's four labels most likely together."""
        candidates = [candidate_sentences(row.prompt.newest) for row in rows]
        asked = [(row, passage) for row, passages in enumerate(candidates) if len(passages) > 1 for passage in passages]
        opening, closing = self._frame
        ids = [np.concatenate([opening, self._automaton.encode(passage)[:PASSAGE_TOKENS], closing]) for _, passage in asked]
        found = np.zeros(len(asked))
        for places in split_by_length([len(each) for each in ids], most_tokens=BATCH_TOKENS, most_rows=BATCH_ROWS):
            walk = self._walk([ids[place] for place in places], max(row.end for row in rows))
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
        if time.monotonic() > row.end:
            return TIMEOUT
        decided = {name: json.loads(label) if name == "needs_human" else label for name, label in row.labels.items()}
        answer = parse_answer(json.dumps({**decided, "summary": row.summary}), self._taxonomy)
        answer = with_details(answer, probabilities=row.probabilities, prompt_tokens=row.prompt_tokens, output_tokens=row.output_tokens)
        prompt = row.prompt
        doubts = self._calibration.flags(row.probabilities) if self._calibration else ()
        for flag in (
            *doubts,
            *(["cut"] if prompt.cut else []),
            *([GUARDED] if prompt.guarded else []),
            *([MOSTLY_GUARDED] if prompt.doubted else []),
        ):
            answer = with_flag(answer, flag)
        return answer

    def _guarded(self, prompt: Prompt) -> Prompt:
        """The prompt without what addresses the machine in its last turn, and in what is quoted of it."""
        if self._guard is None:
            return prompt
        turn, newest = prompt.messages[-1], shorten(prompt.newest)
        content = self._guard.clean(turn.content, self.encode)
        quoted = content if newest == turn.content else self._guard.clean(newest, self.encode)
        if (content.text, quoted.text) == (turn.content, newest) and not content.only:
            return prompt
        messages = (*prompt.messages[:-1], replace(turn, content=content.text))
        # a newest message that is nothing but an instruction is not quoted as long as something else was said
        said = content.text if quoted.only and not content.only else quoted.text
        return replace(prompt, messages=messages, newest=said, guarded=not content.only, doubted=content.most)

    def _encode(self, turns: tuple[ChatMessage, ...], *, opens_answer: bool = True) -> Tokens:
        """Token ids of turns in ChatML. Turns begin and end with special tokens, so the ids of a prompt's first turns begin its own."""
        text = render_chatml(Prompt(turns))
        return self._automaton.encode(text if opens_answer else text.removesuffix(ANSWER_OPENS)) if turns else np.zeros(0, dtype=np.int64)

    def _walk(self, rows: Sequence[Tokens], end: float, *, head: Head | None = None, room: int | None = None) -> Walk:
        return Walk(
            self._session,
            self._automaton,
            rows,
            head=head,
            end=end,
            room=self._label_room if room is None else room,
            whole=self.prompt_kind != "tuned",
        )


def _label_room(automaton: TicketAutomaton) -> int:
    """Tokens that the decided part of an answer can take, with what is asked beside it.

    Raises:
        EngineError: more than the context leaves beside the longest prompt.
    """
    tries = automaton.tries
    room = sum(len(automaton.prefix_ids[name]) + max(map(len, tries[name].paths)) + len(tries[name].asked) for name in LABEL_FIELDS)
    if room > CONTEXT_TOKENS - PROMPT_TOKENS:
        raise EngineError(
            f"the taxonomy's longest labels take {room} tokens, and the model has room for {CONTEXT_TOKENS - PROMPT_TOKENS}", "shorten its labels"
        )
    return room


def load_embedded_engine(taxonomy: Taxonomy, folder: Path = EMBEDDED_RELEASE_DIR, *, threads: int | None = None) -> EmbeddedEngine:
    """Verify a bundle and start an engine on it.

    Raises:
        ReleaseError: the bundle is missing, damaged or of another taxonomy.
        EngineError: the model in it cannot be loaded.
    """
    return EmbeddedEngine(load_release(folder, taxonomy), taxonomy, threads=threads)
