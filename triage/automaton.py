"""The ticket's schema over a tokenizer's vocabulary: which tokens may come next, and where each leads.

An answer is fixed text, four labels, and a summary. Fixed text is forced as *bytes* in the tokenisation that training
produces: only 5 of some 50 tokens of a ticket are forced as tokens, because a vocabulary offers many ways to write the
same bytes. Labels are a trie of token paths, to be scored at once. The summary walks the index that outlines-core
builds (Willard & Louf, "Efficient Guided Generation for Large Language Models", arXiv 2307.09702), here as plain
arrays, with a counter of code points beside it instead of a `maxLength` in the schema.

It knows no model: engines feed it logits and tokens.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from outlines_core import Index, Vocabulary
from outlines_core.json_schema import build_regex_from_schema
from tokenizers import Tokenizer

from triage.errors import EngineError
from triage.label_trie import LabelTrie, Tokens
from triage.taxonomy import LABEL_FIELDS, SUMMARY_CHARACTERS, Taxonomy
from triage.ticket import TICKET_FIELDS, decoding_schema


@dataclass(frozen=True)
class _SummaryState:
    """What may follow in one state of the summary. All arrays run over the allowed tokens."""

    tokens: Tokens
    next_states: NDArray[np.int64]
    needed: NDArray[np.int64]
    """Code points that must be left for the token to be allowed: its own and those needed to close after it."""
    spent: NDArray[np.int64]
    """Code points that the token adds to the summary."""


class TicketAutomaton:
    """The automaton of one taxonomy over one tokenizer. Immutable; build it once and share it.

    Raises:
        EngineError: the tokenizer joins a label with the text around it, so that training and decoding would differ.
    """

    def __init__(self, taxonomy: Taxonomy, tokenizer: Tokenizer) -> None:
        self.taxonomy = taxonomy
        self._tokenizer = tokenizer
        self.token_bytes = vocabulary_bytes(tokenizer)
        self.vocabulary_size = tokenizer.get_vocab_size(with_added_tokens=True)
        self.prefixes = {field: prefix_text(field) for field in TICKET_FIELDS}
        """The fixed text before each field, with everything since the field before it."""
        self.prefix_ids = {field: self.encode(text) for field, text in self.prefixes.items()}
        check_tokenisation(taxonomy, tokenizer)
        self.tries = {field: self._build_trie(field) for field in LABEL_FIELDS}
        self._index = self._build_index()
        self.summary_start = self._walk_to_summary()
        self._summary = self._summary_states()

    def encode(self, text: str) -> Tokens:
        """Token ids of a text, without special tokens."""
        return np.array(self._tokenizer.encode(text, add_special_tokens=False).ids, dtype=np.int64)

    def allowed_tokens(self, state: int, remaining: int = SUMMARY_CHARACTERS) -> Tokens:
        """The tokens that may follow in a state of the summary when `remaining` code points are left. Never empty."""
        entry = self._summary[state]
        return entry.tokens[entry.needed <= remaining]

    def next_state(self, state: int, token: int) -> int | None:
        """Where an allowed token leads; None when it closes the summary, after which everything is forced."""
        entry = self._summary[state]
        found = int(entry.next_states[self._place(entry, token)])
        return found if found in self._summary else None

    def characters(self, state: int, token: int) -> int:
        """How many code points of the summary an allowed token adds."""
        entry = self._summary[state]
        return int(entry.spent[self._place(entry, token)])

    def closing_bytes(self, tokens: Sequence[int]) -> bytes:
        """The bytes of a summary's tokens without the quote and brace that the last of them may hold."""
        text = b"".join(self.token_bytes[token] for token in tokens)
        return text.removesuffix(b"}").removesuffix(b'"')

    def accepts(self, tokens: Sequence[int]) -> bool:
        """True when a whole answer, as tokens, obeys the schema."""
        state: int | None = self._index.get_initial_state()
        for token in tokens:
            state = None if state is None else self._index.get_next_state(state, int(token))
        return state is not None and self._index.is_final_state(state)

    @staticmethod
    def _place(entry: _SummaryState, token: int) -> int:
        place = int(np.searchsorted(entry.tokens, token))
        if place >= len(entry.tokens) or entry.tokens[place] != token:
            raise ValueError(f"token {token} is not allowed in this state")
        return place

    def _build_trie(self, field: str) -> LabelTrie:
        following = TICKET_FIELDS[TICKET_FIELDS.index(field) + 1]
        nodes: dict[tuple[int, ...], int] = {}
        labels = self.taxonomy.labels(field)
        paths = []
        for label in labels:
            ids = tuple(int(token) for token in self.encode(label))
            paths.append(tuple(nodes.setdefault(ids[: end + 1], len(nodes)) for end in range(len(ids))))
        return LabelTrie(
            labels=labels,
            tokens=np.array([path[-1] for path in nodes], dtype=np.int64),
            parents=np.array([nodes.get(path[:-1], -1) for path in nodes], dtype=np.int64),
            depths=np.array([len(path) - 1 for path in nodes], dtype=np.int64),
            paths=tuple(paths),
            terminator=int(self.prefix_ids[following][0]),
        )

    def _build_index(self) -> Index:
        regex = build_regex_from_schema(json.dumps(decoding_schema(self.taxonomy)), whitespace_pattern="")
        by_bytes: dict[bytes, list[int]] = {}
        for token, content in enumerate(self.token_bytes):
            if content:
                by_bytes.setdefault(content, []).append(token)
        end = next(token for token, content in enumerate(self.token_bytes) if not content)
        return Index(regex, Vocabulary(end, by_bytes))

    def _walk_to_summary(self) -> int:
        """The index's state at the summary's first character; reached by any labels, here by the first of each field."""
        state: int | None = self._index.get_initial_state()
        for field in TICKET_FIELDS:
            ids = list(self.prefix_ids[field])
            if field in LABEL_FIELDS:
                ids += list(self.encode(self.taxonomy.labels(field)[0]))
            for token in ids:
                state = None if state is None else self._index.get_next_state(state, int(token))
        if state is None:
            raise EngineError("the schema's index refuses the canonical text of a ticket", "this is a fault of this program: please report it")
        return state

    def _summary_states(self) -> dict[int, _SummaryState]:
        """The states inside the summary's quotes, as arrays."""
        transitions = self._index.get_transitions()
        reachable, waiting = {self.summary_start}, [self.summary_start]
        while waiting:
            fresh = set(transitions.get(waiting.pop(), {}).values()) - reachable
            reachable |= fresh
            waiting += fresh
        letter = int(self.encode("a")[0])
        body = transitions[self.summary_start][letter]
        reverse: dict[int, set[int]] = {state: set() for state in reachable}
        for state in reachable:
            for successor in transitions.get(state, {}).values():
                reverse[successor].add(state)
        inside, waiting = {body}, [body]
        while waiting:
            fresh = reverse[waiting.pop()] - inside
            inside |= fresh
            waiting += fresh
        raw: dict[int, tuple[Tokens, Tokens, Tokens]] = {}
        for state in inside:
            tokens = np.array(sorted(transitions[state]), dtype=np.int64)
            successors = np.array([transitions[state][int(token)] for token in tokens], dtype=np.int64)
            spent = np.array(
                [_code_points(self.token_bytes[token], closing=successor not in inside) for token, successor in zip(tokens, successors, strict=True)],
                dtype=np.int64,
            )
            raw[state] = (tokens, successors, spent)
        close = _cheapest_close(raw)
        states = {}
        for state, (tokens, successors, spent) in raw.items():
            after = np.array([close.get(int(successor), 0) for successor in successors], dtype=np.int64)
            states[state] = _SummaryState(tokens, successors, spent + after, spent)
        return states


def prefix_text(field: str) -> str:
    """The fixed text between the value before a field and the field's own value, quotes included."""
    place = TICKET_FIELDS.index(field)
    quoted_before = place > 0 and TICKET_FIELDS[place - 1] != "needs_human"
    opening = "{" if place == 0 else ('",' if quoted_before else ",")
    return f'{opening}"{field}":' + ("" if field == "needs_human" else '"')


def check_tokenisation(taxonomy: Taxonomy, tokenizer: Tokenizer) -> None:
    """Prove that prefix, label and suffix tokenised apart equal the whole, for every label of the taxonomy.

    Raises:
        EngineError: naming the fields and labels for which they differ.
    """

    def ids(text: str) -> list[int]:
        return list(tokenizer.encode(text, add_special_tokens=False).ids)

    joined = []
    for field, following in zip(TICKET_FIELDS, TICKET_FIELDS[1:], strict=False):
        before, after = prefix_text(field), prefix_text(following)
        for label in taxonomy.labels(field):
            if ids(before + label + after) != ids(before) + ids(label) + ids(after):
                joined.append(f"{field} {label!r}")
    if joined:
        raise EngineError(
            f"the tokenizer joins labels with the text around them: {', '.join(joined)}",
            "rename the labels, or use a tokenizer whose pre-tokenizer parts letters from quotes",
        )


def vocabulary_bytes(tokenizer: Tokenizer) -> list[bytes]:
    """The bytes each token of a byte-level BPE stands for, by token id; empty for special tokens."""
    special = {token for token, added in tokenizer.get_added_tokens_decoder().items() if added.special}
    alphabet = _byte_alphabet()
    content = [b""] * tokenizer.get_vocab_size(with_added_tokens=True)
    for text, token in tokenizer.get_vocab(with_added_tokens=True).items():
        if token not in special:
            content[token] = bytes(alphabet[character] for character in text)
    return content


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's printable stand-ins for the 256 bytes (github.com/openai/gpt-2, src/encoder.py)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + place): byte for place, byte in enumerate(others)}


def _code_points(content: bytes, *, closing: bool) -> int:
    """Code points that begin in these bytes; a token that closes the summary counts up to its quote.

    An escape such as `\\n` counts as two, so the bound holds for the decoded text as well.
    """
    if closing:
        content = content.removesuffix(b"}").removesuffix(b'"')
    return sum(byte & 0xC0 != 0x80 for byte in content)


def _cheapest_close(raw: dict[int, tuple[Tokens, Tokens, Tokens]]) -> dict[int, int]:
    """For each state, the fewest code points that still have to be written before the summary can be closed."""
    cost = dict.fromkeys(raw, 1 << 20)
    changed = True
    while changed:
        changed = False
        for state, (_, successors, spent) in raw.items():
            best = min(int(points) + cost.get(int(successor), 0) for successor, points in zip(successors, spent, strict=True))
            if best < cost[state]:
                cost[state], changed = best, True
    return cost
