"""The embedded engine: a small model in onnxruntime, decoded inside the automaton, on the CPU.

Each decided field costs one forward pass: the fixed text before it and the trie of all its labels go in together, a
mask keeps the branches apart (tree attention, as in SpecInfer, arXiv 2305.09781), and the keys and values of the chosen
branch are kept. The release says how its summaries come about: `written` greedily, token by token, under the automaton's
counter, or `extracted`: the sentence of the message that, read alone, speaks most for the category that was chosen.

A pass runs on onnxruntime's own threads; one message is answered at a time. Batching is not done here yet.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from triage.answer import Answer, Failure, parse_answer, with_details, with_flag
from triage.automaton import TicketAutomaton
from triage.engines.chatml import render_chatml
from triage.errors import EngineError, ReleaseError
from triage.extract import candidate_sentences
from triage.paths import EMBEDDED_RELEASE_DIR
from triage.prompt import ChatMessage, Prompt, PromptKind
from triage.release import Release, load_release
from triage.taxonomy import LABEL_FIELDS, SUMMARY_CHARACTERS, Taxonomy

MODEL_FILE, TOKENIZER_FILE = "model.onnx", "tokenizer.json"
CONTEXT_TOKENS = 1024
PROMPT_TOKENS = CONTEXT_TOKENS - 256
"""The longest prompt: what is left of the context once an answer has its place."""
FREE_TOKENS = 128
"""How much is written where nothing constrains it. The longest ticket of the training split takes 79."""
STOP_TOKEN = "<|im_end|>"
SENTENCE_TOKENS = 48
"""How much of a sentence is read when sentences are compared."""

Floats = NDArray[np.float32]


class _DeadlineError(Exception):
    """The time for this message is up."""


class _ContextError(Exception):
    """The cache is full."""


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
        self._session = _load_session(release.path(MODEL_FILE), threads)
        layers, _, _, kv_heads, _, head_size = next(item for item in self._session.get_inputs() if item.name == "past").shape
        self._empty = np.zeros((layers, 2, 1, kv_heads, 0, head_size), dtype=np.float32)
        self._lock = threading.Lock()
        self._closed = False

    def count_tokens(self, text: str) -> int:
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)

    async def answer(self, prompts: Sequence[Prompt], *, deadline_s: float) -> list[Answer]:
        end = time.monotonic() + deadline_s
        return await asyncio.to_thread(self._answer_all, list(prompts), end)

    async def aclose(self) -> None:
        self._closed = True

    def answer_now(self, prompt: Prompt, *, deadline_s: float) -> Answer:
        """`answer` for one prompt in the calling thread, for callers without an event loop."""
        return self._answer_all([prompt], time.monotonic() + deadline_s)[0]

    async def write_free(self, prompts: Sequence[Prompt], *, deadline_s: float) -> list[Answer]:
        """`answer` without the automaton: the likeliest token each time, until the model stops or `FREE_TOKENS` are written.

        No service uses it: it tells how often the model would leave the schema. There are no probabilities.
        """
        end = time.monotonic() + deadline_s
        return await asyncio.to_thread(lambda: [self._write_one(prompt, end) for prompt in prompts])

    def _write_one(self, prompt: Prompt, end: float) -> Answer:
        ids = self._tokenizer.encode(render_chatml(prompt), add_special_tokens=False).ids
        if len(ids) > PROMPT_TOKENS:
            return Failure("too_long", f"{len(ids)} prompt tokens")
        stop = self._tokenizer.token_to_id(STOP_TOKEN)
        assert stop is not None
        with self._lock:
            if self._closed:
                return Failure("unavailable", "the engine is closed")
            try:
                written = _Walk(self._session, self._automaton, self._empty, end).write_free(np.array(ids, dtype=np.int64), stop)
            except _DeadlineError:
                return Failure("timeout", "the deadline passed while writing")
        text = self._tokenizer.decode([token for token in written if token != stop], skip_special_tokens=False)
        answer = parse_answer(text, self._taxonomy, finished=written[-1] == stop)
        answer = with_details(answer, probabilities={}, prompt_tokens=len(ids), output_tokens=len(written))
        return with_flag(answer, "cut") if prompt.cut else answer

    def _answer_all(self, prompts: list[Prompt], end: float) -> list[Answer]:
        answers: list[Answer] = []
        for prompt in prompts:
            with self._lock:
                answers.append(Failure("unavailable", "the engine is closed") if self._closed else self._answer_one(prompt, end))
        return answers

    def _answer_one(self, prompt: Prompt, end: float) -> Answer:
        ids = self._tokenizer.encode(render_chatml(prompt), add_special_tokens=False).ids
        if len(ids) > PROMPT_TOKENS:
            return Failure("too_long", f"{len(ids)} prompt tokens")
        walk = _Walk(self._session, self._automaton, self._empty, end)
        try:
            labels, probabilities = walk.decide(np.array(ids, dtype=np.int64))
            summary = self._extract(prompt, labels["category"], end) if self._extracts else json.loads(f'"{walk.write_summary().decode()}"')
        except _DeadlineError:
            return Failure("timeout", "the deadline passed while decoding")
        except _ContextError:
            return Failure("truncated", "the summary outgrew the context", prompt_tokens=len(ids), output_tokens=walk.length - len(ids))
        except Exception as error:  # onnxruntime's errors have no common base; one message must not take its neighbours along
            return Failure("unavailable", f"the model failed: {type(error).__name__}")
        decided = {field: json.loads(label) if field == "needs_human" else label for field, label in labels.items()}
        answer = parse_answer(json.dumps({**decided, "summary": summary}), self._taxonomy)
        answer = with_details(answer, probabilities=probabilities, prompt_tokens=len(ids), output_tokens=walk.length - len(ids))
        return with_flag(answer, "cut") if prompt.cut else answer

    def _extract(self, prompt: Prompt, category: str, end: float) -> str:
        """The candidate sentence that, as a message of its own, makes the category most likely. One batched pass."""
        sentences = candidate_sentences(prompt.newest)
        if len(sentences) == 1:
            return sentences[0]
        if time.monotonic() > end:
            raise _DeadlineError
        trie, prefix = self._automaton.tries["category"], self._automaton.prefix_ids["category"]
        opening, closing = self._frame
        rows = [np.concatenate([opening, self._automaton.encode(sentence)[:SENTENCE_TOKENS], closing, prefix, trie.tokens]) for sentence in sentences]
        nodes, longest = len(trie.tokens), max(map(len, rows))
        ids = np.zeros((len(rows), longest), dtype=np.int64)
        positions = np.zeros((len(rows), longest), dtype=np.int64)
        mask = np.zeros((len(rows), 1, longest, longest), dtype=np.bool_)
        mask[:, :, :, 0] = True  # padding has to attend to something, or its softmax is not a number
        select = np.zeros((len(rows), nodes + 1), dtype=np.int64)
        for row, tokens in enumerate(rows):
            fixed = len(tokens) - nodes
            ids[row, : len(tokens)] = tokens
            positions[row, : len(tokens)] = np.concatenate([np.arange(fixed), fixed + trie.depths])
            mask[row, 0, :fixed, :fixed] = np.tri(fixed, dtype=np.bool_)
            mask[row, 0, fixed : len(tokens), :fixed] = True
            mask[row, 0, fixed : len(tokens), fixed : len(tokens)] = trie.visible
            select[row] = np.arange(fixed - 1, len(tokens))
        past = np.repeat(self._empty, len(rows), axis=2)
        logits, _ = self._session.run(None, {"input_ids": ids, "position_ids": positions, "mask": mask, "past": past, "select": select})
        place = trie.labels.index(category)
        shares = [trie.score_labels(scores[0], scores[1:])[place] for scores in logits]
        return sentences[int(np.argmax(shares))]


class _Walk:
    """One message on its way through the automaton: the cache so far and the logits at its end."""

    def __init__(self, session: Any, automaton: TicketAutomaton, empty: Floats, end: float) -> None:
        self._session = session
        self._automaton = automaton
        self._end = end
        layers, two, one, heads, _, size = empty.shape
        self._cache = np.empty((layers, two, one, heads, CONTEXT_TOKENS, size), dtype=np.float32)
        self.length = 0
        """Tokens in the cache."""

    def decide(self, prompt: NDArray[np.int64]) -> tuple[dict[str, str], dict[str, float]]:
        """The label of each decided field and its probability."""
        labels, probabilities, pending = dict[str, str](), dict[str, float](), prompt
        for field in LABEL_FIELDS:
            pending = np.concatenate([pending, self._automaton.prefix_ids[field]])
            labels[field], probabilities[field] = self._choose_label(field, pending)
            pending = np.zeros(0, dtype=np.int64)
        return labels, probabilities

    def _choose_label(self, field: str, pending: NDArray[np.int64]) -> tuple[str, float]:
        """Score every label in one pass, keep the best one's keys and values, and return it with its probability."""
        trie = self._automaton.tries[field]
        fixed, nodes = len(pending), len(trie.tokens)
        positions = np.concatenate([np.arange(fixed), fixed + trie.depths]) + self.length
        mask = np.zeros((fixed + nodes, self.length + fixed + nodes), dtype=np.bool_)
        mask[:, : self.length] = True
        mask[:fixed, self.length : self.length + fixed] = np.tri(fixed, dtype=np.bool_)
        mask[fixed:, self.length : self.length + fixed] = True
        mask[fixed:, self.length + fixed :] = trie.visible
        select = np.arange(fixed - 1, fixed + nodes)
        logits, present = self._forward(np.concatenate([pending, trie.tokens]), positions, mask, select)
        shares = trie.score_labels(logits[0], logits[1:])
        best = int(shares.argmax())
        self._keep(present[..., [*range(fixed), *(fixed + node for node in trie.paths[best])], :])
        return trie.labels[best], round(float(shares[best]), 6)

    def write_summary(self) -> bytes:
        """The summary as JSON string content in UTF-8, greedily, at most `SUMMARY_CHARACTERS` code points."""
        pending, state = self._automaton.prefix_ids["summary"], self._automaton.summary_start
        remaining, written = SUMMARY_CHARACTERS, list[int]()
        while True:
            count = len(pending)
            mask = np.ones((count, self.length + count), dtype=np.bool_)
            mask[:, self.length :] = np.tri(count, dtype=np.bool_)
            logits, present = self._forward(pending, np.arange(count) + self.length, mask, np.array([count - 1]))
            self._keep(present)
            allowed = self._automaton.allowed_tokens(state, remaining)
            token = int(allowed[logits[0][allowed].argmax()])
            remaining -= self._automaton.characters(state, token)
            following = self._automaton.next_state(state, token)
            written.append(token)
            if following is None:
                return self._automaton.closing_bytes(written)
            state, pending = following, np.array([token], dtype=np.int64)

    def write_free(self, prompt: NDArray[np.int64], stop: int) -> list[int]:
        """What follows a prompt greedily, `stop` included where the model comes to it; at most `FREE_TOKENS`."""
        pending, written = prompt, list[int]()
        while len(written) < FREE_TOKENS and stop not in written[-1:]:
            count = len(pending)
            mask = np.ones((count, self.length + count), dtype=np.bool_)
            mask[:, self.length :] = np.tri(count, dtype=np.bool_)
            logits, present = self._forward(pending, np.arange(count) + self.length, mask, np.array([count - 1]))
            self._keep(present)
            written.append(int(logits[0].argmax()))
            pending = np.array(written[-1:], dtype=np.int64)
        return written

    def _forward(
        self, tokens: NDArray[np.int64], positions: NDArray[np.int64], mask: NDArray[np.bool_], select: NDArray[np.int64]
    ) -> tuple[Floats, Floats]:
        """Logits of the selected places, (selected, vocabulary), and the new keys and values, (layers, 2, 1, heads, new, size)."""
        if time.monotonic() > self._end:
            raise _DeadlineError
        feed = {
            "input_ids": tokens[None],
            "position_ids": positions[None],
            "mask": mask[None, None],
            "past": self._cache[..., : self.length, :],
            "select": select[None],
        }
        logits, present = self._session.run(["logits", "present"], feed)
        return logits[0], present

    def _keep(self, present: Floats) -> None:
        count = present.shape[4]
        if self.length + count > CONTEXT_TOKENS:
            raise _ContextError
        self._cache[..., self.length : self.length + count, :] = present
        self.length += count


def load_tokenizer(release: Release) -> Tokenizer:
    """The tokenizer of a bundle.

    Raises:
        ReleaseError: the bundle lacks a file that an embedded release consists of.
        EngineError: the tokenizer cannot be loaded.
    """
    if missing := [name for name in (MODEL_FILE, TOKENIZER_FILE) if name not in release.manifest.files]:
        raise ReleaseError(f"the release in {release.folder} has no {' and no '.join(missing)}", "name an embedded release")
    try:
        return Tokenizer.from_file(str(release.path(TOKENIZER_FILE)))
    except Exception as error:  # tokenizers raises bare Exception
        raise EngineError(f"{release.path(TOKENIZER_FILE)} is no tokenizer", "restore the bundle from where it was made") from error


def load_embedded_engine(taxonomy: Taxonomy, folder: Path = EMBEDDED_RELEASE_DIR, *, threads: int | None = None) -> EmbeddedEngine:
    """Verify a bundle and start an engine on it.

    Raises:
        ReleaseError: the bundle is missing, damaged or of another taxonomy.
        EngineError: the model in it cannot be loaded.
    """
    return EmbeddedEngine(load_release(folder, taxonomy), taxonomy, threads=threads)


def _load_session(path: Path, threads: int | None) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or min(4, os.cpu_count() or 1)
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises its own types for a file it cannot read
        raise EngineError(f"onnxruntime cannot load {path}: {type(error).__name__}", "install the package again, or run `triage doctor`") from error
