"""How well a model in training decides labels: each field by itself, after its own labels before, as serving decides.

A quick look while training, without policy; eval scores the served engine.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tokenizers import Tokenizer
from transformers import PreTrainedModel

from training.examples import IGNORED, TokenSequence, encode_example
from triage.automaton import TicketAutomaton
from triage.dataset import Example
from triage.taxonomy import LABEL_FIELDS, Taxonomy


@torch.no_grad()
def decide_labels(model: PreTrainedModel, prompts: Sequence[list[int]], automaton: TicketAutomaton, *, batch_rows: int = 512) -> list[dict[str, str]]:
    """The likeliest label of each field for each prompt, as token ids; batches of rows, one row a label."""
    walks = [list(prompt) for prompt in prompts]
    found: list[dict[str, str]] = [{} for _ in prompts]
    for field in LABEL_FIELDS:
        trie = automaton.tries[field]
        endings = [[int(trie.tokens[node]) for node in path] + [trie.terminator] for path in trie.paths]
        walks = [walk + [int(token) for token in automaton.prefix_ids[field]] for walk in walks]
        order = sorted(range(len(walks)), key=lambda place: len(walks[place]))
        step = max(1, batch_rows // len(endings))
        for start in range(0, len(order), step):
            places = order[start : start + step]
            rows = [(place, ending) for place in places for ending in endings]
            longest = max(len(walks[place]) + len(ending) for place, ending in rows)
            ids = torch.tensor(
                [walks[place] + ending + [0] * (longest - len(walks[place]) - len(ending)) for place, ending in rows], device=model.device
            )
            states = model.model(input_ids=ids, use_cache=False).last_hidden_state
            scores = []
            for row, (place, ending) in enumerate(rows):
                begin = len(walks[place]) - 1
                logprobs = torch.log_softmax(model.lm_head(states[row, begin : begin + len(ending)]).float(), dim=-1)
                scores.append(logprobs[torch.arange(len(ending)), torch.tensor(ending)].sum())
            best = torch.stack(scores).view(len(places), len(endings)).argmax(dim=1).tolist()
            for place, label in zip(places, best, strict=True):
                found[place][field] = trie.labels[label]
                walks[place] = walks[place] + endings[label][:-1]
    return found


def measure_on(
    model: PreTrainedModel, examples: Sequence[Example], taxonomy: Taxonomy, tokenizer: Tokenizer, *, text_budget: int
) -> dict[str, float]:
    """Shares of examples with the right label by field and in all four, macro-F1 of the category, and the loss of the true summary."""
    automaton = TicketAutomaton(taxonomy, tokenizer)
    sequences = [encode_example(example, example.labels, taxonomy, tokenizer, text_budget=text_budget) for example in examples]
    found = decide_labels(model, [sequence.ids[: sequence.targets.count(IGNORED)] for sequence in sequences], automaton)
    right = [{field: labels[field] == example.labels.label(field) for field in LABEL_FIELDS} for labels, example in zip(found, examples, strict=True)]
    metrics = {field: sum(row[field] for row in right) / len(right) for field in LABEL_FIELDS}
    metrics["all_four"] = sum(all(row.values()) for row in right) / len(right)
    metrics["category_macro_f1"] = _macro_f1([example.labels.category for example in examples], [labels["category"] for labels in found])
    losses = [
        _summary_loss(model, sequence, len(automaton.encode(example.labels.summary))) for sequence, example in zip(sequences, examples, strict=True)
    ]
    metrics["summary_loss"] = sum(losses) / len(losses)
    return {name: round(value, 4) for name, value in metrics.items()}


def _macro_f1(wanted: Sequence[str], found: Sequence[str]) -> float:
    """The mean over the labels that occur in `wanted`."""
    scores = []
    for label in set(wanted):
        hits = sum(left == right == label for left, right in zip(wanted, found, strict=True))
        scores.append(2 * hits / (wanted.count(label) + found.count(label)))
    return sum(scores) / len(scores)


@torch.no_grad()
def _summary_loss(model: PreTrainedModel, sequence: TokenSequence, summary_tokens: int) -> float:
    """Mean loss in nats over the last tokens of an answer: its summary and what closes it."""
    ids = torch.tensor([sequence.ids], device=model.device)
    count = summary_tokens + 2
    logits = model(input_ids=ids, use_cache=False).logits[0, -count - 1 : -1].float()
    return float(torch.nn.functional.cross_entropy(logits, ids[0, -count:]))
