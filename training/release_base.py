"""Assemble a bundle of the embedded base as it is, without fine-tuning, for the ladder's prompted rows.

The base has seen no ticket of this project: `dataset` in the manifest is the digest of what it was pretrained on. It is
asked with the zero-shot prompt, whose instructions take most of its context, so `text_budget` is what they leave. It was
pretrained on sequences of 512 tokens, and these prompts are longer: read its scores with that in mind. Its summaries are
chosen from the message, as the embedded release's are; what it writes itself is about other things. Never serve it.

    python -m training.release_base --out runs/base-release
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tokenizers import Tokenizer

from training.examples import count_with
from training.release_embedded import BASE_NAME, read_unchanged_run, write_bundle
from triage.engines.chatml import render_chatml
from triage.engines.embedded import PROMPT_TOKENS
from triage.engines.onnx_bundle import TOKENIZER_FILE
from triage.errors import ReleaseError, TriageError
from triage.paths import canonical_json, text_digest
from triage.prompt import build_prompt, prompt_id
from triage.taxonomy import Taxonomy, load_taxonomy
from triage.ticket import Message

BASE_DIR = Path(__file__).with_name("embedded_base") / "model"
RUN_FILE = "pretrain_run.json"
LEAST_BUDGET = 16
SPARE_TOKENS = 2
"""A text next to the template's marks can take a token or two more than by itself."""


def assemble_base(base: Path, out: Path, taxonomy: Taxonomy) -> None:
    """Write the bundle of a pretrained base into `out`, replacing what was there.

    Raises:
        RunError: `base` is not a finished run, or was changed since.
        ReleaseError: the taxonomy's instructions leave no room for a message, or `out` holds other things.
    """
    record = read_unchanged_run(base)
    fields = {
        "name": BASE_NAME,
        "prompt_kind": "zero_shot",
        "prompt_id": prompt_id("zero_shot", taxonomy),
        "summary": "extracted",
        "text_budget": measure_budget(Tokenizer.from_file(str(base / TOKENIZER_FILE)), taxonomy),
        "taxonomy": taxonomy.digest,
        "dataset": text_digest(canonical_json(record.inputs)),
    }
    write_bundle(out, model=base, base=base, run_file=RUN_FILE, fields=fields)


def measure_budget(tokenizer: Tokenizer, taxonomy: Taxonomy) -> int:
    """How many tokens of customer text fit beside the zero-shot instructions.

    Raises:
        ReleaseError: fewer than `LEAST_BUDGET`.
    """
    empty = build_prompt(Message(message=""), taxonomy, kind="zero_shot")
    budget = PROMPT_TOKENS - count_with(tokenizer)(render_chatml(empty)) - SPARE_TOKENS
    if budget < LEAST_BUDGET:
        raise ReleaseError(
            f"the instructions of the taxonomy {taxonomy.name} {taxonomy.version} leave {budget} of {PROMPT_TOKENS} tokens for the message",
            "shorten the meanings in the taxonomy, or leave the base's rows out of the ladder",
        )
    return budget


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--base", type=Path, default=BASE_DIR)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--taxonomy", type=Path)
    arguments = parser.parse_args()
    try:
        assemble_base(arguments.base, arguments.out, load_taxonomy(arguments.taxonomy))
    except TriageError as error:
        sys.exit(f"error: {error}\nhint: {error.hint}")


if __name__ == "__main__":
    main()
