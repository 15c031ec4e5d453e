"""The letters of URLs: whatever LIKE finds passes them."""

from __future__ import annotations

import sqlite3

from hypothesis import given, settings
from hypothesis import strategies as st

from bitville_apm.store.sqlite import letters

texts = st.text(st.sampled_from("aAbBzZ09/_-?=&. äÄΣς\u0130"), max_size=12)


@settings(max_examples=300, deadline=None)
@given(texts, texts, texts, texts)
def test_what_like_finds_passes(before: str, first: str, between: str, second: str) -> None:
    """QUERY-02: a URL that contains the wanted parts has all their letters, in either case as LIKE takes them."""
    url = before + first.swapcase() + between + second
    with sqlite3.connect(":memory:") as db:
        pattern = "%".join(("", first.replace("_", "\\_"), second.replace("_", "\\_"), ""))
        (found,) = db.execute("SELECT ? LIKE ? ESCAPE '\\'", (url, pattern)).fetchone()
    wanted = letters.wanted([first, second])
    assert not found or letters.of(url) & wanted == wanted


def test_most_others_do_not() -> None:
    """P10: of ten thousand URLs without what is wanted hardly any is read."""
    wanted = letters.wanted(["/order/find-17"])
    others = [f"/cart/get-{n}/{n * 31 % 977}?page={n % 100}" for n in range(10_000)]
    assert sum(letters.of(url) & wanted == wanted for url in others) < 10
