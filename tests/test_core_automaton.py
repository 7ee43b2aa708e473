"""The automaton: tokenisation that equals training's, the trie's probabilities, the summary's counter."""

from __future__ import annotations

import itertools
import json
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from tests.conftest import BILLING
from triage.automaton import TicketAutomaton, prefix_text
from triage.errors import EngineError
from triage.label_trie import LabelTrie
from triage.paths import EMBEDDED_RELEASE_DIR
from triage.taxonomy import LABEL_FIELDS, SUMMARY_CHARACTERS, Taxonomy, parse_taxonomy
from triage.ticket import TICKET_FIELDS, Ticket, render_ticket


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(EMBEDDED_RELEASE_DIR / "tokenizer.json"))


@pytest.fixture(scope="module")
def automaton(taxonomy: Taxonomy, tokenizer: Tokenizer) -> TicketAutomaton:
    return TicketAutomaton(taxonomy, tokenizer)


def _own_taxonomy(*labels: str) -> Taxonomy:
    entries = [{"label": label, "meaning": "x"} for label in labels]
    fallback = {"category": labels[0], "urgency": labels[0], "needs_human": True, "next_action": labels[0], "summary": "Unread."}
    content = {"name": "own", "version": "1", "category": entries, "urgency": entries, "next_action": entries}
    return parse_taxonomy({**content, "policy": {"action_with_person": labels[0]}, "fallback": fallback}, source="own")


OWN = [
    ("a", "b"),
    ("refund", "refund_status", "refund_status_late"),
    ("tier1", "tier2", "1st_line", "2"),
    ("vpn", "laptop_repair", "x9_y8_z7", "on_boarding", "q" * 40),
]


@pytest.mark.parametrize("labels", OWN)
def test_prefix_label_and_suffix_tokenised_apart_equal_the_whole(tokenizer: Tokenizer, labels: tuple[str, ...]) -> None:
    own = _own_taxonomy(*labels)
    _assert_apart_equals_whole(TicketAutomaton(own, tokenizer), own)


def test_the_default_taxonomy_is_tokenised_as_in_training(automaton: TicketAutomaton, taxonomy: Taxonomy) -> None:
    _assert_apart_equals_whole(automaton, taxonomy)


def _assert_apart_equals_whole(automaton: TicketAutomaton, taxonomy: Taxonomy) -> None:
    widest = max(len(taxonomy.labels(field)) for field in LABEL_FIELDS)
    for place in range(widest):
        chosen = {field: taxonomy.labels(field)[place % len(taxonomy.labels(field))] for field in LABEL_FIELDS}
        ticket = Ticket.model_validate({**chosen, "needs_human": chosen["needs_human"] == "true", "summary": "It broke."})
        pieces = [piece for field in LABEL_FIELDS for piece in (automaton.prefix_ids[field], automaton.encode(chosen[field]))]
        pieces += [automaton.prefix_ids["summary"], automaton.encode('It broke."}')]
        assert list(itertools.chain(*pieces)) == list(automaton.encode(render_ticket(ticket)))
        assert automaton.accepts([int(token) for token in automaton.encode(render_ticket(ticket))])


def test_a_tokenizer_that_joins_labels_with_quotes_is_refused(taxonomy: Taxonomy) -> None:
    careless = Tokenizer(models.BPE())
    careless.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    careless.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=800, special_tokens=["<end>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    careless.train_from_iterator([render_ticket(BILLING)] * 50, trainer)
    with pytest.raises(EngineError, match=r"joins labels with the text around them: .*category 'billing'"):
        TicketAutomaton(taxonomy, careless)


def test_the_fixed_text_and_the_fields_make_up_a_ticket() -> None:
    values = ["billing", "medium", "true", "check_billing", BILLING.summary]
    text = "".join(prefix_text(field) + value for field, value in zip(TICKET_FIELDS, values, strict=True)) + '"}'
    assert text == render_ticket(BILLING)


def test_a_trie_gives_the_probabilities_computed_by_hand() -> None:
    trie = LabelTrie(
        labels=("a", "ab"),
        tokens=np.array([1, 2]),
        parents=np.array([-1, 0]),
        depths=np.array([0, 1]),
        paths=((0,), (0, 1)),
        terminator=0,
    )
    assert trie.branches == (0,)  # nothing but 1 can come first; after it 2, or the end
    assert trie.asked.tolist() == [0]
    assert trie.vocabulary.tolist() == [0, 2]
    logits = np.log(np.array([[[0.25, 0.5]], [[0.1, 0.8]]], dtype=np.float32))
    assert trie.score_labels(logits) == pytest.approx(np.array([[1 / 3, 2 / 3], [1 / 9, 8 / 9]]), abs=1e-6)


def test_a_label_is_as_likely_as_the_product_of_its_branches() -> None:
    trie = LabelTrie(
        labels=("b", "ca", "cb"),
        tokens=np.array([5, 7, 8, 9]),
        parents=np.array([-1, -1, 1, 1]),
        depths=np.array([0, 0, 1, 1]),
        paths=((0,), (1, 2), (1, 3)),
        terminator=0,
    )
    assert trie.branches == (-1, 1)
    assert trie.asked.tolist() == [1]
    assert trie.vocabulary.tolist() == [5, 7, 8, 9]
    shares = np.array([[0.2, 0.6, 0.1, 0.1], [0.3, 0.3, 0.1, 0.3]])  # what may not follow counts for nothing: 1/4 and 3/4, then 1/4 and 3/4
    assert trie.score_labels(np.log(shares)[None].astype(np.float32)) == pytest.approx(np.array([[1 / 4, 3 / 16, 9 / 16]]), abs=1e-6)


def test_a_whole_label_is_as_likely_as_all_its_tokens() -> None:
    trie = LabelTrie(("a", "ab"), np.array([1, 2]), np.array([-1, 0]), np.array([0, 1]), ((0,), (0, 1)), terminator=0)
    shares = np.array([[0.1, 0.8, 0.1], [0.1, 0.1, 0.8], [0.5, 0.25, 0.25]])
    # a: 0.8 * 0.1 = 0.08; ab: 0.8 * 0.8 * 0.5 = 0.32
    assert trie.score_whole_labels(np.log(shares)[None].astype(np.float32)) == pytest.approx(np.array([[0.2, 0.8]]), abs=1e-6)


def test_a_field_with_one_label_is_certain() -> None:
    only = LabelTrie(("a",), np.array([1]), np.array([-1]), np.array([0]), ((0,),), terminator=0)
    assert only.branches == ()
    assert only.score_labels(np.zeros((2, 0, 0), dtype=np.float32)).tolist() == [[1.0], [1.0]]


def test_each_trie_node_sees_its_ancestors_and_itself_alone(automaton: TicketAutomaton) -> None:
    for trie in automaton.tries.values():
        for path in trie.paths:
            for depth, node in enumerate(path):
                assert set(np.flatnonzero(trie.visible[node])) == set(path[: depth + 1])
                assert trie.depths[node] == depth


@given(seed=st.integers(0, 10_000), greed=st.sampled_from(["first", "longest", "any", "costliest"]))
def test_every_walk_through_the_summary_is_valid_json_within_the_limit(automaton: TicketAutomaton, seed: int, greed: str) -> None:
    draw = random.Random(seed)
    state: int | None = automaton.summary_start
    remaining, written = SUMMARY_CHARACTERS, list[int]()
    while state is not None:
        allowed = automaton.allowed_tokens(state, remaining)
        assert len(allowed) > 0
        if greed == "first":
            token = int(allowed[0])
        elif greed == "longest":
            token = max(map(int, draw.sample(list(allowed), min(50, len(allowed)))), key=lambda item: len(automaton.token_bytes[item]))
        elif greed == "costliest":
            now = state
            token = max(map(int, draw.sample(list(allowed), min(50, len(allowed)))), key=lambda item: automaton.characters(now, item))
        else:
            token = int(draw.choice(list(allowed)))
        remaining -= automaton.characters(state, token)
        state = automaton.next_state(state, token)
        written.append(token)
        assert len(written) <= 4 * SUMMARY_CHARACTERS
    text = automaton.closing_bytes(written).decode("utf-8")
    assert 1 <= len(json.loads(f'"{text}"')) <= SUMMARY_CHARACTERS
    prefix = [token for field in LABEL_FIELDS for token in (*automaton.prefix_ids[field], *automaton.encode(automaton.taxonomy.labels(field)[0]))]
    assert automaton.accepts([*prefix, *automaton.prefix_ids["summary"], *automaton.encode(text + '"}')]) or "\\" in text


def test_a_token_that_is_not_allowed_is_an_error(automaton: TicketAutomaton) -> None:
    end = 0
    with pytest.raises(ValueError, match="not allowed"):
        automaton.next_state(automaton.summary_start, end)


def test_a_full_summary_can_only_be_closed(automaton: TicketAutomaton) -> None:
    state = automaton.next_state(automaton.summary_start, int(automaton.encode("a")[0]))
    assert state is not None
    for token in automaton.allowed_tokens(state, 0):
        assert automaton.token_bytes[token] in (b'"', b'"}') or all(byte & 0xC0 == 0x80 for byte in automaton.token_bytes[token])
