"""Unlabelled messages for the teachers to label: what customers say in the public text, and pieces of training tickets.

    python -m training.embedded_base.messages TEXT_FOLDER --tickets data/tickets/train.jsonl --out runs/messages.jsonl

The base's own stages (`pretrain`, `distil`) read none of this; the release's fine-tuning does, with the labels that
`training.teacher` gives. Public text stays out of the repository: the file belongs into a folder that git ignores.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
from pathlib import Path

from training.embedded_base.check_protected import protected_messages
from training.embedded_base.corpus import read_source
from triage.dataset import Example, load_examples
from triage.errors import TriageError
from triage.paths import write_bytes_atomically
from triage.prompt import render_message
from triage.shingles import is_near_any, word_shingles
from triage.taxonomy import load_taxonomy

MOST_MESSAGES: dict[str, int] = {
    "cucom_ecommerce": 60_000,
    "bitext_support": 30_000,
    "abcd_guidelines": 100,
    "tweetsumm": 4_000,
    "sgd_dialogues": 15_000,
    "star_dialogues": 15_000,
    "taskmaster4": 3_000,
    "topical_chat": 8_000,
    "d365bc_docs": 8_000,
    "gitbugs": 8_000,
    "classic_books": 2_000,
}
"""How many messages a source gives at most: complaints and requests many, small talk and prose few. Banking77 and CLINC150 give none,
since releases are scored on them (`data/outside`); `embedded-2026.11.4` was made before that was seen."""
FEWEST_WORDS, LONGEST = 3, 900
"""Words and characters of a message from public text."""
PIECES_OF_A_TICKET = 8
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")


def collect_messages(root: Path, protected_texts: list[str], seed: int) -> list[tuple[str, str]]:
    """(source, message) pairs, distinct, in random order: turns of one speaker, some of them joined, questions and passages."""
    guarded = [word_shingles(text) for text in protected_texts]
    draw = random.Random(seed)
    found: dict[str, str] = {}
    for source, most in MOST_MESSAGES.items():
        pieces: list[str] = []
        for document in read_source(root, source, guarded):
            said = [text for role, text in document.turns if role == "user"]
            if said:
                pieces += said
                pieces += [" ".join(said[start : start + draw.choice((2, 2, 3))]) for start in range(0, len(said) - 1, 2)]
            elif len(document.text) <= LONGEST:
                pieces.append(document.text)
            else:
                sentences = [" ".join(sentence.split()) for sentence in _SENTENCE.split(document.text[:60_000])]
                pieces += [" ".join(sentences[start : start + draw.choice((1, 2, 3))]) for start in range(0, len(sentences), 3)]
        pieces = [piece.strip() for piece in pieces if len(piece.split()) >= FEWEST_WORDS and len(piece) <= LONGEST]
        pieces = [piece for piece in dict.fromkeys(pieces) if piece not in found]
        found.update(dict.fromkeys(draw.sample(pieces, min(most, len(pieces))), source))
        print(f"{source}: {min(most, len(pieces))} of {len(pieces)}", flush=True)
    messages = [(source, message) for message, source in found.items() if not is_near_any(word_shingles(message), guarded)]
    draw.shuffle(messages)
    return messages


def pieces_of_tickets(examples: list[Example], seed: int) -> list[str]:
    """Runs of sentences of the newest messages, each shorter than its message: tickets without a label of their own."""
    draw = random.Random(seed)
    found: dict[str, None] = {}
    for example in examples:
        sentences = [" ".join(piece.split()) for piece in _SENTENCE.split(example.message) if piece.strip()]
        spans = [(start, end) for start in range(len(sentences)) for end in range(start + 1, min(start + 4, len(sentences)) + 1)]
        spans = [span for span in spans if span[1] - span[0] < len(sentences)]
        for start, end in draw.sample(spans, min(PIECES_OF_A_TICKET, len(spans))):
            piece = " ".join(sentences[start:end])
            if len(piece.split()) >= FEWEST_WORDS:
                found[piece] = None
        first = example.message.split("\n")[0]
        if (example.subject or example.thread) and first != example.message:
            found[render_message(example.model_copy(update={"message": first}))] = None
    whole = {render_message(example) for example in examples} | {" ".join(example.message.split()) for example in examples}
    return [piece for piece in found if piece not in whole]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("texts", type=Path)
    parser.add_argument("--tickets", type=Path, required=True, help="training tickets, whose pieces are read too")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=20261125)
    parser.add_argument("--taxonomy", type=Path)
    arguments = parser.parse_args()
    try:
        pieces = pieces_of_tickets(load_examples([arguments.tickets], load_taxonomy(arguments.taxonomy)), arguments.seed)
    except TriageError as error:
        sys.exit(f"error: {error}\nhint: {error.hint}")
    messages = [("tickets", piece) for piece in pieces] + collect_messages(arguments.texts, protected_messages(), arguments.seed)
    lines = (json.dumps({"source": source, "text": text}, ensure_ascii=False) + "\n" for source, text in messages)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    write_bytes_atomically(arguments.out, "".join(lines).encode())
    print(f"{arguments.out}: {len(messages)} messages, {len(pieces)} of them pieces of tickets")


if __name__ == "__main__":
    main()
