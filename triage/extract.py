"""The sentences of a message that could stand for it: what an extractive summary chooses from.

Rules of form alone: quoted lines, signatures and bare greetings are no candidates. It chooses none; an engine does.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from triage.taxonomy import SUMMARY_CHARACTERS

MOST_CANDIDATES = 8
FEWEST_WORDS = 3
LONGEST_TEXT = 8_000
"""Characters of a message that are looked at: its first and its last half of so many."""
LONGEST_SENTENCE = 1_000
LONGEST_ABBREVIATION = 10
"""Characters before a full stop that are looked at."""
NO_TEXT = "The message holds no text."

_QUOTED_LINE = re.compile(r"^[^\S\n]{0,8}[>|].*$", re.MULTILINE)
_REST_IS_OLD = re.compile(
    r"^[^\S\n]{0,8}(-- ?$|_{5,}|-{3,} ?(original|forwarded)|on .{5,80} wrote:|from: .+$|begin forwarded|sent from my |get outlook )",
    re.IGNORECASE | re.MULTILINE,
)
_WRAPPED = re.compile(r"(?<=[\w,])\n(?=[a-zà-ÿ])")
_SENTENCE_END = re.compile(r"[.!?…]+[\"'”’)]{0,3}(?:\s|$)")
_NOT_AN_END = re.compile(
    r"(?:^|[\s(])(?:(?i:mr|mrs|ms|dr|prof|st|vs|approx|ca|etc|e\.g|i\.e|a\.m|p\.m|z\.b|d\.h|inkl|bzgl|tel)|[A-Z]|(?:vom|zum|am|den|der) \d{1,2})$"
)
_NUMBER_FOLLOWS = re.compile(r"(?:^|[\s(])(?:no|nr)$", re.IGNORECASE)
_GREETING = re.compile(
    r"^(?:(?:hi|hello|hey|dear|good (?:morning|afternoon|evening|day)|greetings)(?: \w+){0,3}|"
    r"(?:thanks|thank you|thx|cheers|(?:(?:kind|best|warm|many) )?(?:regards|thanks)|best|sincerely|yours)(?:[ ,]{1,2}\w+){0,4})[,.!]*$",
    re.IGNORECASE,
)
_SALUTATION = re.compile(r"^(hi|hello|hey|hiya|dear|good (morning|afternoon|evening|day))( \w+){0,3}[,.!] (?=\S+ \S+ \S)", re.IGNORECASE)
_OPENING_WORD = re.compile(
    r"^(A|All|Also|And|Any|Are|As|At|But|Can|Could|Did|Do|Does|Every|For|From|How|If|In|Is|It|Its|It's|Just|My|No|Nobody|Not|Nothing|Now|On|Our|Please|"
    r"She|He|So|Still|That|The|Then|There|They|This|To|Was|We|What|When|Where|Which|Who|Why|Will|With|Would|Yes|You|Your)\b(?!\.)"
)
_REPLY_MARKS = re.compile(r"^(?:\s?(?:re|fw|fwd|aw|wg)\s?:\s?)+", re.IGNORECASE)
_LAST_MARKS = re.compile(r"[.!?…]+[\"'”’)]{0,3}$")
_WORD = re.compile(r"\w+")


def candidate_sentences(text: str) -> list[str]:
    """At most `MOST_CANDIDATES` passages in their order, never none; of a longer message the first ones and the last.

    A passage is a sentence and as many after it as fit into a summary together, joined to one by semicolons; what fits as a whole is one
    candidate. Sentences under `FEWEST_WORDS` words are left out as long as a longer one is there. A salutation before a sentence goes.
    """
    text = shorten(text)
    own = _WRAPPED.sub(" ", _QUOTED_LINE.sub("", text))
    if (old := _REST_IS_OLD.search(own)) and any(not is_greeting(line.strip()) for line in own[: old.start()].splitlines() if _WORD.search(line)):
        own = own[: old.start()]
    own = _REPLY_MARKS.sub("", own)
    pieces = [_SALUTATION.sub("", " ".join(piece.split())) for line in (own or text).split("\n") for piece in split_sentences(line)]
    sentences = list(dict.fromkeys(piece for piece in pieces if _WORD.search(piece)))
    substance = [piece for piece in sentences if not is_greeting(piece)] or sentences or [NO_TEXT]
    if len(whole := join_sentences(substance)) <= SUMMARY_CHARACTERS:
        return [whole]
    chosen = [piece for piece in substance if len(_WORD.findall(piece)) >= FEWEST_WORDS] or substance
    if len(chosen) > MOST_CANDIDATES:
        chosen = chosen[: MOST_CANDIDATES - 2] + chosen[-2:]
    return [_passage(chosen[start:])[:LONGEST_SENTENCE] for start in range(len(chosen))]


def is_greeting(text: str) -> bool:
    """Says that a line is a greeting or a closing and nothing else."""
    return _GREETING.match(text) is not None


def split_sentences(line: str) -> list[str]:
    """The sentences of a line: they end at a mark before a blank, unless it belongs to an abbreviation, a number or an initial."""
    found, start = list[str](), 0
    for end in _SENTENCE_END.finditer(line):
        before = line[max(start, end.start() - LONGEST_ABBREVIATION) : end.start()]
        if end.group().startswith(".") and (
            _NOT_AN_END.search(before) or (_NUMBER_FOLLOWS.search(before) and line[end.end() : end.end() + 1].isdigit())
        ):
            continue
        found.append(line[start : end.end()].strip())
        start = end.end()
    return [sentence for sentence in (*found, line[start:].strip()) if sentence]


def join_sentences(sentences: Sequence[str]) -> str:
    """One sentence out of several, semicolons between them."""
    parts = [*(_LAST_MARKS.sub("", sentence) for sentence in sentences[:-1]), sentences[-1]]
    return "; ".join([parts[0], *(_OPENING_WORD.sub(lambda word: word.group().lower(), part) for part in parts[1:])])


def _passage(sentences: Sequence[str]) -> str:
    """The first sentence and as many of the next ones as fit into a summary with it."""
    count = 1
    while count < len(sentences) and len(join_sentences(sentences[: count + 1])) <= SUMMARY_CHARACTERS:
        count += 1
    return join_sentences(sentences[:count])


def shorten(text: str) -> str:
    """What is looked at of a text: the whole of it, or its first and its last half of `LONGEST_TEXT` characters."""
    return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT // 2] + "\n" + text[-LONGEST_TEXT // 2 :]
