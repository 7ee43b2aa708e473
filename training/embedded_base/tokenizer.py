"""Train the embedded model's tokenizer: byte-level BPE, ChatML marks, pad distinct from end-of-turn.

The pre-tokenizer is Qwen2's pattern, so that a label (letters, digits, underscores) is never merged with the quotes
around it: the automaton relies on prefix, label and suffix of a ticket tokenised apart being equal to the whole.

    python -m training.embedded_base.tokenizer TEXT_FOLDER OUT_FOLDER
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from training.embedded_base.corpus import MIXTURE, read_source
from triage.paths import write_bytes_atomically, write_json_atomically

VOCABULARY_SIZE = 12_288
END_OF_TEXT, IM_START, IM_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
BOOK_CHARACTERS = 20_000_000
"""How much old prose the tokenizer sees; more would spend merges on words no customer writes."""

PATTERN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
JSON_KEYS = '{"category":"x","urgency":"x","needs_human":true,"next_action":"x","summary":"x."}\n'
"""The keys of a ticket, without any label: repeated, so that the fixed text of an answer takes few tokens."""


def train_tokenizer(texts: Iterator[str]) -> Tokenizer:
    """A byte-level BPE tokenizer of `VOCABULARY_SIZE` entries; every byte has a token, so every text can be encoded."""
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(PATTERN), behavior="isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=[END_OF_TEXT, IM_START, IM_END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        min_frequency=3,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def write_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write `tokenizer.json`, `tokenizer_config.json` and the chat template as transformers reads them."""
    write_bytes_atomically(folder / "tokenizer.json", tokenizer.to_str(pretty=False).encode())
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": IM_END,
        "pad_token": END_OF_TEXT,
        "model_max_length": 1024,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    write_json_atomically(folder / "tokenizer_config.json", config)


def _texts(root: Path) -> Iterator[str]:
    yield from itertools.repeat(JSON_KEYS, 2_000)
    for source in MIXTURE:
        budget = BOOK_CHARACTERS if source == "classic_books" else sys.maxsize
        for document in read_source(root, source):
            text = "\n".join(said for _, said in document.turns) or document.text
            yield text[:80_000]
            budget -= min(len(text), 80_000)
            if budget <= 0:
                break


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    root, out = Path(sys.argv[1]), Path(sys.argv[2])
    tokenizer = train_tokenizer(_texts(root))
    write_tokenizer(tokenizer, out)
    print(f"{out / 'tokenizer.json'}: {tokenizer.get_vocab_size()} tokens")


if __name__ == "__main__":
    main()
