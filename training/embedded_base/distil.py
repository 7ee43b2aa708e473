"""The stage after pretraining: teach the base what texts mean to a sentence encoder, and let it forget no language.

The teacher is a small sentence encoder (all-MiniLM-L6-v2, Apache-2.0) that is used here alone: it ships with nothing. Each text
is read by the student as it will read a customer's message, in ChatML, and its state where the answer would begin is mapped
by one matrix to the teacher's embedding of the same text. Two losses: the cosine distance, and the divergence between the two
models' neighbourhoods in the batch (relational distillation, Park et al. 2019; Tian et al. 2020). Half of the texts are read noisily
(typing errors, no capitals, no punctuation) while the teacher sees them clean. Windows of the pretraining text keep up the next-token loss.

No text has a label of any kind: the base must not have seen triage labels.

    python -m training.embedded_base.distil TEXT_FOLDER BASE OUT --teacher FOLDER [--set key=value …]
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import time
import tomllib
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from tokenizers import Tokenizer
from torch.nn import functional
from transformers import AutoModel, AutoModelForCausalLM, PreTrainedModel

from training.embedded_base.check_protected import protected_messages
from training.embedded_base.corpus import MIXTURE
from training.embedded_base.pretrain import encode_source, learning_rate_share
from training.embedded_base.texts import collect_texts, make_noisy
from training.examples import encode_as_message
from training.sentence_encoder import load_tokenizer, mean_states, pad_rows
from triage.paths import file_digest, weights_digest
from triage.run import RunClock, write_run_record

HERE = Path(__file__).resolve().parent
TEACHER_TOKENS = 128


class DistilConfig(BaseModel):
    """One run, read from TOML and saved with the run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int
    """Seeds order, noise and the new matrix."""
    seconds: float
    """Time spent in training steps."""
    most_steps: int
    """Where the run ends although time is left."""
    batch_tokens: int
    """Tokens a step, padding included."""
    learning_rate: float
    """Peak rate of AdamW; warm-up, then cosine, by the share of the time or the steps that is spent."""
    warmup_share: float
    weight_decay: float
    """On matrices only."""
    longest_text_tokens: int
    """Longer texts are cut."""
    noisy_share: float
    """Share of the texts that the student reads with errors."""
    noise: float
    """In a noisy text, the share of the words that get a typing error."""
    cosine_weight: float
    neighbour_weight: float
    temperature: float
    """Of the softmax over a text's neighbours in the batch."""
    language_weight: float
    language_windows: int
    """Windows of pretraining text a step."""
    sequence_length: int
    """Tokens a window."""
    book_sentences: int
    """Sentences of the books among the texts."""


def load_config(overrides: dict[str, object] | None = None) -> DistilConfig:
    """The settings of distil.toml, with some replaced."""
    content = tomllib.loads((HERE / "distil.toml").read_text(encoding="utf-8"))
    return DistilConfig.model_validate(content | (overrides or {}))


@torch.no_grad()
def embed(texts: Sequence[str], folder: Path, device: torch.device, *, batch: int = 512) -> torch.Tensor:
    """The teacher's embeddings, (texts, width), float16, of length one: the mean of its last states, as it was trained."""
    tokenizer = load_tokenizer(folder, longest=TEACHER_TOKENS)
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).to(device).eval()
    order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
    found = torch.empty(len(texts), model.config.hidden_size, dtype=torch.float16, device=device)
    for start in range(0, len(order), batch):
        places = order[start : start + batch]
        ids, mask = pad_rows([encoding.ids for encoding in tokenizer.encode_batch([texts[place] for place in places])], device)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
            states = model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        found[torch.tensor(places, device=device)] = functional.normalize(mean_states(states, mask), dim=1).half()
    return found


def distil_loss(student: torch.Tensor, teacher: torch.Tensor, config: DistilConfig) -> torch.Tensor:
    """Cosine distance and divergence of neighbourhoods; both of shape (texts, width), of any length."""
    left, right = functional.normalize(student.float(), dim=1), functional.normalize(teacher.float(), dim=1)
    cosine = 1 - (left * right).sum(1).mean()
    hidden = torch.eye(len(left), dtype=torch.bool, device=left.device)
    ours = (left @ left.T / config.temperature).masked_fill(hidden, -1e4)
    theirs = (right @ right.T / config.temperature).masked_fill(hidden, -1e4)
    neighbours = functional.kl_div(functional.log_softmax(ours, 1), functional.softmax(theirs, 1), reduction="batchmean")
    return config.cosine_weight * cosine + config.neighbour_weight * neighbours


def _batches(lengths: np.ndarray, batch_tokens: int, draw: np.random.Generator) -> list[np.ndarray]:
    """Places of texts of like length, in random order; each batch has about `batch_tokens` tokens, padding included."""
    order = np.argsort(lengths + draw.uniform(0, 12, len(lengths)), kind="stable")
    batches, start = [], 0
    while start < len(order):
        count = max(8, int(batch_tokens // (lengths[order[min(start + 64, len(order) - 1)]] + 8)))
        batches.append(order[start : start + count])
        start += count
    return [batches[place] for place in draw.permutation(len(batches)) if len(batches[place]) >= 8]


def train(
    model: PreTrainedModel,
    clean: list[list[int]],
    noisy: list[list[int]],
    teacher: torch.Tensor,
    stream: torch.Tensor,
    config: DistilConfig,
    device: torch.device,
) -> tuple[torch.nn.Linear, dict[str, float]]:
    """Train in place until the time is spent; returns the matrix that maps to the teacher, and what the last minute's losses were."""
    torch.manual_seed(config.seed)
    draw, coin = np.random.default_rng(config.seed), random.Random(config.seed)
    head = torch.nn.Linear(model.config.hidden_size, teacher.shape[1], bias=False).to(device)
    model.to(device).train()
    weights = [*model.parameters(), *head.parameters()]
    groups = [
        {"params": [weight for weight in weights if weight.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [weight for weight in weights if weight.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.95), fused=device.type == "cuda")
    lengths = np.array([len(row) for row in clean])
    pad = int(model.config.pad_token_id)
    begin = shown = time.monotonic()
    steps, read, passes = 0, 0, 0
    losses: list[tuple[float, float]] = []
    batches: list[np.ndarray] = []
    while (spent := max((elapsed := time.monotonic() - begin) / config.seconds, steps / config.most_steps)) < 1:
        if not batches:
            batches, passes = _batches(lengths, config.batch_tokens, draw), passes + 1
        places = batches.pop()
        rows = [(noisy if coin.random() < config.noisy_share else clean)[place] for place in places]
        longest = max(map(len, rows))
        ids = torch.tensor([row + [pad] * (longest - len(row)) for row in rows], device=device)
        last = torch.tensor([len(row) - 1 for row in rows], device=device)
        starts = draw.integers(0, len(stream) - config.sequence_length - 1, config.language_windows)
        windows = stream[torch.as_tensor(starts, device=device)[:, None] + torch.arange(config.sequence_length + 1, device=device)].long()
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
            states = model.model(input_ids=ids, use_cache=False).last_hidden_state  # padding stands behind: no mask is needed
            mapped = head(states[torch.arange(len(rows), device=device), last])
            logits = model(input_ids=windows[:, :-1], use_cache=False).logits
        meaning = distil_loss(mapped, teacher[torch.as_tensor(places, device=device)], config)
        language = functional.cross_entropy(logits.float().flatten(0, 1), windows[:, 1:].flatten())
        (meaning + config.language_weight * language).backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * learning_rate_share(spent, config.warmup_share)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        steps += 1
        read += len(rows)
        if steps % 20 == 0 or steps == config.most_steps:
            losses.append((meaning.item(), language.item()))
            if time.monotonic() - shown > 10:
                shown = time.monotonic()
                print(f"{elapsed:6.0f} s  step {steps}  meaning {losses[-1][0]:.3f}  language {losses[-1][1]:.3f}  pass {passes}", flush=True)
    model.eval()
    last_losses = np.array(losses[-20:] or [(float("nan"), float("nan"))]).mean(axis=0)
    return head, {
        "steps": steps,
        "texts_read": read,
        "passes": passes,
        "meaning_loss": round(float(last_losses[0]), 4),
        "language_loss": round(float(last_losses[1]), 4),
    }


@torch.no_grad()
def held_out_cosine(model: PreTrainedModel, head: torch.nn.Linear, rows: list[list[int]], teacher: torch.Tensor, device: torch.device) -> float:
    """The mean cosine between student and teacher on texts that were not trained on."""
    found = []
    for place, row in enumerate(rows):
        state = model.model(input_ids=torch.tensor([row], device=device), use_cache=False).last_hidden_state[0, -1]
        found.append(float(functional.cosine_similarity(head(state).float(), teacher[place].float(), dim=0)))
    return round(sum(found) / len(found), 4)


def run(root: Path, base: Path, out: Path, teacher_folder: Path, config: DistilConfig) -> dict[str, float]:
    """The whole step: texts, teacher, training, weights in bf16, and `run.json` last."""
    clock = RunClock()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_float32_matmul_precision("high")
    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    sources = [source for source in MIXTURE if (root / source).is_dir()]
    with ProcessPoolExecutor() as pool:
        texts_job = pool.submit(collect_texts, root, protected_messages(), config.book_sentences, config.seed)
        jobs = [pool.submit(encode_source, root, source, base / "tokenizer.json", protected_messages(), config.seed) for source in sources]
        texts = texts_job.result()
        stream = np.concatenate([job.result()[0] for job in jobs])
    draw = random.Random(config.seed)
    draw.shuffle(texts)
    held_out, texts = texts[:500], texts[500:]
    noisy = [make_noisy(text, config.noise, draw) for text in texts]
    clean_rows, noisy_rows = (encode_as_message(group, tokenizer, config.longest_text_tokens) for group in (texts, noisy))
    print(f"{len(texts)} texts, {len(stream) / 1e6:.0f}M tokens of pretraining text, ready after {clock.elapsed_s():.0f} s", flush=True)
    teacher = embed([*held_out, *texts], teacher_folder, device)
    print(f"embedded after {clock.elapsed_s():.0f} s", flush=True)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    head, metrics = train(model, clean_rows, noisy_rows, teacher[500:], torch.from_numpy(stream.astype(np.int32)).to(device), config, device)
    held_rows = encode_as_message(held_out, tokenizer, config.longest_text_tokens)
    metrics["held_out_cosine"] = held_out_cosine(model, head, held_rows, teacher[:500], device)
    out.mkdir(parents=True, exist_ok=True)
    model.to(torch.bfloat16).save_pretrained(out, max_shard_size="15MB")
    for name in ("tokenizer.json", "tokenizer_config.json", "mixture.json"):
        if (base / name).exists():
            shutil.copy(base / name, out / name)
    inputs = {f"{source}/{path.name}": file_digest(path) for source in sources for path in sorted((root / source).glob("*.jsonl"))}
    write_run_record(
        out,
        kind="distil",
        clock=clock,
        config=config.model_dump(),
        inputs={**inputs, "base": weights_digest(base), "teacher": weights_digest(teacher_folder)},
        outputs=sorted(path.name for path in out.iterdir() if path.is_file()),
        metrics={**metrics, "texts": len(texts)},
        packages=("torch", "transformers", "tokenizers", "numpy"),
        device=torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
    )
    print(json.dumps(metrics), flush=True)
    return metrics


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    for name in ("texts", "base", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--teacher", type=Path, required=True, help="a folder with the encoder's config, weights and tokenizer.json")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="replace a setting of distil.toml")
    arguments = parser.parse_args()
    if arguments.out.exists() and any(arguments.out.iterdir()):
        sys.exit(f"error: {arguments.out} is not empty\nhint: name a new folder")
    run(arguments.texts, arguments.base, arguments.out, arguments.teacher, load_config(tomllib.loads("\n".join(arguments.set))))


if __name__ == "__main__":
    main()
