"""Generated texts for `data.redaction`: sentences that hold one piece of personal data, and sentences whose numbers hold none.

Seeded, and independent of the redactor: no pattern of `triage.redact` is used to make a case.
"""

from __future__ import annotations

import ipaddress
import random
import string
from collections.abc import Callable
from dataclasses import dataclass

from triage.redact import KINDS, Kind

SEED = 20261126
CASES_PER_KIND = 500


@dataclass(frozen=True, slots=True)
class Case:
    """A text and its gold spans, each a kind with start and end."""

    text: str
    spans: tuple[tuple[Kind, int, int], ...]


def generate_cases(seed: int = SEED) -> list[Case]:
    """`CASES_PER_KIND` texts a kind with one piece of personal data each, the same for the same seed."""
    draw = random.Random(seed)
    makers: dict[Kind, Callable[[random.Random], str]] = {
        "email": _email,
        "phone": _phone,
        "card": _card,
        "iban": _iban,
        "ip": _ip,
        "url": _secret_link,
    }
    cases = []
    for kind in KINDS:
        for _ in range(CASES_PER_KIND):
            value = makers[kind](draw)
            before, after = draw.choice(FRAMES[kind]).split("{}")
            cases.append(Case(before + value + after, ((kind, len(before), len(before) + len(value)),)))
    return cases


def generate_harmless(seed: int = SEED) -> list[str]:
    """200 texts with a number or a link that is no personal data, the same for the same seed."""
    draw = random.Random(seed + 1)
    return [draw.choice(frames).format(_fill(draw, draw.choice(forms))) for frames, forms in HARMLESS for _ in range(200 // len(HARMLESS))]


FRAMES: dict[Kind, tuple[str, ...]] = {
    "email": (
        "Please write to {} instead.",
        "my login is {}, since May 3 it says wrong password",
        "Kontakt: {}\nDanke!",
        "From: Support <{}>\nSubject: Re: 2 open points",
        "mon adresse ({}) n'est plus valable",
        "Add {}; remove the other one",
        "changed from old mail to '{}' yesterday",
        "[{}] cannot log in",
    ),
    "phone": (
        "Please call me back on {} after 5 pm.",
        "My number is {}, thanks",
        "Tel: {}",
        "Sie erreichen mich unter {}.",
        "Rückruf bitte an {} bis Freitag",
        "Vous pouvez me joindre au {}.",
        "mi teléfono es {}, gracias",
        "O meu telemóvel é {}",
        "Best, Jo\nMobile {}\nPlan: Pro",
        "I no longer have the phone {} and cannot get the code",
        "you can whatsapp me: {}",
        "reach me at {} or by mail",
        "U kunt mij bellen op {}.",
        "texted twice from {} and nobody answered",
        "Kind regards,\nSam Lee\n{}",
        "change the contact to {} please",
        "Jo Kim, Leeds, {}",
        "still nothing on {} as of today",
        "{} is the right one, the other is old",
    ),
    "card": (
        "My card {} was declined.",
        "I paid with {} last week",
        "card no: {} exp 04/27",
        "Karte {} wurde zweimal belastet",
        "Please remove {} from my profile.",
        "ma carte {} ne marche pas",
        "charged on {}, twice",
        "the visa is {}\ncvc on request",
    ),
    "iban": (
        "Refund to {} please.",
        "IBAN: {}",
        "Meine Bankverbindung lautet {}, danke.",
        "Merci de rembourser sur {}",
        "transfer went to {} by mistake",
        "account {} (savings)",
    ),
    "ip": (
        "Blocked when I come from {}.",
        "last login from {} was not me",
        "our office has {}, please allow it",
        "client={} status=403",
        "Die Adresse {} ist gesperrt",
        "ping {} times out",
        "X-Forwarded-For: {}",
        "we see requests by {}; please check",
    ),
    "url": (
        "The link {} says expired.",
        "I clicked {} and nothing happened",
        "see {}",
        "Der Link ({}) geht nicht.",
        "It sent me here: {}\nwhat now?",
        "<{}> is dead",
    ),
}

# '#' is a digit, '%' a digit but zero, '@' a capital, '~' a hexadecimal digit; see `_fill`.
PHONES = (
    "+1 %##-555-####", "+1 (%##) %##-####", "(%##) %##-####", "%##-%##-####", "%##.%##.####", "1-800-%##-####", "+1%##%######", "%## %## ####",
    "+44 7### ######", "07### ######", "020 7### ####", "+44 20 7### ####", "(01##%) ######", "07###%#####", "+44 (0)161 ### ####", "0161 496 0###",
    "+49 30 %#######", "030/%#######", "0151 %#######", "+49 (0) 171 %######", "0049 89 %######", "089 %##-##", "+49151%#######", "0171-%######",
    "+33 6 ## ## ## ##", "06 ## ## ## ##", "01.4#.##.##.##", "+336########", "0033 1 4# ## ## ##", "06########",
    "+31 6 ########", "06-########", "020 %## ####", "+31 (0)20 %######", "06 ## ## ## ##",
    "+34 6## ### ###", "6## ### ###", "91 ### ## ##", "+34 6## ## ## ##", "6########",
    "+351 91# ### ###", "91# ### ###", "21# ### ###", "+35196#######",
    "+91 9#### #####", "9####-#####", "+91-98########", "98########", "022 2### ####",
    "+39 3## ### ####", "06 %### ####", "3## %######", "+41 79 ### ## ##", "079 ### ## ##", "+43 664 %######", "0664 %######",
    "+48 5## ### ###", "+46 70-### ## ##", "070-### ## ##", "+47 4## ## ###", "+45 ## ## ## ##", "+353 86 ### ####", "+61 4## ### ###",
    "04## ### ###",
    "+55 11 9####-####", "(11) 9####-####", "+52 55 #### ####", "+81 90-####-####", "+86 138 #### ####", "+971 50 ### ####", "+90 53# ### ## ##",
)  # fmt: skip
CARDS = ("4###############", "4############", "51##############", "55##############", "2221############", "34#############", "37#############",
         "6011############", "65##############", "36############", "3528############", "62##############", "4##################")  # fmt: skip
IBANS = {
    "DE": "##################", "AT": "################", "CH": "#################", "GB": "@@@@##############", "FR": "####################@##",
    "NL": "@@@@##########", "ES": "####################", "PT": "#####################", "IT": "@######################", "BE": "############",
    "PL": "########################", "SE": "####################", "NO": "###########", "DK": "##############", "FI": "##############",
    "IE": "@@@@##############", "LU": "################", "CZ": "####################", "TR": "######################", "SA": "####################",
    "AE": "###################", "MT": "@@@@#####@@@@@@@@@@@@@@@@@@", "RO": "@@@@################",
}  # fmt: skip
LINKS = (
    "https://app.example.com/reset?token=~~~~~~~~~~~~~~~~", "https://shop.example.org/login?session=@#@@##@@#@",
    "http://example.net/cb?state=x&code=~~~~~~~~~~",
    "https://jo:@@##@@\\@example.com/files", "https://example.com/#access_token=@@##@@##@@##@@##",
    "https://files.example.com/d/@#@#@@##@#@@#@@##@#@@#", "https://example.com/invite/~~~~~~~~-~~~~-4~~~-8~~~-~~~~~~~~~~~~",
    "https://bucket.example.com/f.pdf?X-Sig=1&Signature=~~~~~~~~~~~~", "www.example.com/account/password-reset/@#@#@#@#@#@#",
    "https://api.example.com/v2/items?api_key=sk_@@@@########",
    "https://example.com/verify?lang=en&auth=~~~~~~~~", "app.example.com/confirm?email_token=~~~~~~~~",
)  # fmt: skip
HARMLESS: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (
        ("My order {} has not arrived.", "Bestellung {} ist beschädigt", "order no. {}, please cancel", "where is #{}?",
         "commande {} jamais reçue", "pedido {} sin noticias"),
        ("%######", "%########", "%#########", "@@-#####", "@@-##-######", "%##-#######-#######", "@@@########", "SO-2024-######", "%###-####",
         "%###############"),
    ),
    (
        ("Invoice {} is wrong.", "Rechnung {} bitte stornieren", "ticket {} is still open", "case number {}", "my reference was {}",
         "la factura {} está mal"),
        ("%######", "%#########", "INV-######", "2024-#####", "R%#######", "@@#########", "2024/######", "00########"),
    ),
    (
        ("We run version {}.", "since the update to {} it crashes", "Chrome {} on Linux", "firmware {} fails", "fails with v{}"),
        ("%.#.#", "%.##.#", "1#.0.%###.###", "%.#.#-rc.#", "2024.%.#", "%.#.%.1#"),
    ),
    (
        ("Booked for {}.", "am {} war ich nicht da", "it broke on {}", "valid until {} only", "from {} on"),
        ("2024-0%-1#", "1#.0%.2024", "0%/1#/2024", "1# May 2024", "2024-0%-1#T1#:3#:0#", "1#/0%/24", "1#.0%.2024 1#:3#"),
    ),
    (
        ("I was charged {} twice.", "the total is {}", "Betrag: {}", "refund {} please", "we transferred {} on Monday"),
        ("$%,###.##", "€ %.###,##", "%##.## EUR", "%#,###,### INR", "%.###.###,## €", "£%##,###.##", "%## ### EUR", "% ### ### kr", "EUR %######",
         "% ### ### €"),
    ),
    (
        ("tracking {} shows nothing", "Sendungsnummer {}", "parcel {} is lost", "tracking number is {}", "numéro de suivi {}"),
        ("1Z@@@###############"[:18], "1Z ### @## ## #### ###%", "94001###################"[:22], "JD01460###########", "%##########%",
         "RR#########DE", "9400 1### #### #### #### ##", "0034%###############"),
    ),
    (
        ("Opening hours 09:00-17:30 and {} people", "open Mon-Fri 8.00 - 18.00, room {}", "code {} on the screen", "error {} since 9 am",
         "on page {} of the manual", "Windows 11 build {}"),
        ("%#", "%##", "0x8007####", "%###", "E-%####", "%####"),
    ),
    (
        ("see https://example.com/help/{} please", "your page https://www.example.org/{}?page=2&sort=asc is blank",
         "docs at https://docs.example.net/{}#setup"),
        ("how-to-export-%###", "articles/%######", "en/getting-started", "v%/guide", "2024/0%/1#/news", "product-%####-blue-xl"),
    ),
)  # fmt: skip


def _fill(draw: random.Random, form: str) -> str:
    signs = {"#": string.digits, "%": "123456789", "@": string.ascii_uppercase, "~": "0123456789abcdef"}
    return "".join(draw.choice(signs[sign]) if sign in signs else sign for sign in form.replace("\\@", "\x01")).replace("\x01", "@")


def _email(draw: random.Random) -> str:
    first, last = draw.choice(("jo", "Anna", "li.wei", "max", "zoë", "sales", "o'neill")), draw.choice(("smith", "MÜLLER", "ng", "k", "2024"))
    name = draw.choice((f"{first}.{last}", f"{first}_{last}", f"{first}+{last}", f"{first}{draw.randrange(100)}", f"{first}-{last}"))
    host = draw.choice(("example.com", "mail.example.org", "EXAMPLE.NET", "sub-domain.example.co.uk", "müller.example", "a.b.example.museum"))
    return f"{name}@{host}"


def _phone(draw: random.Random) -> str:
    text = _fill(draw, draw.choice(PHONES))
    return text.replace(" ", "\u00a0") if draw.random() < 0.05 else text + draw.choice((" ext. 12", " x345")) if draw.random() < 0.04 else text


def _card(draw: random.Random) -> str:
    body = _fill(draw, draw.choice(CARDS))[:-1]
    total = sum(value if place % 2 else sum(divmod(value * 2, 10)) for place, value in enumerate(map(int, reversed(body))))
    number = body + str(-total % 10)
    if len(number) == 16 and draw.random() < 0.6:
        return draw.choice((" ", "-", " ", "\u00a0", ".")).join(number[place : place + 4] for place in range(0, 16, 4))
    if len(number) in (14, 15) and draw.random() < 0.6:
        return draw.choice((" ", "-")).join((number[:4], number[4:10], number[10:]))
    return number


def _iban(draw: random.Random) -> str:
    country, form = draw.choice(sorted(IBANS.items()))
    account = _fill(draw, form)
    value = int("".join(str(string.digits.find(sign) if sign in string.digits else ord(sign) - 55) for sign in account + country) + "00")
    text = f"{country}{98 - value % 97:02d}{account}"
    spaced = " ".join(text[place : place + 4] for place in range(0, len(text), 4))
    return draw.choice((text, text.lower(), spaced, spaced, spaced.lower(), spaced.replace(" ", "-")))


def _ip(draw: random.Random) -> str:
    if draw.random() < 0.5:
        return str(ipaddress.IPv4Address(draw.getrandbits(32)))
    zeros = draw.choice((0, 16, 48, 64))
    address = ipaddress.IPv6Address((0x2001 << 112) | (draw.getrandbits(112 - zeros) << draw.choice((0, zeros))))
    return draw.choice((address.compressed, address.exploded, address.compressed.upper(), f"::ffff:{ipaddress.IPv4Address(draw.getrandbits(32))}"))


def _secret_link(draw: random.Random) -> str:
    return _fill(draw, draw.choice(LINKS))
