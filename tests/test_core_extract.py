"""Which sentences of a message could stand for it."""

from __future__ import annotations

import time

import pytest

from triage.extract import MOST_CANDIDATES, NO_TEXT, candidate_sentences, split_sentences


@pytest.mark.parametrize("text", ["", " \n ", "!!!", "> only\n> a quote\n", "-- \nJo", "\u200b", "…"])
def test_there_is_always_a_candidate(text: str) -> None:
    assert len(candidate_sentences(text)) >= 1
    assert all(candidate_sentences(text))


def test_a_message_without_a_word_says_so() -> None:
    assert candidate_sentences("?!") == [NO_TEXT]


def test_what_fits_as_a_whole_is_one_candidate() -> None:
    assert candidate_sentences("Hi there,\n\ndriver?? slot was 6 to 7\n\nThanks, Jo") == ["driver; slot was 6 to 7"]


def test_sentences_of_a_short_message_become_one() -> None:
    assert candidate_sentences("Hey, I paid for pro but my dashboard still says free. Can someone fix this?") == [
        "I paid for pro but my dashboard still says free; can someone fix this?"
    ]
    assert candidate_sentences("Still waiting!! Nobody answers...\nWhat now?") == ["Still waiting; nobody answers; what now?"]


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("Hello Anna, the invoice is wrong", "the invoice is wrong"),
        ("Hey there! where is my parcel", "where is my parcel"),
        ("dear team, nothing works since noon", "nothing works since noon"),
        ("Hello, help", "Hello, help"),
        ("Hidden fees, again and again", "Hidden fees, again and again"),
        ("hi is this the right place for returns, i wonder", "hi is this the right place for returns, i wonder"),
    ],
)
def test_a_greeting_before_a_sentence_goes(said: str, kept: str) -> None:
    assert candidate_sentences(said) == [kept]


def test_quotes_signatures_and_greetings_are_no_candidates() -> None:
    text = (
        "Hello,\n"
        "The export has been stuck at ninety percent since Tuesday and nobody in accounts can close the month with it like this. "
        "We tried two other browsers and another machine before writing to you, and it did the same on each of them.\n"
        "> did you try another browser?\n"
        "Regards,\n"
        "-- \nJo, Accounts\n555-0100\n"
    )
    assert candidate_sentences(text) == [
        "The export has been stuck at ninety percent since Tuesday and nobody in accounts can close the month with it like this.",
        "We tried two other browsers and another machine before writing to you, and it did the same on each of them.",
    ]


def test_a_long_message_keeps_its_beginning_and_its_end() -> None:
    sentences = [f"This is the sentence that has the number {place} in it." for place in range(30)]
    found = candidate_sentences(" ".join(sentences))
    assert len(found) == MOST_CANDIDATES
    assert found[0].startswith("This is the sentence that has the number 0 in it; this is the sentence that has the number 1")
    assert found[-1] == sentences[-1]
    assert all(len(passage) <= 160 for passage in found)


@pytest.mark.parametrize(
    ("line", "sentences"),
    [
        ("Our admin, Mr. Dvorak, has retired. Nobody else can.", ["Our admin, Mr. Dvorak, has retired.", "Nobody else can."]),
        ("Kit no. 6, titanium bolts. They sheared!", ["Kit no. 6, titanium bolts.", "They sheared!"]),
        ("Bis zum 9. September. Danke", ["Bis zum 9. September.", "Danke"]),
        ("At 7 a.m. it broke... why? v1.2 is fine.", ["At 7 a.m. it broke...", "why?", "v1.2 is fine."]),
        ("J. Smith here", ["J. Smith here"]),
        ("It says 68. The invoice says 85.", ["It says 68.", "The invoice says 85."]),
        ("", []),
    ],
)
def test_a_full_stop_that_ends_no_sentence_parts_none(line: str, sentences: list[str]) -> None:
    assert split_sentences(line) == sentences


def test_wrapped_lines_are_one_and_a_subjects_reply_marks_go() -> None:
    text = "Re: Re: Checklists empty\nThe checklists are still\nempty, also for my colleagues"
    assert candidate_sentences(text) == ["Checklists empty; the checklists are still empty, also for my colleagues"]


def test_hostile_lines_take_no_time() -> None:
    begin = time.perf_counter()
    for text in ("a. " * 4_000, "." * 8_000, "re:" * 3_000, "hello " * 2_000, "x\n" * 4_000):
        candidate_sentences(text)
    assert time.perf_counter() - begin < 5
