#!/usr/bin/env bash
# Fine-tune the embedded base with several settings side by side on one GPU and keep the best on dev.
#
#   training/sweep_on_gpu.sh BASE_FOLDER
#
# Run it in the project's root with a python3 that has the train extra. The best run's folder is copied to $OUT/best;
# all runs and logs stay in /tmp/runs.
set -euo pipefail
base=$1
export PYTHONPATH=${PYTHONPATH:-}:. HF_HUB_OFFLINE=1 PYTHONUNBUFFERED=1 OMP_NUM_THREADS=2
mkdir -p /tmp/runs
try() { # NAME SETTING...
  local name=$1 words=() setting
  shift
  for setting in "$@"; do words+=(--set "$setting"); done
  python3 -m training.finetune --base "$base" --train data/tickets/train.jsonl --dev data/tickets/dev.jsonl --out "/tmp/runs/$name" "${words[@]}" >"/tmp/runs/$name.log" 2>&1 &
}
try default
try noisy20 token_dropout=0.2
try rate10 learning_rate=1e-3
try labels5 label_weight=5.0
try epochs20 epochs=20
wait || true
tail -qn 1 /tmp/runs/*.log
python3 - <<'PYTHON'
import json, os, pathlib, shutil, sys
records = {path.parent.name: json.loads(path.read_text()) for path in pathlib.Path("/tmp/runs").glob("*/run.json")}
means = {name: sum(value for key, value in record["metrics"].items() if key.startswith("dev_") and key != "dev_summary_loss") / 4 for name, record in records.items()}
for name, mean in sorted(means.items(), key=lambda row: -row[1]):
    print(f"{name:10s} mean {mean:.4f}", records[name]["metrics"])
best = max(means, key=means.get)
print("best", best)
out = pathlib.Path(os.environ["OUT"], "best")
out.mkdir()
for path in pathlib.Path("/tmp/runs", best).iterdir():
    if path.name.startswith(("model", "config", "run")):
        shutil.copy(path, out)
PYTHON
