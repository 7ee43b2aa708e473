#!/usr/bin/env bash
# The steps of the embedded model on a GPU machine without a network, each run in the project's root with a python3 that has torch
# and transformers. NOTES.md has what they gave. Folders lie in /tmp: text/ (public text), teacher/ (the sentence encoder), site/ (wheels).
#
#   on_gpu.sh unpack                          unpack what was carried in .gpu/in
#   on_gpu.sh pretrain NAME                   a new base from pretrain.toml -> /tmp/bases/NAME
#   on_gpu.sh distil BASE NAME [SETTING…]     the stage after it -> /tmp/bases/NAME
#   on_gpu.sh teach NAME [SETTING…]           teachers label the messages -> /tmp/teachers/NAME
#   on_gpu.sh finetune BASE NAME TEACHERS [SETTING…]   -> /tmp/runs/NAME; TEACHERS is a name, or - for tickets alone
#   on_gpu.sh table                           dev figures of every fine-tuning run, the best mean last
#   on_gpu.sh bring FOLDER…                   pack folders such as runs/NAME, bases/NAME, teachers/NAME into $OUT, in parts
set -euo pipefail
cd "$(dirname "$0")/../.."
export PYTHONPATH=/tmp/site:. HF_HUB_OFFLINE=1 PYTHONUNBUFFERED=1 TOKENIZERS_PARALLELISM=true
mkdir -p /tmp/bases /tmp/runs /tmp/site /tmp/text /tmp/teacher /tmp/teachers
settings() { for setting in "$@"; do printf -- '--set\n%s\n' "$setting"; done; }
step=$1
shift
case $step in
  unpack)
    for archive in .gpu/in/*.tar.xz*; do
      case $(basename "$archive") in
        site*) tar -xJf "$archive" -C /tmp/site ;;
        teacher*) tar -xJf "$archive" -C /tmp/teacher ;;
        base*) mkdir -p /tmp/bases/old && tar -xJf "$archive" -C /tmp/bases/old ;;
        messages*) tar -xJf "$archive" -C /tmp ;;
        *) tar -xJf "$archive" -C /tmp/text ;;
      esac
    done
    ls /tmp/site /tmp/text /tmp/teacher /tmp/bases ;;
  pretrain) python3 -m training.embedded_base.pretrain /tmp/text "/tmp/bases/$1" ;;
  distil)
    base=$1 name=$2
    shift 2
    mapfile -t words < <(settings "$@")
    python3 -m training.embedded_base.distil /tmp/text "/tmp/bases/$base" "/tmp/bases/$name" --teacher /tmp/teacher "${words[@]}" ;;
  teach)
    name=$1
    shift
    mapfile -t words < <(settings "$@")
    python3 -m training.teacher --messages /tmp/messages.jsonl --encoder /tmp/teacher --train data/tickets/train.jsonl --dev data/tickets/dev.jsonl \
      --out "/tmp/teachers/$name" --workers 14 "${words[@]}" ;;
  finetune)
    base=$1 name=$2 teachers=$3
    shift 3
    mapfile -t words < <(settings "$@")
    [[ $teachers == - ]] || words+=(--messages /tmp/messages.jsonl --teacher "/tmp/teachers/$teachers")
    python3 -m training.finetune --base "/tmp/bases/$base" --train data/tickets/train.jsonl --dev data/tickets/dev.jsonl --out "/tmp/runs/$name" --workers "${WORKERS:-3}" "${words[@]}" ;;
  table)
    python3 - <<'PYTHON'
import json, pathlib
fields = ("category", "urgency", "needs_human", "next_action", "all_four", "category_macro_f1")
rows = []
for path in pathlib.Path("/tmp/runs").glob("*/run.json"):
    metrics = json.loads(path.read_text())["metrics"]
    rows.append((sum(metrics[f"dev_{field}"] for field in fields[:4]) / 4, path.parent.name, [metrics[f"dev_{field}"] for field in fields], metrics["dev_summary_loss"]))
for mean, name, shares, loss in sorted(rows):
    print(f"{name:24s} mean {mean:.4f} ", *(f"{share:.3f}" for share in shares), f" summary loss {loss}")
PYTHON
    ;;
  bring)
    for name in "$@"; do tar -cf - -C "/tmp/$(dirname "$name")" "$(basename "$name")" | xz -1 -T8 | split -b 15M - "$OUT/$(basename "$name").tar.xz."; done ;;
  *) sed -n '2,15p' "$0"; exit 2 ;;
esac
