"""Which split a group belongs to: told by a hash of its name alone, so that it is the same for ever and everywhere.

A group whose tickets lie in the dataset already stays where they are; one that is new goes where its hash falls. Nothing
else is looked at, so adding tickets moves none. The price is that a dataset of few groups misses the shares it aims at.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from triage.dataset import Split

SEED = "ticket-triage split 1"
SHARES: Mapping[Split, float] = {"train": 0.6, "dev": 0.08, "calibration": 0.08, "test": 0.24}
"""The share of groups that each split aims at: those of the project's own tickets."""


def assign_split(group: str, shares: Mapping[Split, float] = SHARES) -> Split:
    """The split of a new group. `shares` sum to 1; the hash is uniform on [0, 1)."""
    number = int.from_bytes(hashlib.sha256(f"{SEED}\n{group}".encode()).digest()[:8], "big") / 2**64
    splits, reached = list(shares), 0.0
    for split in splits[:-1]:
        reached += shares[split]
        if number < reached:
            return split
    return splits[-1]
