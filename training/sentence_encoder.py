"""Reading texts with a sentence encoder of the BERT kind: tokens, padding, and the mean of its last states."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer


def load_tokenizer(folder: Path, *, longest: int) -> Tokenizer:
    """The encoder's tokenizer, cutting at `longest` tokens and padding nothing."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(longest)
    tokenizer.no_padding()
    return tokenizer


def pad_rows(rows: Sequence[list[int]], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and attention mask, padded on the right to the longest, each of shape (rows, length)."""
    longest = max(map(len, rows))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows], device=device)
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows], device=device)
    return ids, mask


def mean_states(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The mean of each row's states, (rows, width), padding left out, as the encoder was trained to be read."""
    return (states * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
