"""What scoring a hundred thousand predictions costs."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from eval.predictions import PredictionRow
from tests.conftest import ROOT
from tests.test_eval_scorecard import write_rows
from triage.taxonomy import LABEL_FIELDS, Taxonomy, load_taxonomy


def _draw_labels(draw: random.Random, taxonomy: Taxonomy) -> dict[str, str | bool]:
    return {field: draw.random() < 0.6 if field == "needs_human" else draw.choice(taxonomy.labels(field)) for field in LABEL_FIELDS}


MEASURE = """
import resource, sys, time
from pathlib import Path
from eval.columns import load_row
from eval.scoring import score_predictions
from triage.dataset import load_examples
from triage.taxonomy import load_taxonomy
folder, taxonomy, begin = Path(sys.argv[1]), load_taxonomy(), time.process_time()
examples = load_examples([folder / "dev.jsonl"], taxonomy)
card = score_predictions(load_row(folder / "run", examples, taxonomy, dataset="d" * 64), examples, taxonomy)
print(card.n, time.process_time() - begin, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


@pytest.mark.slow
def test_a_hundred_thousand_predictions_are_scored_within_a_minute_and_a_gibibyte(tmp_path: Path) -> None:
    """From files to scorecard with 2,000 resamples, on one core; the time is the processor's, since other work may share the machine."""
    taxonomy, draw = load_taxonomy(), random.Random(7)
    words = [f"word{number}" for number in range(3_000)]
    lines = []
    with (tmp_path / "dev.jsonl").open("w", encoding="utf-8") as stream:
        for number in range(100_000):
            labels, other = _draw_labels(draw, taxonomy), _draw_labels(draw, taxonomy)
            message = draw.choices(words, k=50)
            head = {"id": f"e{number}", "split": "dev", "group": f"g{number // 15}", "language": "en", "message": " ".join(message)}
            tail = {"slices": [draw.choice("abcdefghij")], "provenance": "drawn", "labels": {**labels, "summary": " ".join(message[:9])}}
            stream.write(json.dumps({**head, **tail}) + "\n")
            ticket = {field: labels[field] if draw.random() < 0.8 else other[field] for field in LABEL_FIELDS} | {"summary": " ".join(message[3:13])}
            confidence = {field: round(draw.random(), 6) for field in LABEL_FIELDS}
            fields = {"status": "triaged", "before": ticket, "after": ticket, "decided_by": "model", "confidence": confidence, "latency_ms": 9.5}
            lines.append(json.dumps({"id": head["id"], **fields}))
    PredictionRow.model_validate_json(lines[0])
    write_rows(tmp_path / "run", lines, taxonomy)
    limits = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", MEASURE, str(tmp_path)], capture_output=True, text=True, timeout=280, env=limits)
    assert done.returncode == 0, done.stderr
    rows, seconds, mebibytes = map(float, done.stdout.split())
    assert rows == 100_000
    assert seconds < 60
    assert mebibytes < 1024
