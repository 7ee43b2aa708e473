"""Assemble the embedded release bundle from a fine-tuned model: export, copy the tokenizer, write the manifest.

python -m training.release_embedded --model RUN_FOLDER --base FOLDER --name NAME [--out FOLDER]
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from training.export_onnx import export
from triage.engines.embedded import MODEL_FILE, TOKENIZER_FILE
from triage.paths import EMBEDDED_RELEASE_DIR, file_digest, text_digest
from triage.prompt import prompt_id
from triage.release import write_manifest
from triage.run import RECORD_NAME, read_run_record
from triage.taxonomy import load_taxonomy


def assemble(model: Path, base: Path, out: Path, name: str, taxonomy_path: Path | None = None) -> None:
    """Write the bundle of one fine-tuning run into `out`, replacing what was there.

    Raises:
        RunError: `model` is not a finished run.
        TaxonomyError: the taxonomy cannot be read.
    """
    taxonomy = load_taxonomy(taxonomy_path)
    record = read_run_record(model)
    out.mkdir(parents=True, exist_ok=True)
    export(AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32), out / MODEL_FILE)
    shutil.copyfile(base / TOKENIZER_FILE, out / TOKENIZER_FILE)
    shutil.copyfile(model / RECORD_NAME, out / "finetune_run.json")
    template = json.loads((base / "tokenizer_config.json").read_text(encoding="utf-8"))["chat_template"]
    write_manifest(
        out,
        {
            "name": name,
            "engine": "embedded",
            "base": {"name": "ticket-triage-base-17m", "revision": record.inputs["base"], "license": "see the model card"},
            "prompt_kind": "tuned",
            "prompt_id": prompt_id("tuned", taxonomy),
            "summary": "extracted",
            "text_budget": record.config["text_budget"],
            "taxonomy": taxonomy.digest,
            "tokenizer": file_digest(base / TOKENIZER_FILE),
            "chat_template": text_digest(template),
            "dataset": record.inputs["train"],
        },
    )
    print(f"{out}: {sum(path.stat().st_size for path in out.iterdir()) / 1e6:.1f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=EMBEDDED_RELEASE_DIR)
    parser.add_argument("--name", required=True)
    parser.add_argument("--taxonomy", type=Path)
    arguments = parser.parse_args()
    assemble(arguments.model, arguments.base, arguments.out, arguments.name, arguments.taxonomy)


if __name__ == "__main__":
    main()
