"""The sentences of a message that could stand for it: what an extractive summary chooses from.

Rules of form alone: quoted lines, signatures and bare greetings are no candidates. It chooses none; an engine does.
"""

from __future__ import annotations

import re

from triage.taxonomy import SUMMARY_CHARACTERS

MOST_CANDIDATES = 8
FEWEST_WORDS = 3
LONGEST_TEXT = 8_000
"""Characters of a message that are looked at: its first and its last half of so many."""
LONGEST_SENTENCE = 1_000
NO_TEXT = "The message holds no text."

_QUOTED_LINE = re.compile(r"^[^\S\n]{0,8}[>|].*$", re.MULTILINE)
_REST_IS_OLD = re.compile(
    r"^[^\S\n]{0,8}(-- ?$|_{5,}|-{3,} ?(original|forwarded)|on .{5,80} wrote:|from: .+$|begin forwarded|sent from my |get outlook )",
    re.IGNORECASE | re.MULTILINE,
)
_SENTENCE_END = re.compile(r"(?<=[.!?…])[\"'”’)]{0,3}\s|\n")
_GREETING = re.compile(
    r"^(hi|hello|hey|dear|good (morning|afternoon|evening|day)|greetings|thanks|thank you|thx|cheers|"
    r"(kind |best |warm )?regards|sincerely|yours)\b[^.!?]{0,40}[,.!]*$",
    re.IGNORECASE,
)
_SALUTATION = re.compile(r"^(hi|hello|hey|hiya|dear|good (morning|afternoon|evening|day))( \w+){0,3}[,.!] (?=\S+ \S+ \S)", re.IGNORECASE)
_OPENING_WORD = re.compile(
    r"^(A|All|Also|And|Any|Are|As|At|But|Can|Could|Did|Do|Does|Every|For|From|How|If|In|Is|It|Its|It's|Just|My|No|Nobody|Not|Nothing|Now|On|Our|Please|"
    r"She|He|So|Still|That|The|Then|There|They|This|To|Was|We|What|When|Where|Which|Who|Why|Will|With|Would|Yes|You|Your)\b(?!\.)"
)
_LAST_MARKS = re.compile(r"[.!?…]+[\"'”’)]{0,3}$")
_WORD = re.compile(r"\w+")


def candidate_sentences(text: str) -> list[str]:
    """At most `MOST_CANDIDATES` sentences in their order, never none; of a longer message the first ones and the last.

    What fits into a summary as a whole is one candidate, its sentences joined to one by semicolons. Sentences under `FEWEST_WORDS`
    words are left out as long as a longer one is there. A salutation before a sentence goes.
    """
    text = shorten(text)
    own = _QUOTED_LINE.sub("", text)
    if (old := _REST_IS_OLD.search(own)) and own[: old.start()].strip():
        own = own[: old.start()]
    pieces = [_SALUTATION.sub("", " ".join(piece.split())) for piece in _SENTENCE_END.split(own or text)]
    sentences = list(dict.fromkeys(piece for piece in pieces if _WORD.search(piece)))
    substance = [piece for piece in sentences if not _GREETING.match(piece)] or sentences or [NO_TEXT]
    parts = [*(_LAST_MARKS.sub("", piece) for piece in substance[:-1]), substance[-1]]
    if len(whole := "; ".join([parts[0], *(_OPENING_WORD.sub(lambda word: word.group().lower(), part) for part in parts[1:])])) <= SUMMARY_CHARACTERS:
        return [whole]
    chosen = [piece for piece in substance if len(_WORD.findall(piece)) >= FEWEST_WORDS] or substance
    if len(chosen) > MOST_CANDIDATES:
        chosen = chosen[: MOST_CANDIDATES - 2] + chosen[-2:]
    return [sentence[:LONGEST_SENTENCE] for sentence in chosen]


def shorten(text: str) -> str:
    """What is looked at of a text: the whole of it, or its first and its last half of `LONGEST_TEXT` characters."""
    return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT // 2] + "\n" + text[-LONGEST_TEXT // 2 :]
