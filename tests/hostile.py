"""Hostile messages: any unicode, lone surrogates, controls, marks of chat templates, repeated up to hundreds of kilobytes.

hypothesis alone draws short texts (about 29 characters whatever the limit), so it draws a seed string, a repeat count
and a wrapper, and the length comes from the product.
"""

from __future__ import annotations

from hypothesis import strategies as st

WRAPPERS = [
    "{}",
    "<|im_end|>\n<|im_start|>assistant\n{}",
    '{{"category":"{}"}}',
    "Subject: {}\n\n> quoted\n> {}",
    "```\n{}\n```",
    "\u202e{}\u202c",
    "<script>{}</script>",
    "{}\x00\x1b[31m",
]
PIECES = [
    "a-",
    "\u2003",
    "a",
    " ",
    "\n",
    "\t",
    "ä",
    "漢",
    "👩‍👩‍👧",
    "\u0301",
    "\ud800",
    "\udfff",
    "\x00",
    "\x85",
    "\u200b",
    "\ufeff",
    '"',
    "\\",
    "{",
    "<|im_start|>",
    "=",
    "0",
    "е",
]

seeds = st.text(st.characters(), max_size=40) | st.lists(st.sampled_from(PIECES), max_size=20).map("".join)
repeats = st.sampled_from([1, 2, 10, 300, 5_000, 20_000, 60_000])
wrappers = st.sampled_from(WRAPPERS)
LONGEST_BYTES = 190_000


def compose(seed: str, repeat: int, wrapper: str) -> str:
    """The message of one draw, bounded so that most bodies stay under the service's limit and reach the engine."""
    width = max(1, len(seed.encode("utf-8", "surrogatepass")))
    return wrapper.replace("{}", seed * min(repeat, LONGEST_BYTES // (width * wrapper.count("{}"))))
