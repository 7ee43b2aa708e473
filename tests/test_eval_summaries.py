"""The summary's contract, and word counts that a person can redo."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.summaries import content_words_not_in, contract_faults, copied_run_length, rouge_l, split_words

sentences = st.lists(st.sampled_from(["invoice", "charged", "twice", "the", "app", "29.99"]), min_size=1, max_size=12).map(" ".join)


def test_a_summary_that_keeps_the_contract_has_no_faults() -> None:
    assert contract_faults("Paid for Pro but the dashboard still shows Free.") == []
    assert contract_faults("x" * 160) == []


def test_a_time_of_day_does_not_end_a_sentence() -> None:
    assert contract_faults("Four unknown payments of 1.980 together at 3 a.m. on the company card.") == []
    assert contract_faults("Wants the account unlocked by 5 p.m. Friday, vs. Monday as promised.") == []


@pytest.mark.parametrize(
    ("summary", "fault"),
    [
        ("", "empty"),
        (" \t", "empty"),
        ("x" * 161, "161 characters, 160 are allowed"),
        ("One line\nand another", "more than one line"),
        ("The app crashes. It began on Monday! Nothing helps.", "3 sentences, one is allowed"),
        ("Asks to answer at jo@example.com.", "personal data"),
        ("Card 4111 1111 1111 1111 was charged twice.", "personal data"),
    ],
)
def test_a_broken_contract_is_named(summary: str, fault: str) -> None:
    assert contract_faults(summary) == [fault]


def test_all_faults_of_a_summary_are_named_at_once() -> None:
    assert len(contract_faults("Write to jo@example.com.\nNow. " + "Please " * 30)) == 4


def test_content_words_that_the_message_lacks_are_listed_once_and_in_order() -> None:
    message = "You charged my card twice for March, I am cancelling!"
    assert content_words_not_in("Charges twice in April, wants a refund and a refund of the April charge.", message) == ["april", "refund"]


@pytest.mark.parametrize(
    ("word", "covered_by"),
    [
        ("charge", "charged"),
        ("charges", "charging"),
        ("refunded", "refunds"),
        ("deliveries", "delivery"),
        ("shipped", "shipping"),
        ("cancellation", "cancelled"),
        ("applied", "apply"),
        ("payments", "pay"),
        ("customer's", "customer"),
    ],
)
def test_endings_do_not_matter(word: str, covered_by: str) -> None:
    assert content_words_not_in(word, f"Well, {covered_by.upper()}!") == []


def test_different_words_and_irregular_forms_are_not_covered() -> None:
    assert content_words_not_in("paid app", "pay to apply") == ["paid", "app"]


def test_numbers_count_as_content_and_have_to_be_the_same() -> None:
    assert content_words_not_in("Charged 29.99 on 12 May for 1,000 seats at 8:40.", "charged 29.99 may 12, 1000 seats, 8:40") == []
    assert content_words_not_in("Charged 29.95 for 100 seats.", "charged 29.99 for 1,000 seats") == ["29.95", "100"]


def test_typed_placeholders_are_no_content() -> None:
    assert content_words_not_in("Order [number] never came, answer to [email].", "the order never came, answer me") == []


def test_the_longest_copied_run_is_counted_in_words() -> None:
    message = "Hi, my parcel has been at the depot since Monday. Where is it? It has been at the depot!!"
    assert copied_run_length("Parcel at the depot since Monday, says nobody answers.", message) == 5
    assert copied_run_length("parcel: HAS BEEN, at the", message) == 5
    assert copied_run_length("Refund wanted", message) == 0
    assert copied_run_length("", message) == 0
    assert copied_run_length("anything", "") == 0


def test_rouge_l_equals_the_number_computed_by_hand() -> None:
    # Lin 2004: police killed the gunman / police kill the gunman / the gunman kill police
    assert rouge_l("police kill the gunman", "police killed the gunman") == pytest.approx(2 * 3 / (4 + 4))
    assert rouge_l("the gunman kill police", "police killed the gunman") == pytest.approx(2 * 2 / (4 + 4))
    # common: invoice charged twice = 3; precision 3/4, recall 3/6, F1 = 2 * 0.375 / 1.25 = 0.6
    assert rouge_l("Invoice was charged twice", "the invoice of May: charged me twice") == pytest.approx(2 * 3 / (4 + 7))
    assert rouge_l("one two three four", "one x two y z four") == pytest.approx(0.6)


def test_rouge_l_of_a_summary_without_words_is_zero_but_a_reference_without_words_is_refused() -> None:
    assert rouge_l("...", "some words") == 0
    with pytest.raises(ValueError, match="reference has no words"):
        rouge_l("some words", "...")


@given(sentences, sentences)
@settings(deadline=None)
def test_rouge_l_is_symmetric_between_zero_and_one_and_one_only_for_equal_words(first: str, second: str) -> None:
    score = rouge_l(first, second)
    assert 0 <= score <= 1
    assert score == rouge_l(second, first)
    assert (score == 1) == (split_words(first) == split_words(second))
    assert copied_run_length(first, second) <= score * (len(split_words(first)) + len(split_words(second))) / 2 + 1e-9


@given(sentences)
def test_a_text_adds_nothing_to_itself_and_is_wholly_copied(text: str) -> None:
    assert content_words_not_in(text, text) == []
    assert copied_run_length(text, text) == len(split_words(text))


@given(st.text(max_size=200), st.text(max_size=200))
@settings(deadline=None)
def test_any_text_can_be_scored(summary: str, message: str) -> None:
    contract_faults(summary)
    assert set(content_words_not_in(summary, message)) <= set(split_words(summary))
    assert copied_run_length(summary, message) <= len(split_words(summary))
