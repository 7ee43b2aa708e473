"""Pretrain the embedded base model from random weights, once, on one GPU, for a fixed time.

A small causal language model in Qwen3 architecture, unmodified, so that transformers, PEFT and vLLM load it as they
load its larger siblings. The learning rate follows the share of the time budget that is spent (warm-up, then cosine),
after nanoGPT's schedule with time in place of steps. It does not resume: a run is shorter than a coffee.

    python -m training.embedded_base.pretrain TEXT_FOLDER OUT_FOLDER

TEXT_FOLDER holds one folder a source, as corpus.py names them. OUT_FOLDER receives weights in shards under 15 MB,
`config.json`, the tokenizer and, last, `run.json`.
"""

from __future__ import annotations

import json
import math
import shutil
import sys
import time
import tomllib
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from tokenizers import Tokenizer
from transformers import Qwen3Config, Qwen3ForCausalLM

from training.embedded_base.check_protected import protected_messages
from training.embedded_base.corpus import MIXTURE, read_source, render
from training.embedded_base.tokenizer import END_OF_TEXT, IM_END
from triage.paths import file_digest, write_json_atomically
from triage.run import RunClock, write_run_record
from triage.shingles import word_shingles

HERE = Path(__file__).resolve().parent
HELD_OUT_EVERY = 100
"""Every hundredth document of a source is never trained on; it measures the loss."""


class Architecture(BaseModel):
    """The shape of the network. At most 24M parameters and 2 key/value heads, for speed on a laptop's CPU."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    hidden_size: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    mlp_size: int


class PretrainConfig(BaseModel):
    """One pretraining run, read from TOML and saved with the run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int
    """Seeds the weights, the order of windows and the rendering of documents."""
    seconds: float
    """Time spent in training steps; loading and compiling come on top."""
    sequence_length: int
    """Tokens a window."""
    batch_sequences: int
    """Windows a step."""
    learning_rate: float
    """Peak rate of AdamW."""
    warmup_share: float
    """Share of the time budget over which the rate rises from zero."""
    weight_decay: float
    """On matrices only, never on norms."""
    architecture: Architecture


def load_config(path: Path) -> PretrainConfig:
    """Read a run's settings from TOML; an unknown key is an error."""
    return PretrainConfig.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))


def encode_source(root: Path, source: str, tokenizer_path: Path, protected_texts: list[str], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Token ids of one source as (train, held out), both uint16, documents ended by `<|endoftext|>`.

    The train ids hold the source as many times as `MIXTURE` says, each pass rendered with another seed.
    """
    tokenizer = Tokenizer.from_file(str(tokenizer_path))
    end = tokenizer.token_to_id(END_OF_TEXT)
    guarded = [word_shingles(text) for text in protected_texts]
    documents = list(read_source(root, source, guarded))
    train: list[np.ndarray] = []
    held_out: list[np.ndarray] = []
    distinct_passes = 1 if source == "classic_books" else min(4, MIXTURE[source])
    for turn in range(distinct_passes):
        copies = len(range(turn, MIXTURE[source], distinct_passes))
        texts = [render(document, seed=seed + turn * 1_000_003 + index) for index, document in enumerate(documents)]
        for index, encoding in enumerate(tokenizer.encode_batch(texts)):
            ids = np.array([*encoding.ids, end], dtype=np.uint16)
            if index % HELD_OUT_EVERY == HELD_OUT_EVERY - 1:
                if turn == 0:
                    held_out.append(ids)
            else:
                train.extend([ids] * copies)
    empty = np.zeros(0, dtype=np.uint16)
    order = np.random.default_rng(seed).permutation(len(train))
    return np.concatenate([train[place] for place in order] or [empty]), np.concatenate(held_out or [empty])


def build_model(config: PretrainConfig, tokenizer: Tokenizer) -> Qwen3ForCausalLM:
    """A model with random weights, in float32 on the CPU."""
    shape = config.architecture
    torch.manual_seed(config.seed)
    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=tokenizer.get_vocab_size(),
            hidden_size=shape.hidden_size,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.kv_heads,
            head_dim=shape.head_size,
            intermediate_size=shape.mlp_size,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
            attention_bias=False,
            pad_token_id=tokenizer.token_to_id(END_OF_TEXT),
            eos_token_id=tokenizer.token_to_id(IM_END),
            bos_token_id=None,
        )
    )


def learning_rate_share(spent: float, warmup_share: float) -> float:
    """The rate as a share of its peak, for a share of the time budget in [0, 1]: linear up, cosine down to one hundredth."""
    if spent < warmup_share:
        return max(spent / warmup_share, 0.01)
    progress = min(1.0, (spent - warmup_share) / (1 - warmup_share))
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress))


def _windows(stream: torch.Tensor, length: int, generator: torch.Generator, count: int) -> torch.Tensor:
    starts = torch.randint(0, len(stream) - length - 1, (count,), generator=generator)
    return stream[starts[:, None].to(stream.device) + torch.arange(length + 1, device=stream.device)].long()


@torch.no_grad()
def _held_out_loss(model: torch.nn.Module, stream: torch.Tensor, config: PretrainConfig) -> float:
    """Mean next-token loss in nats over at most 64 consecutive windows."""
    length = config.sequence_length
    count = min(64, (len(stream) - 1) // length)
    if count < 1:
        return float("nan")
    windows = torch.stack([stream[place * length : place * length + length + 1] for place in range(count)]).long()
    with torch.autocast(stream.device.type, dtype=torch.bfloat16):
        logits = model(input_ids=windows[:, :-1], use_cache=False).logits
    return float(torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), windows[:, 1:].flatten()))


def train(model: Qwen3ForCausalLM, stream: torch.Tensor, held_out: dict[str, torch.Tensor], config: PretrainConfig) -> dict[str, float]:
    """Train until the time is spent; print a line every 10 s; return loss by source, steps and speed."""
    device = stream.device
    model.to(device).train()
    matrices = [weight for weight in model.parameters() if weight.ndim >= 2]
    vectors = [weight for weight in model.parameters() if weight.ndim < 2]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.95), fused=device.type == "cuda")
    forward = torch.compile(model) if device.type == "cuda" else model
    generator = torch.Generator().manual_seed(config.seed)

    def step(rate: float) -> torch.Tensor:
        windows = _windows(stream, config.sequence_length, generator, config.batch_sequences)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            logits = forward(input_ids=windows[:, :-1], use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), windows[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * rate
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    step(0.0)
    begin = shown = time.monotonic()
    steps = 0
    while (elapsed := time.monotonic() - begin) < config.seconds:
        loss = step(learning_rate_share(elapsed / config.seconds, config.warmup_share))
        steps += 1
        if steps % 10 == 0 and time.monotonic() - shown > 10:
            shown = time.monotonic()
            tokens = steps * config.batch_sequences * config.sequence_length
            print(f"{elapsed:6.0f} s  step {steps}  loss {loss.item():.3f}  {tokens / elapsed / 1e6:.2f}M tokens/s", flush=True)
    model.eval()
    losses = {f"held_out_loss_{name}": round(_held_out_loss(model, ids, config), 4) for name, ids in held_out.items() if len(ids) > 600}
    tokens = steps * config.batch_sequences * config.sequence_length
    return {**losses, "steps": steps, "tokens_seen": tokens, "tokens_per_s": round(tokens / config.seconds)}


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    root, out = Path(sys.argv[1]), Path(sys.argv[2])
    if out.exists() and any(out.iterdir()):
        sys.exit(f"error: {out} is not empty\nhint: name a new folder")
    clock, config = RunClock(), load_config(HERE / "pretrain.toml")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_float32_matmul_precision("high")
    tokenizer_path = HERE / "model" / "tokenizer.json"
    with ProcessPoolExecutor() as pool:
        jobs = {source: pool.submit(encode_source, root, source, tokenizer_path, protected_messages(), config.seed) for source in MIXTURE}
        encoded = {source: job.result() for source, job in jobs.items()}
    for source, (ids, _) in encoded.items():
        print(f"{source:18s} {len(ids) / 1e6:7.1f}M tokens, read {MIXTURE[source]} times", flush=True)
    stream = torch.from_numpy(np.concatenate([ids for ids, _ in encoded.values()]).astype(np.int32)).to(device)
    held_out = {source: torch.from_numpy(ids.astype(np.int32)).to(device) for source, (_, ids) in encoded.items()}
    model = build_model(config, Tokenizer.from_file(str(tokenizer_path)))
    parameters = sum(weight.numel() for weight in model.parameters())
    print(
        f"{parameters / 1e6:.1f}M parameters, {len(stream) / 1e6:.0f}M tokens in the mixture, ready after {clock.elapsed_s():.0f} s",
        flush=True,
    )
    metrics = train(model, stream, held_out, config)
    out.mkdir(parents=True, exist_ok=True)
    model.to(torch.bfloat16).save_pretrained(out, max_shard_size="15MB")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        if out.resolve() != tokenizer_path.parent:
            shutil.copy(tokenizer_path.parent / name, out / name)
    inputs = {f"{source}/{path.name}": file_digest(path) for source in MIXTURE for path in sorted((root / source).glob("*.jsonl"))}
    write_json_atomically(out / "mixture.json", MIXTURE)
    write_run_record(
        out,
        kind="pretrain",
        clock=clock,
        config=config.model_dump(),
        inputs={**inputs, "tokenizer.json": file_digest(tokenizer_path)},
        outputs=sorted(path.name for path in out.iterdir() if path.is_file()),
        metrics={**metrics, "parameters": parameters},
        packages=("torch", "transformers", "tokenizers", "numpy"),
        device=torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
    )
    print(json.dumps(metrics, indent=1))


if __name__ == "__main__":
    main()
