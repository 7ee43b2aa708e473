"""How much faster the embedded engine is than transformers' greedy `generate`: same fine-tune, prompts, output tokens and threads, same run.

The engine's weights are int8, those of `generate` float32. Output tokens are those of the labels: neither writes a summary here.
Message by message both answer in turn, so that a noisy machine hits both. `generate` writes freely and has no probabilities; the
engine decides the labels inside the schema and chooses a summary. Needs torch.

    python -m training.bench_generate --model RUN_FOLDER --release FOLDER [--messages 60] [--threads 2]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import time
from datetime import UTC, datetime
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, GenerationConfig

from triage.answer import TicketAnswer
from triage.dataset import load_examples
from triage.engines.chatml import render_chatml
from triage.engines.embedded import EmbeddedEngine
from triage.prompt import build_prompt
from triage.release import load_release
from triage.taxonomy import load_taxonomy

TICKETS_PATH = Path(__file__).resolve().parents[1] / "data" / "tickets" / "train.jsonl"
WARM_UP = 5


@torch.no_grad()
def measure(model_folder: Path, release_folder: Path, messages: int, threads: int) -> dict[str, object]:
    """Medians over the messages, in milliseconds, and the median of the messages' ratios."""
    torch.set_num_threads(threads)
    taxonomy = load_taxonomy()
    engine = EmbeddedEngine(load_release(release_folder, taxonomy), taxonomy, threads=threads)
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32).eval()
    chosen = random.Random(0).sample(load_examples([TICKETS_PATH], taxonomy), messages + WARM_UP)
    rows: list[tuple[float, float, int, int]] = []
    for place, example in enumerate(chosen):
        prompt = build_prompt(example, taxonomy, text_budget=engine.text_budget, count_tokens=engine.count_tokens)
        begin = time.perf_counter()
        answer = engine.answer_now(prompt, deadline_s=60)
        ours = time.perf_counter() - begin
        assert isinstance(answer, TicketAnswer)
        ids = torch.tensor([engine.encode(render_chatml(prompt))])
        wanted = answer.output_tokens
        settings = GenerationConfig(do_sample=False, min_new_tokens=wanted, max_new_tokens=wanted, pad_token_id=0)
        begin = time.perf_counter()
        written = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=settings)
        theirs = time.perf_counter() - begin
        assert written.shape[1] == ids.shape[1] + wanted
        if place >= WARM_UP:
            rows.append((ours * 1000, theirs * 1000, ids.shape[1], wanted))
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}, torch {torch.__version__}, {threads} threads each",
        "release": engine.release,
        "messages": len(rows),
        "prompt_tokens_p50": statistics.median(row[2] for row in rows),
        "output_tokens_p50": statistics.median(row[3] for row in rows),
        "engine_ms_p50": round(statistics.median(row[0] for row in rows), 1),
        "generate_ms_p50": round(statistics.median(row[1] for row in rows), 1),
        "times_faster_p50": round(statistics.median(row[1] / row[0] for row in rows), 1),
        "times_faster_total": round(sum(row[1] for row in rows) / sum(row[0] for row in rows), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--model", type=Path, required=True, help="the fine-tuning run that the release was made of")
    parser.add_argument("--release", type=Path, required=True)
    parser.add_argument("--messages", type=int, default=60)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    print(json.dumps(measure(arguments.model, arguments.release, arguments.messages, arguments.threads), indent=2))


if __name__ == "__main__":
    main()
