"""Fine-tune the whole embedded base on labelled tickets: small, plain, seeded.

The loss is on the answer alone, each answer weighing the same. This is the trainer of the embedded release; adapters
for larger models are trained by the QLoRA trainer, which is not part of this file.

    python -m training.finetune --base FOLDER --train FILE --dev FILE --out FOLDER [--set key=value …]
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import tomllib
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from training.examples import IGNORED, TokenSequence, encode_example, labels_only, pad_batch, with_token_dropout
from triage.automaton import TicketAutomaton
from triage.dataset import Example, dataset_digest, load_examples
from triage.errors import RunError, TriageError
from triage.paths import weights_digest
from triage.run import RECORD_NAME, RunClock, write_run_record
from triage.taxonomy import LABEL_FIELDS, Taxonomy, load_taxonomy

CONFIG_PATH = Path(__file__).with_name("finetune.toml")


class FinetuneConfig(BaseModel):
    """One fine-tuning run, read from TOML and saved with the run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int
    """Seeds the order of examples."""
    epochs: int
    """Passes over the training examples."""
    batch_examples: int
    """Examples a step."""
    learning_rate: float
    """Peak rate of AdamW; it rises linearly and falls along a cosine to zero."""
    warmup_share: float
    """Share of the steps over which the rate rises."""
    weight_decay: float
    """On matrices only, never on norms."""
    label_weight: float
    """Weight in the loss of a token that occurs in some label of the taxonomy, wherever it stands in the answer; others weigh 1."""
    noisy_share: float
    """Share of the examples, drawn anew in each epoch, of which the labels alone are learnt, from a message with replaced tokens."""
    token_dropout: float
    """Share of a noisy message's tokens that are replaced by random ones, so that no ticket's labels can be learnt by heart. Summaries
    are learnt from whole messages only: learnt from noisy ones, they become recollections of other tickets."""
    lowercase_share: float
    """Share of the examples whose message is read in lower case, anew in each epoch."""
    text_budget: int
    """Tokens of customer text; longer messages are cut exactly as serving cuts them."""


def load_config(overrides: dict[str, Any] | None = None) -> FinetuneConfig:
    """The settings of finetune.toml, with some replaced."""
    content = tomllib.loads(CONFIG_PATH.read_text(encoding="utf-8"))
    return FinetuneConfig.model_validate(content | (overrides or {}))


def fine_tune(
    model: PreTrainedModel,
    sequences: list[TokenSequence],
    lowered: list[TokenSequence],
    config: FinetuneConfig,
    *,
    label_tokens: set[int],
    summary_prefix: list[int],
    device: torch.device,
) -> float:
    """Train in place and return the mean weighted loss of the last epoch; a line is printed each epoch.

    `lowered` holds the same examples with their messages in lower case; `label_tokens` are those that labels are made of,
    `summary_prefix` those between the labels and the summary.
    """
    draw = random.Random(config.seed)
    pad, vocabulary = model.config.pad_token_id, model.config.vocab_size
    is_label = torch.zeros(vocabulary, dtype=torch.bool, device=device)
    is_label[sorted(label_tokens)] = True
    model.to(device).train()
    matrices = [weight for weight in model.parameters() if weight.ndim >= 2]
    vectors = [weight for weight in model.parameters() if weight.ndim < 2]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98))
    total = config.epochs * math.ceil(len(sequences) / config.batch_examples)
    step, mean = 0, float("nan")
    for epoch in range(config.epochs):
        places = list(range(len(sequences)))
        draw.shuffle(places)
        losses = []
        for start in range(0, len(places), config.batch_examples):
            chosen = places[start : start + config.batch_examples]
            batch = [(lowered if draw.random() < config.lowercase_share else sequences)[place] for place in chosen]
            batch = [
                labels_only(with_token_dropout(sequence, config.token_dropout, vocabulary, draw), summary_prefix)
                if draw.random() < config.noisy_share
                else sequence
                for sequence in batch
            ]
            ids, mask, targets = (torch.tensor(rows, device=device) for rows in pad_batch(batch, pad))
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
                logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
            wanted = targets[:, 1:].flatten()
            each = torch.nn.functional.cross_entropy(logits[:, :-1].float().flatten(0, 1), wanted, ignore_index=IGNORED, reduction="none")
            weights = torch.where(is_label[wanted.clamp(min=0)], config.label_weight, 1.0) * (wanted != IGNORED)
            loss = (each * weights).sum() / weights.sum()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            step += 1
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate * _rate(step / total, config.warmup_share)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            losses.append(float(loss.detach()))
        mean = sum(losses) / len(losses)
        print(f"epoch {epoch + 1}/{config.epochs}  loss {mean:.4f}", flush=True)
    model.eval()
    return mean


@torch.no_grad()
def measure_on(model: PreTrainedModel, examples: list[Example], taxonomy: Taxonomy, tokenizer: Tokenizer, config: FinetuneConfig) -> dict[str, float]:
    """Share of examples whose label is the likeliest, field by field, each given the true labels before it; and the summary's loss.

    A quick look while training, kinder than serving to all fields but the first; eval scores the served engine.
    """
    automaton = TicketAutomaton(taxonomy, tokenizer)
    right = dict.fromkeys(LABEL_FIELDS, 0)
    summary_losses = []
    for example in examples:
        sequence = encode_example(example, example.labels, taxonomy, tokenizer, text_budget=config.text_budget)
        prompt_length = sequence.targets.count(IGNORED)
        ids = sequence.ids[:prompt_length]
        for field in LABEL_FIELDS:
            ids = ids + [int(token) for token in automaton.prefix_ids[field]]
            if _best_label(model, automaton, field, ids) == example.labels.label(field):
                right[field] += 1
            ids = ids + [int(token) for token in automaton.encode(example.labels.label(field))]
        summary_losses.append(_summary_loss(model, sequence, len(automaton.encode(example.labels.summary))))
    shares = {field: round(count / len(examples), 4) for field, count in right.items()}
    return shares | {"summary_loss": round(sum(summary_losses) / len(summary_losses), 4)}


def _summary_loss(model: PreTrainedModel, sequence: TokenSequence, summary_tokens: int) -> float:
    """Mean loss in nats over the last tokens of an answer: its summary and what closes it."""
    ids = torch.tensor([sequence.ids], device=model.device)
    count = summary_tokens + 2
    logits = model(input_ids=ids, use_cache=False).logits[0, -count - 1 : -1].float()
    return float(torch.nn.functional.cross_entropy(logits, ids[0, -count:]))


def _best_label(model: PreTrainedModel, automaton: TicketAutomaton, field: str, ids: list[int]) -> str:
    trie = automaton.tries[field]
    endings = [[int(trie.tokens[node]) for node in path] + [trie.terminator] for path in trie.paths]
    longest = max(map(len, endings))
    rows = torch.tensor([ids + ending + [0] * (longest - len(ending)) for ending in endings], device=model.device)
    logprobs = torch.log_softmax(model(input_ids=rows, use_cache=False).logits[:, len(ids) - 1 : -1].float(), dim=-1)
    sums = [sum(float(logprobs[row, place, token]) for place, token in enumerate(ending)) for row, ending in enumerate(endings)]
    return trie.labels[max(range(len(sums)), key=sums.__getitem__)]


def _rate(done: float, warmup_share: float) -> float:
    if done < warmup_share:
        return done / warmup_share
    return 0.5 * (1 + math.cos(math.pi * (done - warmup_share) / (1 - warmup_share)))


def run(base: Path, train: Path, dev: Path | None, out: Path, config: FinetuneConfig, taxonomy: Taxonomy) -> dict[str, float]:
    """The whole step, into a folder that holds no run yet: load, train, measure, and write weights in bf16, tokenizer, and `run.json` last."""
    if (out / RECORD_NAME).exists():
        raise RunError(f"{out} already holds a finished run", "name a new folder with --out")
    clock = RunClock()
    inputs = {"base": weights_digest(base), "train": dataset_digest([train]), "taxonomy": taxonomy.digest}
    torch.manual_seed(config.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    examples = load_examples([train], taxonomy)

    def encode(example: Example) -> TokenSequence:
        return encode_example(example, example.labels, taxonomy, tokenizer, text_budget=config.text_budget)

    sequences = [encode(example) for example in examples]
    lowered = [encode(example.model_copy(update={"message": example.message.lower()})) for example in examples]
    automaton = TicketAutomaton(taxonomy, tokenizer)
    label_tokens = {int(token) for trie in automaton.tries.values() for token in trie.tokens}
    summary_prefix = [int(token) for token in automaton.prefix_ids["summary"]]
    print(
        f"{len(sequences)} examples, {sum(len(sequence.ids) for sequence in sequences) / len(sequences):.0f} tokens each, on {device}",
        flush=True,
    )
    loss = fine_tune(model, sequences, lowered, config, label_tokens=label_tokens, summary_prefix=summary_prefix, device=device)
    model = model.to(torch.bfloat16)
    metrics: dict[str, float] = {"train_loss": round(loss, 4), "examples": len(sequences)}
    if dev is not None:
        measured = measure_on(model.float(), load_examples([dev], taxonomy), taxonomy, tokenizer, config)
        metrics |= {f"dev_{field}": share for field, share in measured.items()}
        inputs["dev"] = dataset_digest([dev])
    out.mkdir(parents=True, exist_ok=True)
    model.to(torch.bfloat16).save_pretrained(out, max_shard_size="15MB")
    AutoTokenizer.from_pretrained(base).save_pretrained(out)
    write_run_record(
        out,
        kind="finetune",
        clock=clock,
        config=config.model_dump(),
        inputs=inputs,
        outputs=sorted(path.name for path in out.iterdir() if path.is_file()),
        metrics=metrics,
        packages=("torch", "transformers", "tokenizers"),
        device=torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
    )
    print(json.dumps(metrics), flush=True)
    return metrics


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    for name in ("base", "train", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--dev", type=Path)
    parser.add_argument("--taxonomy", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="replace a setting of finetune.toml")
    arguments = parser.parse_args()
    try:
        overrides = tomllib.loads("\n".join(arguments.set))
        run(arguments.base, arguments.train, arguments.dev, arguments.out, load_config(overrides), load_taxonomy(arguments.taxonomy))
    except TriageError as error:
        sys.exit(f"error: {error}\nhint: {error.hint}")


if __name__ == "__main__":
    main()
