"""Scores of summaries: the contract, words the message does not have, runs copied from it, and ROUGE-L.

Only `contract_faults` decides anything. The others are hints for a reader: they compare words, not meaning, and know no
language but English. A summary of a message in another language shares few words with it and is not worse for that.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from triage.redact import redact_summary
from triage.taxonomy import SUMMARY_CHARACTERS

_WORD = re.compile(r"\d+(?:[.,:]\d+)*|[^\W_]+(?:['’][^\W_]+)*")
_PLACEHOLDER = re.compile(r"\[(?:email|phone|card|iban|ip|url|number)\]")
_LINE_ENDS = re.compile(r"[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")
_SENTENCE_END = re.compile(r"(?<!\.\w)(?<!\b(?:vs|Mr|Dr|St))(?:[.!?]|…)+[\"'”’)]*\s+(?=[\"'“‘(]*[A-Z])")  # not "3 a.m. Friday"
_THOUSANDS = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_SUFFIXES = tuple((suffix, 3) for suffix in ("ments", "ment", "ings", "ing", "ed", "es", "s", "e"))
_LONGER_SUFFIXES = tuple((suffix, 4) for suffix in ("ations", "ation", "edly", "ions", "ion", "ers", "er", "ly", "y"))
_ENDINGS = sorted(_SUFFIXES + _LONGER_SUFFIXES, key=lambda ending: -len(ending[0]))
"""What a stem loses, the longest first, and how many letters have to be left."""
_FUNCTION_WORDS = (
    "a about after again all also am an and any are as at be because been before being but by can cannot could did do does doing done down "
    "during each even ever few for from further get gets getting got had has have having he her here hers him his how i if in into is it its "
    "itself just like may me might more most must my myself no nor not now of off on once only or other our out over own per she should since "
    "so some still such than that the their them then there these they this those though through to too under until up upon us use used uses "
    "using very via was we were what when where whether which while who whom whose why will with within without would yet you your"
)
_SAYING_WORDS = (
    "ask asked asking asks customer customers need needed needs report reported reports request requested requesting requests said say saying "
    "says user users want wanted wants wishes writes"
)
STOP_WORDS = frozenset(f"{_FUNCTION_WORDS} {_SAYING_WORDS}".split())
"""Words that carry no fact: function words, and those with which a summary introduces what the customer says."""


def contract_faults(summary: str) -> list[str]:
    """What the summary breaks of its contract (design.md section 4), none if it keeps it: length, one line, one sentence, no personal data.

    Personal data is what `triage.redact.redact_summary` would change. A second sentence is told by a capital letter after
    a full stop, so one that begins with a digit is missed.
    """
    faults = []
    if not summary.strip():
        faults.append("empty")
    if len(summary) > SUMMARY_CHARACTERS:
        faults.append(f"{len(summary)} characters, {SUMMARY_CHARACTERS} are allowed")
    if _LINE_ENDS.search(summary):
        faults.append("more than one line")
    if ends := len(_SENTENCE_END.findall(summary.strip())):
        faults.append(f"{ends + 1} sentences, one is allowed")
    if redact_summary(summary) != summary:
        faults.append("personal data")
    return faults


def content_words_not_in(summary: str, message: str) -> list[str]:
    """The summary's content words that the message lacks, case-folded, in order, each once; a hint at what was made up.

    Words are the same if they share a stem, found by stripping English suffixes far more coarsely than Porter (1980,
    Program 14): `charged` covers `charge`, and `refunding` covers `refunds`. Irregular forms (`paid`, `pay`) and
    synonyms are reported. Numbers have to be the same, whatever the separator of thousands. Typed placeholders are skipped.
    """
    known = {_stem(word) for word in split_words(message)}
    words = dict.fromkeys(split_words(_PLACEHOLDER.sub(" ", summary)))
    return [word for word in words if word not in STOP_WORDS and _stem(word) not in known]


def copied_run_length(summary: str, message: str) -> int:
    """The longest run of consecutive words that the summary has from the message, in words; case and punctuation do not count.

    Time grows with the product of the two lengths.
    """
    theirs = split_words(message)
    longest, previous = 0, [0] * (len(theirs) + 1)
    for word in split_words(summary):
        runs = [0] * (len(theirs) + 1)
        for place, other in enumerate(theirs, start=1):
            if word == other:
                runs[place] = previous[place - 1] + 1
        longest, previous = max(longest, *runs), runs
    return longest


def rouge_l(summary: str, reference: str) -> float:
    """ROUGE-L as F1 over words, in [0, 1], without stemming (Lin 2004, "ROUGE", ACL workshop W04-1013, beta = 1).

    Precision and recall are the longest common subsequence over the words of the summary and of the reference.

    Raises:
        ValueError: the reference has no words.
    """
    ours, theirs = split_words(summary), split_words(reference)
    if not theirs:
        raise ValueError("the reference has no words: there is nothing to compare with")
    return 2 * _common_subsequence(ours, theirs) / (len(ours) + len(theirs))


def split_words(text: str) -> list[str]:
    """Words and numbers, case-folded; `don't` is one word, `29.99` one number, and `1,000` is `1000`."""
    words = (match.group().casefold().replace("’", "'") for match in _WORD.finditer(text))
    return [word.replace(",", "") if _THOUSANDS.fullmatch(word) else word for word in words]


def _stem(word: str) -> str:
    """The word without its endings, so that words of one family mostly meet; numbers and what holds digits stay as they are."""
    word = word.removesuffix("'s")
    if any(map(str.isdigit, word)):
        return word
    if word.endswith(("ies", "ied")) and len(word) > 5:
        word = word[:-3] + "y"
    while suffix := next((each for each, shortest in _ENDINGS if word.endswith(each) and len(word) - len(each) >= shortest), ""):
        word = word.removesuffix(suffix)
    return word[:-1] if len(word) > 3 and word[-1] == word[-2] else word


def _common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest common subsequence, by the row-wise recurrence."""
    above = [0] * (len(second) + 1)
    for word in first:
        row = [0]
        for place, other in enumerate(second, start=1):
            row.append(above[place - 1] + 1 if word == other else max(above[place], row[-1]))
        above = row
    return above[-1]
