"""Speed and memory of the embedded engine on this machine, over the training tickets' lengths.

Prints tokens and milliseconds at p50 and p95 with one message at a time, tickets a second when all are there at once, the time of
a cold start, the peak of the process's memory, and what it ran on. The messages are drawn from the training split with a fixed
seed: no held-out split is read.

    python -m eval.bench_embedded [--messages 200]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import resource
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from triage.answer import TicketAnswer
from triage.dataset import load_examples
from triage.engines.embedded import load_embedded_engine
from triage.prompt import build_prompt
from triage.taxonomy import load_taxonomy

TICKETS_PATH = Path(__file__).resolve().parents[1] / "data" / "tickets" / "train.jsonl"
WARM_UP = 5
STARTS = 5


def percentile(values: list[float], share: float) -> float:
    """The value below which a share of the values lies, by linear interpolation.

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("nothing was measured")
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def measure(messages: int) -> dict[str, float | int | str]:
    """Latency in milliseconds and tokens over some messages, one at a time."""
    taxonomy = load_taxonomy()
    engine = load_embedded_engine(taxonomy)
    examples = load_examples([TICKETS_PATH], taxonomy)
    chosen = random.Random(0).sample(examples, min(messages + WARM_UP, len(examples)))
    took_ms, prompt_tokens, output_tokens, prompts = [], [], [], []
    for place, example in enumerate(chosen):
        begin = time.perf_counter()
        prompt = build_prompt(example, taxonomy, text_budget=engine.text_budget, count_tokens=engine.count_tokens)
        answer = engine.answer_now(prompt, deadline_s=60)
        elapsed_ms = (time.perf_counter() - begin) * 1000
        if place < WARM_UP:
            continue
        prompts.append(prompt)
        if not isinstance(answer, TicketAnswer):
            raise SystemExit(f"error: a message failed: {answer.reason} {answer.detail}")
        took_ms.append(elapsed_ms)
        prompt_tokens.append(float(answer.prompt_tokens))
        output_tokens.append(float(answer.output_tokens))
    begin = time.perf_counter()
    answers = asyncio.run(engine.answer(prompts, deadline_s=600))
    together_s = time.perf_counter() - begin
    assert all(isinstance(answer, TicketAnswer) for answer in answers)
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}",
        "release": engine.release,
        "messages": len(took_ms),
        "prompt_tokens_p50": round(percentile(prompt_tokens, 0.5)),
        "prompt_tokens_p95": round(percentile(prompt_tokens, 0.95)),
        "output_tokens_p50": round(percentile(output_tokens, 0.5)),
        "latency_ms_p50": round(percentile(took_ms, 0.5), 1),
        "latency_ms_p95": round(percentile(took_ms, 0.95), 1),
        "latency_ms_max": round(max(took_ms), 1),
        "tickets_a_second_together": round(len(prompts) / together_s, 1),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 1024**2)),
    }


def measure_start() -> float:
    """Median seconds from process start to the answer of `triage ask`."""
    times = []
    for _ in range(STARTS):
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-m", "triage", "ask", "Where is my parcel?"], check=True, capture_output=True)
        times.append(time.perf_counter() - begin)
    return round(statistics.median(times), 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--messages", type=int, default=200)
    arguments = parser.parse_args()
    print(json.dumps(measure(arguments.messages) | {"ask_process_start_to_answer_s_median_of_5": measure_start()}, indent=2))


if __name__ == "__main__":
    main()
