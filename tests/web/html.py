"""What a page says, and whether anything in it is not its own."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from urllib.parse import urlsplit

from twisted.internet.defer import ensureDeferred
from twisted.web.template import flattenString, tags

HOSTILE = "\"'><script>alert(1)</script><img src=x onerror=alert(2)>{{7*7}}&lt;javascript:alert(3)\u202e\x00"


class Elements(HTMLParser):
    """Every element of a page, with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def html(*content: object) -> str:
    """What Twisted makes of it."""
    got: list[bytes] = []
    ensureDeferred(flattenString(None, tags.div(*content))).addCallback(got.append)
    return got[0].decode()


def shown(text: str) -> str:
    """A page as it is read."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", text)).replace("\u202f", " ")


def headings(page: str) -> list[str]:
    return [shown(heading).strip() for heading in re.findall(r"<h2[^>]*>(.*?)</h2>", page, re.DOTALL)]


def assert_harmless(text: str) -> None:
    """No element, attribute or address in a page that its templates do not have."""
    page = Elements(text)
    scripts = [s.get("src") or "" for s in page.all("script")]
    assert len(scripts) in (1, 3)  # ours, and on pages with charts uPlot and what calls it
    assert all(src.startswith("/static/") for src in scripts)
    assert all((i.get("src") or "").startswith("/static/") for i in page.all("img"))
    for tag, attributes in page.found:
        assert re.fullmatch(r"[a-z][a-z0-9]*", tag), tag
        assert not {"style", "srcdoc", "onerror"} & set(attributes)
        assert all(re.fullmatch(r"[a-z-]+", name) and not name.startswith("on") for name in attributes), attributes
        for name in ("href", "action", "src"):
            address = urlsplit(attributes.get(name) or "")
            assert (address.scheme, address.netloc) == ("", ""), attributes
    assert "<script>alert" not in text
    assert "\x00" not in text
    assert "\u202e" not in text
