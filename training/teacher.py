"""Teachers that label unlabelled messages for the embedded release: fine-tuned sentence encoders and TF-IDF, pooled.

Each teacher learns the train split alone and gives, for each decided field, logits of the message plus logits of the labels
decided before it, so that a chain of labels can be drawn from few numbers. Teachers are pooled by averaging logits. The
student (`training.finetune`) learns the pool's probabilities over far more messages than have labels: distillation (Hinton et
al., arXiv 1503.02531) with unlabelled text, as in Turc et al., "Well-Read Students Learn Better" (arXiv 1908.08962).

Nothing of the teachers ships. The encoder is all-MiniLM-L6-v2 (Apache-2.0). Public text that is read stays out of the project.

    python -m training.teacher --messages FILE --encoder FOLDER --train FILE --dev FILE --out FOLDER [--set key=value …]
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tomllib
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from torch.nn import functional
from transformers import AutoModel

from training.embedded_base.texts import make_noisy
from training.pool import LOGITS_FILE, Pool, label_indices, labels_before, one_hot, pool, save_pool
from training.sentence_encoder import load_tokenizer, mean_states, pad_rows
from training.tfidf_teacher import read_with_tfidf
from triage.dataset import Example, dataset_digest, load_examples
from triage.errors import RunError, TriageError
from triage.paths import file_digest, weights_digest
from triage.prompt import render_message
from triage.run import RECORD_NAME, RunClock, write_run_record
from triage.taxonomy import LABEL_FIELDS, Taxonomy, load_taxonomy

CONFIG_PATH = Path(__file__).with_name("teacher.toml")


class TeacherConfig(BaseModel):
    """One run of teaching, read from TOML and saved with the run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int
    """Seeds heads, order and noise; each encoder has its own from it."""
    encoders: int
    """How many encoders are fine-tuned."""
    epochs: int
    batch_examples: int
    encoder_rate: float
    """Peak learning rate of the encoder's own weights."""
    head_rate: float
    """Peak learning rate of the new matrices."""
    weight_decay: float
    label_smoothing: float
    noisy_share: float
    """Share of the tickets that an encoder reads with typing errors, drawn anew in each epoch."""
    noise: float
    """In a noisy ticket, the share of the words that get an error."""
    longest_tokens: int
    """Longer messages are cut."""
    inverse_regularisation: float
    """C of the logistic regressions on TF-IDF."""
    tfidf_weight: float
    """Weight of the TF-IDF logits in the pool; the encoders share the rest."""


def load_config(overrides: dict[str, Any] | None = None) -> TeacherConfig:
    """The settings of teacher.toml, with some replaced."""
    return TeacherConfig.model_validate(tomllib.loads(CONFIG_PATH.read_text(encoding="utf-8")) | (overrides or {}))


class EncoderTeacher(torch.nn.Module):
    """A sentence encoder with one linear head a field, on the mean of its last states and the labels before."""

    def __init__(self, folder: Path, taxonomy: Taxonomy) -> None:
        super().__init__()
        self.encoder = AutoModel.from_pretrained(folder, dtype=torch.float32)
        width = self.encoder.config.hidden_size
        self.heads = torch.nn.ModuleDict({field: torch.nn.Linear(width, len(taxonomy.labels(field))) for field in LABEL_FIELDS})
        self.given = torch.nn.ModuleDict(
            {
                field: torch.nn.Linear(
                    sum(len(taxonomy.labels(earlier)) for earlier in labels_before(field)), len(taxonomy.labels(field)), bias=False
                )
                for field in LABEL_FIELDS
                if labels_before(field)
            }
        )
        self.dropout = torch.nn.Dropout(0.1)

    def embed(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(batch, width)."""
        states = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        return mean_states(states, mask)


def train_encoder(
    folder: Path, examples: Sequence[Example], taxonomy: Taxonomy, config: TeacherConfig, seed: int, device: torch.device
) -> EncoderTeacher:
    """Fine-tune a whole encoder on the tickets."""
    torch.manual_seed(seed)
    draw = random.Random(seed)
    model = EncoderTeacher(folder, taxonomy)
    model.to(device).train()
    tokenizer = load_tokenizer(folder, longest=config.longest_tokens)
    texts = [render_message(example) for example in examples]
    labels = label_indices(examples, taxonomy)
    before = {field: torch.from_numpy(one_hot(labels, field, taxonomy)).to(device) for field in model.given}
    wanted = {field: torch.from_numpy(labels[field]).to(device) for field in LABEL_FIELDS}
    groups = [
        {"params": list(model.encoder.parameters()), "rate": config.encoder_rate},
        {"params": [*model.heads.parameters(), *model.given.parameters()], "rate": config.head_rate},
    ]
    optimizer = torch.optim.AdamW(groups, lr=config.encoder_rate, weight_decay=config.weight_decay)
    steps = config.epochs * (len(texts) // config.batch_examples)
    step = 0
    for _ in range(config.epochs):
        order = list(range(len(texts)))
        draw.shuffle(order)
        for start in range(0, len(order) - config.batch_examples + 1, config.batch_examples):
            places = order[start : start + config.batch_examples]
            read = [make_noisy(texts[place], config.noise, draw) if draw.random() < config.noisy_share else texts[place] for place in places]
            ids, mask = pad_rows([encoding.ids for encoding in tokenizer.encode_batch(read)], device)
            at = torch.tensor(places, device=device)
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
                state = model.dropout(model.embed(ids, mask))
                loss = torch.zeros((), device=device)
                for field in LABEL_FIELDS:
                    logits = model.heads[field](state)
                    if field in model.given:
                        logits = logits + model.given[field](before[field][at])
                    loss = loss + functional.cross_entropy(logits.float(), wanted[field][at], label_smoothing=config.label_smoothing)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            step += 1
            share = step / steps
            for group in optimizer.param_groups:
                group["lr"] = group["rate"] * (share / 0.1 if share < 0.1 else (1 - share) / 0.9)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    model.eval()
    return model


@torch.no_grad()
def read_with(model: EncoderTeacher, encoded: list[list[int]], taxonomy: Taxonomy, device: torch.device) -> Pool:
    """Logits of all messages, which come as token ids."""
    order = sorted(range(len(encoded)), key=lambda place: len(encoded[place]))
    found = {field: np.zeros((len(encoded), len(taxonomy.labels(field))), dtype=np.float32) for field in LABEL_FIELDS}
    for start in range(0, len(order), 1024):
        places = order[start : start + 1024]
        ids, mask = pad_rows([encoded[place] for place in places], device)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
            state = model.embed(ids, mask)
        for field in LABEL_FIELDS:
            found[field][places] = model.heads[field](state.float()).cpu().numpy()
    before: dict[str, dict[str, np.ndarray]] = {field: {} for field in LABEL_FIELDS}
    for field in LABEL_FIELDS:
        start = 0
        for earlier in labels_before(field):
            end = start + len(taxonomy.labels(earlier))
            before[field][earlier] = model.given[field].weight.detach().cpu().numpy().T[start:end]
            start = end
    return Pool(found, before)


def measure(found: Pool, examples: Sequence[Example], taxonomy: Taxonomy, places: np.ndarray) -> dict[str, float]:
    """Accuracy of each field, decided in order, and of all four."""
    chosen, wanted = found.decide(places), label_indices(examples, taxonomy)
    right = {field: chosen[field] == wanted[field] for field in LABEL_FIELDS}
    shares = {field: round(float(right[field].mean()), 4) for field in LABEL_FIELDS}
    return shares | {"all_four": round(float(np.logical_and.reduce(list(right.values())).mean()), 4)}


def run(
    messages: Path, encoder: Path, train: Path, dev: Path, out: Path, config: TeacherConfig, taxonomy: Taxonomy, *, workers: int = 8
) -> dict[str, float]:
    """The whole step: train the teachers, let them read the messages, write the pool's logits and `run.json` last.

    Raises:
        RunError: `out` holds a finished run, there are no messages, or too few tickets for one batch.
    """
    if (out / RECORD_NAME).exists():
        raise RunError(f"{out} already holds a finished run", "name a new folder with --out")
    if not messages.is_file():
        raise RunError(f"{messages} is not there", "make it with training.embedded_base.messages")
    clock = RunClock()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    examples, judged = load_examples([train], taxonomy), load_examples([dev], taxonomy)
    if len(examples) < config.batch_examples:
        raise RunError(f"{len(examples)} tickets do not fill one batch of {config.batch_examples}", "set batch_examples lower, or label more tickets")
    texts = [render_message(example) for example in judged]
    texts += [json.loads(line)["text"] for line in messages.read_text(encoding="utf-8").splitlines()]
    known = np.arange(len(judged))
    encoded = [encoding.ids for encoding in load_tokenizer(encoder, longest=config.longest_tokens).encode_batch(texts)]
    parts = list[tuple[float, Pool]]()
    with ProcessPoolExecutor(1) as beside:  # forked before the GPU is touched; counting and encoders go on at the same time
        counting = beside.submit(read_with_tfidf, examples, texts, taxonomy, config.inverse_regularisation, workers) if config.tfidf_weight else None
        for number in range(config.encoders):
            model = train_encoder(encoder, examples, taxonomy, config, config.seed + number, device)
            parts.append(((1 - config.tfidf_weight) / config.encoders, read_with(model, encoded, taxonomy, device)))
            print(f"{clock.elapsed_s():.0f} s  encoder {number + 1}: {measure(parts[-1][1], judged, taxonomy, known)}", flush=True)
        if counting is not None:
            parts.append((config.tfidf_weight, counting.result()))
            print(f"{clock.elapsed_s():.0f} s  TF-IDF: {measure(parts[-1][1], judged, taxonomy, known)}", flush=True)
    found = pool(parts)
    metrics = {f"dev_{name}": share for name, share in measure(found, judged, taxonomy, known).items()}
    print(f"{clock.elapsed_s():.0f} s  pool: {metrics}", flush=True)
    out.mkdir(parents=True, exist_ok=True)
    save_pool(Pool({field: rows[len(judged) :] for field, rows in found.of_message.items()}, found.of_before), out)
    write_run_record(
        out,
        kind="teacher",
        clock=clock,
        config=config.model_dump(),
        inputs={
            "messages": file_digest(messages),
            "encoder": weights_digest(encoder),
            "train": dataset_digest([train]),
            "dev": dataset_digest([dev]),
            "taxonomy": taxonomy.digest,
        },
        outputs=[LOGITS_FILE],
        metrics={**metrics, "messages": len(texts) - len(judged)},
        packages=("torch", "transformers", "tokenizers", "scikit-learn", "numpy"),
        device=torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
    )
    return metrics


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    for name in ("messages", "encoder", "train", "dev", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--taxonomy", type=Path)
    parser.add_argument("--workers", type=int, default=8, help="processes that count character n-grams")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="replace a setting of teacher.toml")
    arguments = parser.parse_args()
    try:
        run(
            arguments.messages,
            arguments.encoder,
            arguments.train,
            arguments.dev,
            arguments.out,
            load_config(tomllib.loads("\n".join(arguments.set))),
            load_taxonomy(arguments.taxonomy),
            workers=arguments.workers,
        )
    except TriageError as error:
        sys.exit(f"error: {error}\nhint: {error.hint}")


if __name__ == "__main__":
    main()
