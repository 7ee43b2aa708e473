"""Fine-tune the whole embedded base on labelled tickets, and on unlabelled messages with the labels that teachers gave them.

The loss is on the answer alone. Tickets are read as they are, varied (`training.variations`) or with tokens replaced; summaries are
learnt from whole tickets only. Of a message that `training.teacher` labelled, labels are drawn anew each time it is read, and
the teachers' probabilities are what is learnt. The weights kept are a moving average. This is the trainer of the embedded
release; adapters for larger models are trained by the QLoRA trainer, which is not part of this file.

    python -m training.finetune --base FOLDER --train FILE --dev FILE --out FOLDER [--messages FILE --teacher FOLDER] [--set key=value …]
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tomllib
from collections import deque
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from training.batches import Part, StepBatches, TaughtMessages, Tickets
from training.finetune_config import FinetuneConfig, load_config
from training.measure import measure_on
from training.pool import load_pool
from triage.automaton import TicketAutomaton
from triage.dataset import dataset_digest, load_examples
from triage.errors import RunError, TriageError
from triage.paths import file_digest, weights_digest
from triage.run import RECORD_NAME, RunClock, write_run_record
from triage.taxonomy import Taxonomy, load_taxonomy


def fine_tune(
    model: PreTrainedModel, batches: StepBatches, config: FinetuneConfig, *, label_tokens: set[int], device: torch.device, workers: int
) -> float:
    """Train in place and return the mean weighted loss of the last twentieth of the steps; some twenty lines are printed.

    `label_tokens` are those that labels are made of; `workers` is how many processes make the batches, 0 for this one.
    """
    is_label = torch.zeros(int(model.config.vocab_size), dtype=torch.bool, device=device)
    is_label[sorted(label_tokens)] = True
    model.to(device).train()
    weights = list(model.parameters())
    average = [weight.detach().clone() for weight in weights]
    groups = [
        {"params": [weight for weight in weights if weight.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [weight for weight in weights if weight.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98), fused=device.type == "cuda")
    steps = len(batches)
    every = max(1, steps // 20)
    losses: deque[torch.Tensor] = deque(maxlen=every)
    mean = float("nan")
    for step, parts in enumerate(DataLoader(batches, batch_size=None, num_workers=workers), start=1):
        shares = (1.0,) if len(parts) == 1 else (config.ticket_share, 1 - config.ticket_share)
        losses.append(sum(_backward(model, part, share, is_label, config.label_weight, device) for part, share in zip(parts, shares, strict=True)))
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * _rate(step / steps, config.warmup_share)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        torch._foreach_lerp_(average, weights, 1 - min(config.average_decay, step / (step + 10)))
        if step % every == 0 or step == steps:
            mean = float(torch.stack(list(losses)).mean())
            print(f"step {step}/{steps}  loss {mean:.4f}", flush=True)
    with torch.no_grad():
        for weight, kept in zip(weights, average, strict=True):
            weight.copy_(kept)
    model.eval()
    return mean


def _backward(model: PreTrainedModel, part: Part, share: float, is_label: torch.Tensor, label_weight: float, device: torch.device) -> torch.Tensor:
    """Add a part's gradients to those of its step, with the weight `share`; returns its weighted loss."""
    ids, rows, places, tokens, shares = (each.to(device, non_blocking=True) for each in part)
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
        states = model.model(input_ids=ids, use_cache=False).last_hidden_state
        logits = model.lm_head(states[rows, places])
    each = -(shares * torch.log_softmax(logits.float(), dim=-1).gather(1, tokens)).sum(dim=1)
    weights = torch.where(is_label[tokens[:, 0]], label_weight, 1.0)
    loss = (each * weights).sum() / weights.sum() * share
    loss.backward()
    return loss.detach()


def _rate(done: float, warmup_share: float) -> float:
    if done < warmup_share:
        return done / warmup_share
    return 0.5 * (1 + math.cos(math.pi * (done - warmup_share) / (1 - warmup_share)))


def run(
    base: Path,
    train: Path,
    dev: Path | None,
    out: Path,
    config: FinetuneConfig,
    taxonomy: Taxonomy,
    *,
    messages: Path | None = None,
    teacher: Path | None = None,
    workers: int = 0,
) -> dict[str, float]:
    """The whole step, into a folder that holds no run yet: load, train, measure, and write weights in bf16, tokenizer, and `run.json` last.

    Raises:
        RunError: `out` holds a finished run, or `teacher` did not label `messages` for this taxonomy after this train split.
    """
    if (out / RECORD_NAME).exists():
        raise RunError(f"{out} already holds a finished run", "name a new folder with --out")
    clock = RunClock()
    inputs = {"base": weights_digest(base), "train": dataset_digest([train]), "taxonomy": taxonomy.digest}
    torch.manual_seed(config.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_float32_matmul_precision("high")
    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    examples = load_examples([train], taxonomy)
    tickets = Tickets(examples, taxonomy, tokenizer, config)
    taught = None
    if messages is not None and teacher is not None:
        if not messages.is_file():
            raise RunError(f"{messages} is not there", "make it with training.embedded_base.messages")
        inputs |= {"messages": file_digest(messages)}
        pool, digest = load_pool(teacher, inputs)
        inputs |= {"teacher": digest}
        texts = [json.loads(line)["text"] for line in messages.read_text(encoding="utf-8").splitlines()]
        taught = TaughtMessages(texts, pool, taxonomy, tokenizer, config)
    automaton = TicketAutomaton(taxonomy, tokenizer)
    label_tokens = {int(token) for trie in automaton.tries.values() for token in trie.tokens}
    batches = StepBatches(tickets, taught, config.epochs * tickets.batches, pad=int(model.config.pad_token_id))
    read = f"{len(examples)} tickets, {len(texts) if taught else 0} messages"
    print(f"{read}, {len(batches)} steps on {device}, ready after {clock.elapsed_s():.0f} s", flush=True)
    loss = fine_tune(model, batches, config, label_tokens=label_tokens, device=device, workers=workers)
    model = model.to(torch.bfloat16)
    metrics: dict[str, float] = {"train_loss": round(loss, 4), "examples": len(examples)}
    if dev is not None:
        measured = measure_on(model.float(), load_examples([dev], taxonomy), taxonomy, tokenizer, text_budget=config.text_budget)
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
    for name in ("dev", "taxonomy", "messages", "teacher"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--workers", type=int, default=0, help="processes that make the batches, beside the one that trains")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="replace a setting of finetune.toml")
    arguments = parser.parse_args()
    if (arguments.messages is None) != (arguments.teacher is None):
        parser.error("--messages and --teacher go together")
    try:
        run(
            arguments.base,
            arguments.train,
            arguments.dev,
            arguments.out,
            load_config(tomllib.loads("\n".join(arguments.set))),
            load_taxonomy(arguments.taxonomy),
            messages=arguments.messages,
            teacher=arguments.teacher,
            workers=arguments.workers,
        )
    except TriageError as error:
        sys.exit(f"error: {error}\nhint: {error.hint}")


if __name__ == "__main__":
    main()
