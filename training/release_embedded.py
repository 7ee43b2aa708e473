"""Assemble the embedded release bundle from a fine-tuned model: export, copy the tokenizer, write the manifest.

python -m training.release_embedded --model RUN_FOLDER --base FOLDER --out FOLDER --name NAME
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from training.export_onnx import export
from triage.engines.onnx_bundle import MODEL_FILE, TOKENIZER_FILE
from triage.errors import ReleaseError, RunError, TriageError
from triage.guard import GUARD_FILE
from triage.paths import file_digest, text_digest, weights_digest
from triage.prompt import prompt_id
from triage.release import MANIFEST_NAME, write_manifest
from triage.run import RECORD_NAME, RunRecord, read_run_record
from triage.taxonomy import load_taxonomy

RUN_FILE, GUARD_RUN_FILE = "finetune_run.json", "guard_run.json"
BASE_NAME = "ticket-triage-base-17m"


def assemble(
    model: Path, base: Path, out: Path, name: str, taxonomy_path: Path | None = None, *, summary: str = "extracted", guard: Path | None = None
) -> None:
    """Write the bundle of one fine-tuning run into `out`, replacing what was there, with the guard that `training.guard` fitted.

    Raises:
        RunError: `model` is not a finished run, or was changed since.
        ReleaseError: it was trained for another taxonomy, or `out` holds other things.
        TaxonomyError: the taxonomy cannot be read.
    """
    taxonomy = load_taxonomy(taxonomy_path)
    record = read_unchanged_run(model)
    if record.kind != "finetune":
        raise RunError(f"the run in {model} is one of {record.kind}, not of fine-tuning", "name the folder of training.finetune")
    if record.inputs["base"] != weights_digest(base):
        raise ReleaseError(f"the run in {model} did not start from the base in {base}", "name with --base the folder that it was trained from")
    if guard is not None:
        check_guard(guard, base)
    if record.inputs["taxonomy"] != taxonomy.digest:
        raise ReleaseError(
            f"the run in {model} was trained for the taxonomy {record.inputs['taxonomy'][:12]}, not for {taxonomy.digest[:12]}",
            "pass the taxonomy it was trained for with --taxonomy",
        )
    fields = {
        "name": name,
        "prompt_kind": "tuned",
        "prompt_id": prompt_id("tuned", taxonomy),
        "summary": summary,
        "text_budget": record.config["text_budget"],
        "taxonomy": taxonomy.digest,
        "dataset": record.inputs["train"],
    }
    write_bundle(out, model=model, base=base, run_file=RUN_FILE, fields=fields, guard=guard)


def check_guard(guard: Path, base: Path) -> None:
    """Prove that a guard reads the base's tokens: it hashes their ids.

    Raises:
        RunError: it is no finished run of `training.guard`, or was changed since.
        ReleaseError: it was fitted for another tokenizer.
    """
    record = read_unchanged_run(guard)
    if record.kind != "guard":
        raise RunError(f"the run in {guard} is one of {record.kind}, not of a guard", "name the folder of training.guard")
    if record.inputs["tokenizer"] != file_digest(base / TOKENIZER_FILE):
        raise ReleaseError(
            f"the guard in {guard} was fitted for another tokenizer than that of {base}", "fit it again with --tokenizer for this base"
        )


def read_unchanged_run(folder: Path) -> RunRecord:
    """The record of a finished run whose files are still the ones it wrote.

    Raises:
        RunError: it is not finished, or a file was changed since.
    """
    record = read_run_record(folder)
    changed = [name for name, digest in record.outputs.items() if not (folder / name).is_file() or file_digest(folder / name) != digest]
    if changed:
        raise RunError(f"the run in {folder} is not what its record says: {', '.join(changed)}", "train it again")
    return record


def write_bundle(out: Path, *, model: Path, base: Path, run_file: str, fields: Mapping[str, object], guard: Path | None = None) -> None:
    """Export `model` into `out`, with the base's tokenizer, the run's record as `run_file`, and the manifest, replacing what was there.

    `fields` are those of the manifest that the files do not tell.

    Raises:
        ReleaseError: `out` holds other things.
    """
    if out.exists() and any(
        path.name not in {MODEL_FILE, TOKENIZER_FILE, GUARD_FILE, GUARD_RUN_FILE, run_file, MANIFEST_NAME} for path in out.iterdir()
    ):
        raise ReleaseError(f"{out} holds other things than an embedded release", "name a new folder with --out")
    out.mkdir(parents=True, exist_ok=True)
    (out / MANIFEST_NAME).unlink(missing_ok=True)  # until it is written again, this folder is no release
    export(AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32), out / MODEL_FILE)
    shutil.copyfile(base / TOKENIZER_FILE, out / TOKENIZER_FILE)
    shutil.copyfile(model / RECORD_NAME, out / run_file)
    for name in (GUARD_FILE, GUARD_RUN_FILE):
        (out / name).unlink(missing_ok=True)
    if guard is not None:
        shutil.copyfile(guard / GUARD_FILE, out / GUARD_FILE)
        shutil.copyfile(guard / RECORD_NAME, out / GUARD_RUN_FILE)
    template = json.loads((base / "tokenizer_config.json").read_text(encoding="utf-8"))["chat_template"]
    write_manifest(
        out,
        {
            **fields,
            "engine": "embedded",
            "base": {"name": BASE_NAME, "revision": weights_digest(base), "license": "see the model card"},
            "tokenizer": file_digest(base / TOKENIZER_FILE),
            "chat_template": text_digest(template),
        },
    )
    print(f"{out}: {sum(path.stat().st_size for path in out.iterdir()) / 1e6:.1f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--taxonomy", type=Path)
    parser.add_argument("--summary", choices=("extracted", "written"), default="extracted", help="see NOTES.md in embedded_base")
    parser.add_argument("--guard", type=Path, help="the folder of training.guard; without it nothing is kept from the model")
    arguments = parser.parse_args()
    try:
        assemble(
            arguments.model,
            arguments.base,
            arguments.out,
            arguments.name,
            arguments.taxonomy,
            summary=arguments.summary,
            guard=arguments.guard,
        )
    except TriageError as error:
        sys.exit(f"error: {error}\nhint: {error.hint}")


if __name__ == "__main__":
    main()
