#!/usr/bin/env bash
# Fine-tune the embedded base with several settings side by side on one GPU and keep the best on dev.
# Runs on a machine that has torch and transformers; pydantic and outlines-core are carried as wheels in .carry/wh.
set -euo pipefail
for wheel in .carry/wh/*.whl; do python3 -m zipfile -e "$wheel" /tmp/site; done
export PYTHONPATH=/tmp/site:. HF_HUB_OFFLINE=1 PYTHONUNBUFFERED=1 OMP_NUM_THREADS=2
mkdir -p /tmp/runs
for rate in 3e-4 6e-4 1e-3; do
  for epochs in 4 8; do
    python3 -m training.finetune --base training/embedded_base/model --train data/tickets/train.jsonl --dev data/tickets/dev.jsonl \
      --out "/tmp/runs/$rate-$epochs" --set "learning_rate=$rate" --set "epochs=$epochs" >"/tmp/runs/$rate-$epochs.log" 2>&1 &
  done
done
wait || true
tail -n 2 /tmp/runs/*.log
python3 - <<'PYTHON'
import json, os, pathlib, shutil
rows = {}
for path in pathlib.Path("/tmp/runs").glob("*/run.json"):
    metrics = json.loads(path.read_text())["metrics"]
    rows[path.parent.name] = sum(value for key, value in metrics.items() if key.startswith("dev_")) / 4
for name, mean in sorted(rows.items(), key=lambda row: -row[1]):
    print(f"{name:10s} mean dev accuracy of the four labels {mean:.4f}")
best = max(rows, key=rows.get)
for path in pathlib.Path("/tmp/runs", best).iterdir():
    if path.name.startswith(("model", "config", "run")):
        shutil.copy(path, os.environ["OUT"])
PYTHON
