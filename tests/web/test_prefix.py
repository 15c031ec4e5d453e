"""Pages below a path of a proxy."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.web.template import tags

from bitville_apm.web.prefix import prefix_of, prefixed
from tests.web.html import html


def test_addresses() -> None:
    """LIST-08: every address at the root gets the prefix; relative, foreign and fragment ones stay."""
    page = html(tags.a(href="/top?x=1"), tags.img(src="/static/a"), tags.form(action="/login"), tags.a(href="#x"),
                tags.a(href="https://x.test/"), tags.a(href="//x.test"), tags.a(href="top"))  # fmt: skip
    for mine in ("/top?x=1", "/static/a", "/login"):
        assert f'"/apm{mine}"' in prefixed(page, "/apm")
    assert prefixed(page, "/apm").count("/apm") == 3
    assert prefixed(page, "") == page


@given(st.text(st.sampled_from("<>\"'&= /hrefsacton"), max_size=60))
def test_what_records_hold_stays(text: str) -> None:
    """LIST-08: nothing that comes from a record is changed, in text or in an attribute."""
    hostile = text + ' href="/a" <a href="/b"> src="/c'
    page = html(hostile, tags.b(title=hostile), tags.a("x", href="/y"))
    assert prefixed(page, "/apm") == page.replace('<a href="/y">', '<a href="/apm/y">')


@pytest.mark.parametrize("wrong", ["", "/", "apm", "//evil.test", "/a b", '/"onload="x', "/a/../..\\", "/" + "x" * 65])
def test_no_prefix(wrong: str) -> None:
    """LIST-08: what is no path is none."""

    class Asked:
        prefix = wrong

    assert prefix_of(Asked()) == ""  # type: ignore[arg-type]
