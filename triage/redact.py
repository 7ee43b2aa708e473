"""Personal data -> typed placeholders, by structure alone.

Finds what has a form of its own: e-mail addresses, links, IBANs, IP addresses, and runs of digits long enough to be a
card, a phone or an order. It does not find names, street addresses, IPv6 addresses
or numbers under six digits; a sentence about a person stays as it is.
"""

from __future__ import annotations

import re

_GAP = r"[ ()/.\u00a0\u2010-\u2015-]{0,2}"
_DATE = r"(?:\d{4}[./-]\d{1,2}[./-]\d{1,2}|\d{1,2}[./-]\d{1,2}[./-](?:\d{4}|\d{2}))(?![\d/-])"
_PATTERNS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("[url]", re.compile(r"\bhttps?://\S+|\bwww\.\S+", re.IGNORECASE)),
    ("[email]", re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,5}")),
    ("[iban]", re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?\b")),
    ("[ip]", re.compile(r"\b(?:\d{1,3}\.){3}\d{1,3}\b")),
    ("[number]", re.compile(rf"(?<!\d)(?!{_DATE})[+(]?\d(?:{_GAP}\d){{8,}}")),  # a card or a phone, whatever it is stuck to
    ("[number]", re.compile(rf"(?<![\w./-])(?!{_DATE})[+(]?\d(?:{_GAP}\d){{5,}}\b")),
    ("[number]", re.compile(r"\b[A-Za-z]{1,6}-?\d(?=[\w-]{0,12}\d{3})[\w-]{4,20}\b")),
)


def redact_text(text: str) -> str:
    """The text with every find replaced by its placeholder; dates, amounts and years of four digits stay."""
    for placeholder, pattern in _PATTERNS:
        text = pattern.sub(placeholder, text)
    return text
