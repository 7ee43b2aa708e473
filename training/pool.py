"""What teachers say of many messages, pooled: logits of each message, and of the labels that were decided before a field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from triage.dataset import Example
from triage.errors import RunError
from triage.paths import file_digest
from triage.run import read_run_record
from triage.taxonomy import LABEL_FIELDS, Taxonomy

LOGITS_FILE = "logits.npz"


@dataclass
class Pool:
    """Logits of messages and of the labels before a field.

    `of_message[field]` has shape (messages, labels); `of_before[field][earlier]` (labels of `earlier`, labels of `field`).
    """

    of_message: dict[str, np.ndarray]
    of_before: dict[str, dict[str, np.ndarray]]

    def shares(self, places: np.ndarray, field: str, before: Mapping[str, np.ndarray], *, temperature: float = 1.0) -> np.ndarray:
        """Probabilities, (places, labels), given the indices of the labels decided before."""
        logits = self.of_message[field][places].astype(np.float32)
        for earlier, rows in self.of_before[field].items():
            logits = logits + rows[before[earlier]]
        logits = logits / temperature
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        found: np.ndarray = shares / shares.sum(axis=1, keepdims=True)
        return found

    def decide(self, places: np.ndarray) -> dict[str, np.ndarray]:
        """The likeliest label of each field, one field after the other, as indices."""
        chosen: dict[str, np.ndarray] = {}
        for field in LABEL_FIELDS:
            chosen[field] = self.shares(places, field, chosen).argmax(axis=1)
        return chosen


def pool(parts: Sequence[tuple[float, Pool]]) -> Pool:
    """The weighted mean of logits, which is the normalised geometric mean of the probabilities."""
    total = sum(weight for weight, _ in parts)
    return Pool(
        {field: np.asarray(sum(weight / total * part.of_message[field] for weight, part in parts), dtype=np.float32) for field in LABEL_FIELDS},
        {
            field: {
                earlier: np.asarray(sum(weight / total * part.of_before[field][earlier] for weight, part in parts), dtype=np.float32)
                for earlier in labels_before(field)
            }
            for field in LABEL_FIELDS
        },
    )


def labels_before(field: str) -> list[str]:
    """The fields that are decided before a field."""
    return list(LABEL_FIELDS[: LABEL_FIELDS.index(field)])


def save_pool(found: Pool, folder: Path) -> None:
    """Write the logits into `folder`; those of messages as float16."""
    arrays = {f"message_{field}": found.of_message[field].astype(np.float16) for field in LABEL_FIELDS}
    arrays |= {f"before_{field}_{earlier}": rows for field, before in found.of_before.items() for earlier, rows in before.items()}
    np.savez(folder / LOGITS_FILE, **arrays)  # type: ignore[arg-type]  # numpy types the keywords as its own flag


def load_pool(folder: Path, inputs: Mapping[str, str]) -> tuple[Pool, str]:
    """The logits of a finished run of `training.teacher`, and their digest.

    Raises:
        RunError: the run is not finished, was changed since, or read other messages, tickets or another taxonomy than `inputs` names.
    """
    record = read_run_record(folder)
    unlike = [name for name in ("messages", "train", "taxonomy") if record.inputs.get(name) != inputs.get(name)]
    digest = file_digest(folder / LOGITS_FILE)
    if unlike or record.outputs.get(LOGITS_FILE) != digest:
        raise RunError(
            f"the teachers' run in {folder} is of other {', '.join(unlike) or 'logits than its record says'}", "run training.teacher again"
        )
    with np.load(folder / LOGITS_FILE) as arrays:
        found = Pool(
            {field: arrays[f"message_{field}"] for field in LABEL_FIELDS},
            {field: {earlier: arrays[f"before_{field}_{earlier}"] for earlier in labels_before(field)} for field in LABEL_FIELDS},
        )
    return found, digest


def label_indices(examples: Sequence[Example], taxonomy: Taxonomy) -> dict[str, np.ndarray]:
    """The place of each example's label among the field's labels, by field."""
    return {
        field: np.array([taxonomy.labels(field).index(example.labels.label(field)) for example in examples], dtype=np.int64) for field in LABEL_FIELDS
    }


def one_hot(indices: dict[str, np.ndarray], field: str, taxonomy: Taxonomy) -> np.ndarray:
    """The labels before a field, side by side, shape (examples, labels of all earlier fields)."""
    parts = [np.eye(len(taxonomy.labels(earlier)), dtype=np.float32)[indices[earlier]] for earlier in labels_before(field)]
    return np.concatenate(parts, axis=1) if parts else np.zeros((len(indices[field]), 0), dtype=np.float32)
