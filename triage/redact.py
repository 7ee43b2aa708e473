"""Personal data -> typed placeholders, by structure alone.

Finds what has a form of its own: e-mail addresses (dot-atom, RFC 5322 and 6531), phone numbers (ITU-T E.164, national
spellings by Google's libphonenumber through `phonenumbers`), payment cards (ISO/IEC 7812, Luhn), IBANs (ISO 13616, mod 97),
IP addresses (RFC 791, RFC 4291) and links that carry a credential (RFC 3986 userinfo, a token in query, fragment or path).

It does not find names, street addresses, dates of birth, national identity numbers, passwords in prose, handles, spelled-out
addresses (`jo at example`), or phone numbers under seven digits. A number that stands directly behind a word such as `order`
or `invoice` is taken for that. `redact_summary` is stricter: in a summary no long number and no link is of use.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from triage.long_numbers import DATE, SEVEN_DIGITS, WORD, find_cards, find_ibans, find_phones

Kind = Literal["email", "phone", "card", "iban", "ip", "url"]
KINDS: tuple[Kind, ...] = ("email", "phone", "card", "iban", "ip", "url")


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A find: `text[start:end]` is personal data of this kind."""

    start: int
    end: int
    kind: Kind


def find_personal_data(text: str) -> list[Span]:
    """Every find, in order of place, never overlapping. Time is linear in the length of the text. Never raises."""
    page = _Page(text)
    if "://" in text or "www." in text or "WWW." in text or "=" in text:
        page.take("url", _secret_links(text))
    if "@" in text:
        page.take("email", _emails(page.text))
    if text.count(".") >= 3 or text.count(":") >= 2:
        page.take("ip", _addresses(page.text))
    if SEVEN_DIGITS.match(text):
        page.take("iban", find_ibans(page.text))
        page.hide(_LINK)
        page.hide(DATE)
        page.take("card", find_cards(page.text))
        page.take("phone", find_phones(page.text))
    return sorted(page.spans)


def redact_text(text: str) -> str:
    """The text with every find replaced by `[email]`, `[phone]`, `[card]`, `[iban]`, `[ip]` or `[url]`.

    Repeats until nothing is found, so that redacting a second time changes nothing.
    """
    while spans := find_personal_data(text):
        text = _replace(text, spans, _PLACEHOLDERS)
    return text


def redact_summary(text: str) -> str:
    """The text without personal data, links, order-like ids and numbers of six or more digits; dates and amounts stay.

    A card, a phone and an order are all `[number]` here: a model's summary is too short to say which it was.
    """
    for placeholder, pattern in _SUMMARY_PATTERNS:
        text = pattern.sub(placeholder, text)
    while spans := find_personal_data(text):
        text = _replace(text, spans, _SUMMARY_PLACEHOLDERS)
    return text


class _Page:
    """A text of fixed length in which what is taken or hidden is blanked, so that no later search sees it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.spans: list[Span] = []

    def take(self, kind: Kind, places: Iterator[tuple[int, int]]) -> None:
        found = list(places)
        self.spans += [Span(start, end, kind) for start, end in found]
        self._blank(found)

    def hide(self, pattern: re.Pattern[str]) -> None:
        self._blank([match.span() for match in pattern.finditer(self.text)])

    def _blank(self, places: list[tuple[int, int]]) -> None:
        pieces, done = [], 0
        for start, end in places:
            pieces += [self.text[done:start], _BLANK * (end - start)]
            done = end
        if done:
            self.text = "".join(pieces) + self.text[done:]


_BLANK = "\x00"
_PLACEHOLDERS: dict[Kind, str] = {kind: f"[{kind}]" for kind in KINDS}
_SUMMARY_PLACEHOLDERS: dict[Kind, str] = _PLACEHOLDERS | {"phone": "[number]", "card": "[number]"}


def _replace(text: str, spans: list[Span], placeholders: dict[Kind, str]) -> str:
    pieces, done = [], 0
    for span in spans:
        pieces += [text[done : span.start], placeholders[span.kind]]
        done = span.end
    return "".join(pieces) + text[done:]


# Links. `_LINK` is any link; one is personal data only when it opens something for whoever holds it.
_LINK = re.compile(r"(?:(?<![A-Za-z])[A-Za-z][A-Za-z0-9+.-]{1,15}://|\bwww\.)[^\s<>\"\x00]+", re.IGNORECASE)
_BARE_LINK = re.compile(r"(?<![\w@/.-])(?:[A-Za-z0-9-]{1,63}\.){1,5}[A-Za-z]{2,24}/[^\s<>\"\x00]*=[^\s<>\"\x00]+")
_SECRET_WORDS = (
    "token|key|apikey|sig|signature|secret|code|session|sessionid|sid|auth|authorization|password|passwd|pwd|pass|reset|otp|pin|jwt|"
    "ticket|credential|credentials|hash|hmac|nonce|magic|invite|invitation|verify|verification|confirm|confirmation|"
    "email|mail|phone|mobile|tel|iban|card"
)
_SECRET_KEY = re.compile(
    rf"[?&#;/](?:[\w.\[\]-]{{0,40}}[_.\[-])?(?:access|refresh|id|api|auth|reset|login|csrf)?(?:{_SECRET_WORDS})\]?=[^&#;]", re.IGNORECASE
)
_USERINFO = re.compile(r"://[^/?#@\s]{1,256}@")
_SECRET_PATH = re.compile(
    r"/(?:[a-z]{1,20}[_-])?(?:reset|verify|confirm|invite|invitation|magic|activate|unsubscribe|login|signin|auth|token|password|session|otp)"
    r"(?:[_-][a-z]{1,20}){0,2}/(?=[^/?#]*\d)[\w.~-]{8,}",
    re.IGNORECASE,
)
_PUBLIC_PATH = re.compile(r"/(?:commit|commits|blob|tree|rev|raw)/[0-9a-f]{7,64}", re.IGNORECASE)
_SEGMENT = re.compile(r"[/#=][\w.~%-]{20,}")
_CHUNK_END = re.compile(r"%[0-9A-Fa-f]{2}|[^A-Za-z0-9]+")
_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)
_MIXING = re.compile(r"(?=[A-Za-z][0-9]|[0-9][A-Za-z]|[a-z][A-Z])")


def _secret_links(text: str) -> Iterator[tuple[int, int]]:
    end = 0
    places = {match.start(): match for pattern in (_LINK, _BARE_LINK) for match in pattern.finditer(text)}
    for start, match in sorted(places.items()):
        link = match.group().rstrip(".,;:!?'*_")
        if link.endswith((")", "]", "}")) and not set("([{") & set(link):
            link = link.rstrip(")]}.,;:!?'*_")
        if start >= end and _is_secret(link):
            end = start + len(link)
            yield start, end


def _is_secret(link: str) -> bool:
    if _SECRET_KEY.search(link) or _USERINFO.search(link) or _SECRET_PATH.search(link):
        return True
    path = _PUBLIC_PATH.sub("", link[link.find("/", link.find("://") + 3) :])
    parts = _SEGMENT.findall(path)
    return any((part[0] != "=" and _UUID.search(part)) or any(map(_is_random, _CHUNK_END.split(part))) for part in parts)


def _is_random(chunk: str) -> bool:
    """Whether a piece of a path looks drawn by lot: 16 letters and digits or more that change without a dash between, as in no title."""
    return len(chunk) >= 16 and sum(map(str.isdigit, chunk)) >= 3 and len(_MIXING.findall(chunk)) >= 4


# E-mail. Searched outwards from each @, at most 64 characters to the left (RFC 5321, 4.5.3.1.1).
_LOCAL = re.compile(r"[\w.+%&~!#$*'-]{1,64}\Z")
_DOMAIN = re.compile(r"@(?:[\w-]{1,63}\.){1,8}(?:xn--[\w-]{2,59}|[^\W\d_]{2,24})(?![\w@])")


def _emails(text: str) -> Iterator[tuple[int, int]]:
    end, place = 0, text.find("@")
    while place >= 0:
        if (domain := _DOMAIN.match(text, place)) and (local := _LOCAL.search(text[max(end, place - 64) : place])):
            name = local.group().lstrip(".+%&~!#$*'-")
            if name:
                end = domain.end()
                yield place - len(name), end
        place = text.find("@", max(place + 1, end))


# IP addresses. A version of four parts has the form of one, so the word before it decides.
_V4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w]|\.\d|-\d)", re.ASCII)
_V6 = re.compile(r"(?<![\w:.])(?=[0-9A-Fa-f:]*:[0-9A-Fa-f]*:)[0-9A-Fa-f]{0,4}:[0-9A-Fa-f:.]{1,42}(?![\w])")
_VERSION_WORDS = (
    "v ver version versions release build firmware driver app update updated upgrade upgraded patch revision section sdk plugin browser chrome "
    "chromium firefox seamonkey thunderbird edge opera safari java windows android ios macos "
)
_LINKING_WORDS = "is was to from number no and or"
_VERSIONS, _LINKING = frozenset(_VERSION_WORDS.split()), frozenset(_LINKING_WORDS.split())


def _addresses(text: str) -> Iterator[tuple[int, int]]:
    found = []
    for match in _V4.finditer(text):
        if _is_address(match.group()) and not _is_version(text[max(0, match.start() - 32) : match.start()]):
            found.append(match.span())
    if text.count(":") >= 2:
        for match in _V6.finditer(text):
            word = match.group().rstrip(".")
            word = word[:-1] if word.endswith(":") and not word.endswith("::") else word
            if len(word) > 3 and any(map(str.isdigit, word)) and _is_address(word):
                found.append((match.start(), match.start() + len(word)))
    end = 0
    for start, stop in sorted(found, key=lambda place: (place[0], -place[1])):
        if start >= end:
            end = stop
            yield start, stop


def _is_version(before: str) -> bool:
    before = before.rstrip(" .:=/(-").lower()
    words = [match.group() for match in WORD.finditer(before)][-2:] if before[-1:].isalpha() else []
    return bool(words) and (words[-1] in _VERSIONS or (words[-1] in _LINKING and words[0] in _VERSIONS))


def _is_address(word: str) -> bool:
    """Whether it is an address of some machine: loopback, the unspecified address and network masks are everybody's."""
    try:
        address = ipaddress.ip_address(word)
    except ValueError:
        return False
    return not (address.is_loopback or address.is_unspecified or word.startswith("255.255."))


# Summaries. The patterns are wider than a person's data, on purpose.
_SUMMARY_GAP = r"[ ()/.\u00a0\u2010-\u2015-]{0,2}"
_SUMMARY_DATE = r"(?:\d{4}[./-]\d{1,2}[./-]\d{1,2}|\d{1,2}[./-]\d{1,2}[./-](?:\d{4}|\d{2}))(?![\d/-])"
_SUMMARY_PATTERNS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("[url]", re.compile(r"\bhttps?://\S+|\bwww\.\S+", re.IGNORECASE)),
    ("[email]", re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,5}")),
    ("[iban]", re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?\b")),
    ("[ip]", re.compile(r"\b(?:\d{1,3}\.){3}\d{1,3}\b")),
    ("[number]", re.compile(rf"(?<!\d)(?!{_SUMMARY_DATE})[+(]?\d(?:{_SUMMARY_GAP}\d){{8,}}")),  # a card or a phone, whatever it is stuck to
    ("[number]", re.compile(rf"(?<![\w./-])(?!{_SUMMARY_DATE})[+(]?\d(?:{_SUMMARY_GAP}\d){{5,}}\b")),
    ("[number]", re.compile(r"\b[A-Za-z]{1,6}-?\d(?=[\w-]{0,12}\d{3})[\w-]{4,20}\b")),
)
