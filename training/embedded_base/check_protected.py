"""Prove that the pretraining text holds no near-duplicate of a message that people will try the product with.

Reads the same folders as pretraining, compares every text under 2,000 characters with every protected message, and
writes `protected.json`: a digest of each protected message, and what comes near one. A test wants every message of demo,
README, guide and blind set to be there and nothing to come near, so a new message in any of them asks for a new run.

    python -m training.embedded_base.check_protected TEXT_FOLDER
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from training.embedded_base.corpus import MIXTURE, read_source
from triage.paths import PACKAGE_DIR, text_digest, write_json_atomically
from triage.shingles import NEAR_DUPLICATE, Shingles, jaccard, word_shingles

ROOT = Path(__file__).resolve().parents[2]
REPORT_PATH = Path(__file__).with_name("protected.json")
MESSAGE_FILES = (PACKAGE_DIR / "demo_messages.jsonl", ROOT / "data" / "blind" / "messages.jsonl")
PAGES = (ROOT / "README.md", ROOT / "data" / "LABELLING.md")
SHORTEST_WORDS = 3
_QUOTED = re.compile(r'"([^"\n]{8,300})"|“([^”\n]{8,300})”')


def protected_messages() -> list[str]:
    """Every message of the demo and the blind set, and everything of three words or more that README and guide quote."""
    texts = [json.loads(line)["message"] for path in MESSAGE_FILES for line in path.read_text(encoding="utf-8").splitlines()]
    for page in PAGES:
        quoted = (straight or curly for straight, curly in _QUOTED.findall(page.read_text(encoding="utf-8")))
        texts += [text for text in quoted if len(text.split()) >= SHORTEST_WORDS]
    return list(dict.fromkeys(texts))


def near_messages(root: Path, guarded: list[Shingles]) -> list[str]:
    """`source: similarity` of every text that comes near a protected message. Books are compared by nobody."""
    by_shingle: dict[tuple[str, ...], list[int]] = {}
    for place, shingles in enumerate(guarded):
        for shingle in shingles:
            by_shingle.setdefault(shingle, []).append(place)
    found = []
    for source in MIXTURE:
        if source == "classic_books":
            continue
        for document in read_source(root, source):
            for text in [said for _, said in document.turns] or [document.text]:
                shingles = word_shingles(text) if len(text) < 2_000 else frozenset()
                rivals = {place for shingle in shingles for place in by_shingle.get(shingle, ())}
                best = max((jaccard(shingles, guarded[place]) for place in rivals), default=0.0)
                if best >= NEAR_DUPLICATE:
                    found.append(f"{source}: {best:.2f}")
        print(f"{source}: {len(found)} so far", flush=True)
    return found


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    messages = protected_messages()
    near = near_messages(Path(sys.argv[1]), [word_shingles(message) for message in messages])
    report = {"threshold": NEAR_DUPLICATE, "messages": sorted(text_digest(message) for message in messages), "near": near}
    write_json_atomically(REPORT_PATH, report)
    print(f"{REPORT_PATH.name}: {len(messages)} messages, {len(near)} texts come near one")


if __name__ == "__main__":
    main()
