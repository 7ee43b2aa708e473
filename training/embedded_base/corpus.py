"""Public text -> cleaned documents for the tokenizer and for pretraining.

Reads folders of JSON Lines files (one folder a source, as `MIXTURE` names them), strips boilerplate, puts dialogues
into ChatML half of the time, and drops every text that comes near a message people will try the product with
(`protected`), so that the demo answers nothing from memory. It adds no triage labels: the base must not know them.

None of the text is part of this project; the model card names the sources and their licences.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from triage.shingles import Shingles, is_near_any, word_shingles

IM_START, IM_END = "<|im_start|>", "<|im_end|>"

MIXTURE: dict[str, int] = {
    "cucom_ecommerce": 20,
    "bitext_support": 10,
    "banking77": 12,
    "clinc_oos": 6,
    "abcd_guidelines": 12,
    "tweetsumm": 15,
    "sgd_dialogues": 6,
    "star_dialogues": 8,
    "taskmaster4": 8,
    "topical_chat": 10,
    "d365bc_docs": 10,
    "gitbugs": 6,
    "classic_books": 4,
}
"""How often each source is read. Service text is read often, old prose seldom: it is there for grammar and vocabulary."""

_BRANDS = re.compile(
    r"\b(amazon|flipkart|myntra|snapdeal|samsung|galaxy|sony|nike|adidas|apple|iphone|ipad|nokia|philips|seagate|"
    r"oneplus|xiaomi|redmi|puma|lenovo|dell|asus|acer|logitech|bosch|lg|hp)\b",
    re.IGNORECASE,
)
_BRAND_STAND_INS = ("the shop", "Nordhof", "Calvix", "Brightway", "Tessaro", "Quillon", "Marlow", "Venko")
_PLACEHOLDER = re.compile(r"\{\{([^}]*)\}\}")
_SPEAKER = re.compile(r"^(User|Agent|A|B): ", re.MULTILINE)
_BLANKS = re.compile(r"[ \t]+")
_LINES = re.compile(r"\n{3,}")


@dataclass(frozen=True)
class Document:
    """One text of one source. `turns` holds (role, text) pairs where the source is a dialogue, else it is empty."""

    source: str
    text: str
    turns: tuple[tuple[str, str], ...] = ()


def read_source(root: Path, source: str, protected: Iterable[Shingles] = ()) -> Iterator[Document]:
    """Every usable document of one source folder, in file order.

    Raises:
        FileNotFoundError: the folder does not exist or holds no `.jsonl` file.
    """
    files = sorted((root / source).glob("*.jsonl"))
    if not files:
        raise FileNotFoundError(f"{root / source} holds no .jsonl file; unpack the public text there first")
    guarded = list(protected)
    for path in files:
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                document = _parse_record(source, json.loads(line))
                if document is None or _is_protected(document, guarded):
                    continue
                yield document


def render(document: Document, *, seed: int) -> str:
    """The text of a document as the model reads it; `seed` decides ChatML or plain speakers, and lower case (one in eight)."""
    draw = random.Random(seed)
    if document.turns and draw.random() < 0.5:
        text = "".join(f"{IM_START}{role}\n{words}{IM_END}\n" for role, words in document.turns)
    elif document.turns:
        names = {"user": "User", "assistant": "Agent"}
        text = "\n".join(f"{names[role]}: {words}" for role, words in document.turns)
    else:
        text = document.text
    if document.source != "classic_books" and draw.random() < 0.125:
        text = text.lower()
    return text


def clean(text: str, *, seed: int = 0) -> str:
    """Normalise line ends and blanks, name placeholders plainly, and put invented names where brand names stood."""
    draw = random.Random(seed)
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = _PLACEHOLDER.sub(lambda match: "the " + match.group(1).strip().lower(), text)
    text = _BRANDS.sub(lambda _: draw.choice(_BRAND_STAND_INS), text)
    return _LINES.sub("\n\n", _BLANKS.sub(" ", text)).strip()


def _parse_record(source: str, record: dict[str, object]) -> Document | None:
    seed = len(str(record.get("text", "")))
    text = clean(str(record.get("text") or record.get("summary") or ""), seed=seed)
    turns = record.get("turns")
    if isinstance(turns, list):
        roles = {"user": "user", "customer": "user", "agent": "assistant"}
        kept = tuple((roles[who], clean(str(said), seed=seed)) for who, said in turns if who in roles)
        return Document(source, text, kept) if kept else None
    if isinstance(reply := record.get("response"), str) and reply:
        return Document(source, text, (("user", text), ("assistant", clean(reply, seed=seed))))
    if _SPEAKER.match(text):
        return Document(source, text, _split_speakers(text))
    return Document(source, text) if len(text) > 3 else None


def _split_speakers(text: str) -> tuple[tuple[str, str], ...]:
    pieces = _SPEAKER.split(text)[1:]
    pairs = zip(pieces[0::2], pieces[1::2], strict=True)
    return tuple(("user" if who in ("User", "A") else "assistant", said.strip()) for who, said in pairs)


def _is_protected(document: Document, guarded: list[Shingles]) -> bool:
    """True when the document, or one turn of it, nearly repeats a protected message. Whole books are compared by no one."""
    if not guarded or document.source == "classic_books":
        return False
    parts = [said for _, said in document.turns] or [document.text]
    return any(is_near_any(word_shingles(part), guarded) for part in parts if len(part) < 2_000)
