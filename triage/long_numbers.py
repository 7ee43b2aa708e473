"""Long numbers that point to a person: IBANs, payment cards and phones, as places in a text.

The parts of `triage.redact` that know numbering plans. A number alone rarely tells what it is, so the words before it help: behind
`order` or `invoice` a number is an order's or an invoice's, behind `call` or `mobile` it is a phone's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

# IBAN: length by country, from the SWIFT IBAN registry (ISO 13616-1).
_IBAN_REGISTRY = (
    "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 EG29 ES24 FI18 FK18 FO18 FR27 GB22 "
    "GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 "
    "MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 "
    "UA29 VA22 VG24 XK20 YE30 "
)
_IBAN_LENGTHS = {part[:2]: int(part[2:]) for part in _IBAN_REGISTRY.split()}
_IBAN_START = re.compile(rf"(?<![^\W_])(?:{'|'.join(_IBAN_LENGTHS)})\d\d(?=[ \u00a0.-]?[A-Za-z0-9])", re.ASCII | re.IGNORECASE)
_IBAN_REST = {
    length: re.compile(rf"(?:[ \u00a0.-]?[A-Za-z0-9]){{{length - 4}}}(?![^\W_])", re.ASCII) for length in sorted(set(_IBAN_LENGTHS.values()))
}


def find_ibans(text: str) -> Iterator[tuple[int, int]]:
    end = 0
    for match in _IBAN_START.finditer(text):
        if match.start() < end:
            continue
        rest = _IBAN_REST[_IBAN_LENGTHS[match.group()[:2].upper()]].match(text, match.end())
        if rest and _is_iban(match.group(), rest.group()):
            end = rest.end()
            yield match.start(), end


def _is_iban(head: str, rest: str) -> bool:
    account = [character for character in rest if character.isalnum()]
    return int("".join(str(int(character, 36)) for character in (*account, *head))) % 97 == 1


# Long numbers: a run of digits with at most three separators between two of them.
_GAP = r"[ ()./\t\u00a0\u2009\u202f\u2010-\u2015-]"
SEVEN_DIGITS = re.compile(r"(?:\D*\d){7}")
_RUN = re.compile(rf"(?<!\d)(?:\+ ?)?\(?\+?\d(?:{_GAP}{{0,3}}\d){{6,}}")
DATE = re.compile(
    r"(?<![\w./-])(?:(?:19|20)\d\d[./-]\d{1,2}[./-]\d{1,2}|\d{1,2}[./-]\d{1,2}[./-](?:(?:19|20)\d\d|\d\d))"
    r"(?:[T ,]{1,2}\d{1,2}[:.]\d\d(?:[:.]\d\d)?)?(?![\w/-]|\.\d)"
    r"|(?<![\w./-])\d{1,2}[:.h]\d\d ?[-\u2013] ?\d{1,2}[:.h]\d\d(?![\w./-])"
)
Named = Literal["phone", "card", "id"]
_ID_WORDS = (
    "order orders purchase purchases invoice invoices ticket tickets case cases claim claims bug issue error status tracking track parcel parcels "
    "package packages shipment shipments consignment receipt receipts booking bookings reservation reservations reference ref confirmation code "
    "transaction transactions txn trx account accounts acct customer customers client clients member members policy contract contracts license "
    "licence serial sku article item product part model imei isbn ean upc gtin asin batch lot voucher coupon po rma arn id ids uuid hash build "
    "version commit aktenzeichen commande commandes facture factures suivi colis dossier pedido pedidos factura facturas envio envío encomenda "
    "encomendas fatura faturas bestelling factuur ordine fattura ssn security "
)
_PHONE_WORDS = (
    "phone phones telephone tel telephono téléphone teléfono telefono telefone telemóvel telefoon mobile mobiles móvil movil celular cell "
    "cellphone portable landline fax desk call calls called calling ring dial dialing reach reached whatsapp sms contact contacts contacting "
    "rufnummer anrufen anruf rückruf erreichbar erreichen appeler appelez rappeler rappelez joindre llamar llamarme llámame llamame ligar ligue "
    "bel bellen bereikbaar "
)
_PHONE_PHRASES = (
    "answer at, answer on, answering at, answering on, message to, message on, messages to, messages on, text me, whats app, my number, meine "
    "nummer, mijn nummer, mon numéro, mi número, mi numero, meu número "
)
_CARD_WORDS = "card cards credit debit visa mastercard amex karte carte cartes tarjeta tarjetas cartão carta iban konto"
_CUES: dict[str, Named] = {
    **dict.fromkeys(_ID_WORDS.split(), "id"),
    **dict.fromkeys([*_PHONE_WORDS.split(), *_PHONE_PHRASES.strip().split(", ")], "phone"),
    **dict.fromkeys(_CARD_WORDS.split(), "card"),
}
_STEMS: tuple[tuple[tuple[str, ...], Named], ...] = (
    (("telefon", "mobil", "handy"), "phone"),
    (("bestell", "auftrag", "rechnung", "sendung", "kunden", "vorgang"), "id"),
    (("karten", "kredit"), "card"),
)
WORD = re.compile(r"(?<!\[)(?<![^\W\d_])[^\W\d_]+")
_ONLY_FILLER = re.compile(
    r"(?:[\s:#.,=()/'\"_-]|\b(?:numbers?|numbered|numero|n[úu]mero|num[ée]ro|nummer|nr|no|num|n|id|code|is|are|was|ist|est|es|and|und|et|y|the|my|"
    r"with|mit|of|or|de|d)\b|\b\w*\d\w*\b){0,24}\Z",
    re.IGNORECASE,
)
_PHONE_AFTER = re.compile(
    r"[ ,:-]{0,2}\(?(?:office|fax|mobile|cell|home|work|landline|whatsapp|phone|tel|mobil|handy|privat|b[üu]ro)\b", re.IGNORECASE
)
_SIGNS, _UNITS = "[$€£¥₹%]", r"(?:EUR|USD|GBP|INR|CHF|JPY|PLN|SEK|NOK|DKK|BRL|euros?|dollars?|pounds?|rupees|km|kg|GB|MB|bytes|ms)\b"
_MONEY_BEFORE = re.compile(rf"(?:{_SIGNS}|\b{_UNITS})[ \u00a0]?\Z", re.IGNORECASE)
_MONEY_AFTER = re.compile(rf"[.,]?-?[ \u00a0]?(?:{_SIGNS}|{_UNITS})|,\d", re.IGNORECASE)


def _before(text: str, start: int) -> Named | Literal["near_id", ""]:
    """What the words before a number call it; `id` stands directly before it, `near_id` somewhere in the 60 characters before."""
    window = text[max(0, start - 60) : start].lower()
    words = list(WORD.finditer(window))
    previous = [""] + [word.group() for word in words]
    for place, word in reversed(list(enumerate(words))):
        named = _cue(word.group(), previous[place])
        if named == "phone" or (named and _ONLY_FILLER.match(window, word.end())):
            return named
        if named:
            return "id" if window.rstrip().endswith("#") else "near_id" if named == "id" else ""
    return "id" if window.rstrip().endswith("#") else ""


def _cue(word: str, previous: str) -> Named | None:
    if named := _CUES.get(word) or _CUES.get(f"{previous} {word}"):
        return named
    return next((kind for stems, kind in _STEMS if word.startswith(stems)), None)


# Cards: 13 to 19 digits, 12 for Maestro; whole, or in the groups in which cards are embossed.
_CARD_GAP = r"[ .\u00a0\u2010-\u2015-]"
_CARD = re.compile(
    rf"(?<![^\W_])(?=(\d{{12,19}}|\d{{4}}{_CARD_GAP}(?:\d{{4}}{_CARD_GAP}\d{{4}}{_CARD_GAP}\d{{1,4}}|\d{{5,6}}{_CARD_GAP}\d{{4,6}})"
    rf"|\d{{6}}{_CARD_GAP}\d{{13}}|\d{{8}}{_CARD_GAP}\d{{8}})(?![^\W_])({_CARD_GAP}\d{{1,3}}(?![^\W_]))?)"
)
_ISSUER = re.compile(r"[3456]|81|9792|1800|2131|220[0-4]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720")
_MAESTRO = re.compile(r"5[0678]|6")
_DECIMAL_BEFORE = re.compile(r"\d[.,]\Z")
_DOUBLED = bytes.maketrans(b"0123456789", b"0246813579")
_NO_DIGITS = re.compile(r"\D+")


def find_cards(text: str) -> Iterator[tuple[int, int]]:
    end = 0
    for match in _CARD.finditer(text):
        start, stop = match.span(1)
        if start < end or not text[start].isdigit():
            continue
        if match.group(2) and _is_card(match.group(1) + match.group(2)):
            stop = match.end(2)
        elif not _is_card(match.group(1)):
            continue
        if not _DECIMAL_BEFORE.search(text[max(0, start - 2) : start]) and _before(text, start) != "id":
            end = stop
            yield start, stop


def _is_card(written: str) -> bool:
    number = _NO_DIGITS.sub("", written)
    if not (_ISSUER.match(number) if 13 <= len(number) <= 19 else len(number) == 12 and _MAESTRO.match(number)):
        return False
    digits = (number if number.isascii() else "".join(str(int(digit)) for digit in number)).encode()
    return (sum(digits[::-2]) + sum(digits[-2::-2].translate(_DOUBLED)) - 48 * len(digits)) % 10 == 0


# Phones. Own forms come first, since they cost nothing and hold for numbers that no operator has assigned.
_REGIONS = ("US", "GB", "DE", "FR", "NL", "ES", "PT", "IT", "IN", "AU")
_LIBRARY_CALLS = 100  # about 0.2 ms each; in a text with more undecided numbers than that, every further one counts as a phone
_ZERO_ZERO = re.compile(r"\(?00[1-9]")
_FORMS = re.compile(
    rf"(?<!\d)(?<!\d-)(?:1[ .-])?(?:\([2-9]\d\d\)[ .-]?|[2-9]\d\d[ ./-]{{1,2}})\d{{3}}[ .-]\d{{4}}(?!-?\d)"  # North America
    rf"|\A\(\d{{2,5}}\)(?:{_GAP}{{0,2}}\d{{2,8}}){{1,4}}\Z"  # area in brackets
    rf"|(?<!\d)(?<!\d-)\(?0[1-9]\d{{0,4}}(?:{_GAP}{{1,3}}\d{{1,8}}){{1,5}}\Z"  # trunk zero
)
_EXTENSION = re.compile(r"(?: ?(?:x|ext\.?|extension|durchwahl|poste)[ :]?|-)\d{1,5}(?![\w-])", re.IGNORECASE)
_WIDE_GAP = re.compile(r" ?[/\t] ?| [-\u2013] |  +")
_STUCK_BEFORE = re.compile(r"[^\W_][_./,-]|.?@")
_NO_PHONE = re.compile(r"\d{3}-\d\d-\d{4}|\d{1,2}\.\d+|\d+\.\d{1,2}")  # a US social security number, a decimal


def find_phones(text: str) -> Iterator[tuple[int, int]]:
    calls, end = 0, 0
    for run in _RUN.finditer(text):
        for start, stop in _pieces(run):
            digits = sum(map(str.isdigit, text[start:stop]))
            if start < end or digits < 7 or not _may_be_phone(text, start, stop):
                continue
            found = _own_form(text, start, stop, digits)
            if found is None:
                calls += 1
                found = _by_library(text, start, stop) if calls <= _LIBRARY_CALLS else (start, stop)
            if found:
                extension = _EXTENSION.match(text, found[1])
                end = extension.end() if extension else found[1]
                yield found[0], end


def _pieces(run: re.Match[str]) -> Iterator[tuple[int, int]]:
    """A run whole, or, where it is too long for one number, what lies between slashes and wide gaps."""
    if sum(map(str.isdigit, run.group())) <= 15:
        yield run.span()
        return
    start = run.start()
    for wide in _WIDE_GAP.finditer(run.group()):
        yield start, run.start() + wide.start()
        start = run.start() + wide.end()
    yield start, run.end()


def _may_be_phone(text: str, start: int, stop: int) -> bool:
    if text[start] == "+" or text.startswith("(+", start):
        return True
    before, after = text[max(0, start - 2) : start], text[stop : stop + 1]
    if before[-1:].isalnum() or before[-1:] == "=" or _STUCK_BEFORE.fullmatch(before):
        return _before(text, start) == "phone" and before[-1:] in "=.:/"
    if (after.isalnum() or after == "_") and not _EXTENSION.match(text, stop):
        return False
    if _MONEY_BEFORE.search(text[max(0, start - 10) : start]) or _MONEY_AFTER.match(text, stop):
        return False
    return not _NO_PHONE.fullmatch(text, start, stop)


def _own_form(text: str, start: int, stop: int, digits: int) -> tuple[int, int] | tuple[()] | None:
    """A find, an empty tuple for surely no phone, or None where the library has to say."""
    if "+" in text[start : start + 2] and 8 <= digits <= 17:
        return start, stop
    named = _before(text, start)
    if named in ("id", "card") or digits > 17:
        return ()
    if digits >= 11 and _ZERO_ZERO.match(text, start, stop):
        return start, stop
    if digits > 15:
        return ()
    if named == "phone" or _PHONE_AFTER.match(text, stop):
        return start, stop
    if (match := _FORMS.search(text[start:stop])) and 8 <= sum(map(str.isdigit, match.group())) <= 13:
        return start + match.start(), start + match.end()
    return () if named == "near_id" or digits < 8 else None


def _by_library(text: str, start: int, stop: int) -> tuple[int, int] | tuple[()]:
    """Whether libphonenumber knows the number in one of the regions, in a grouping that is usual there.

    The leniency is measured (`data.redaction`, six seeds): VALID takes 11 of 1,200 harmless numbers for phones, STRICT_GROUPING none, and
    EXACT_GROUPING misses 6 of 840 phones that STRICT_GROUPING finds.
    """
    from phonenumbers import Leniency, PhoneNumberMatcher  # late, so that commands that redact nothing start fast

    window = text[start:stop]
    for region in _REGIONS:
        for match in PhoneNumberMatcher(window, region, leniency=Leniency.STRICT_GROUPING, max_tries=8):
            return start + match.start, start + match.end
    return ()
