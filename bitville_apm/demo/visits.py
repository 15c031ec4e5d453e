"""What visitors of the shop ask for: a Zipf law over its pages, and over its products."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence

import attrs

PRODUCTS = 480
CUSTOMERS = 40
"""As many as `shop/src/Database.php` makes."""

RUSH_PAGE = "/recommendations"

_PAGES = (
    "product",
    "home",
    "category",
    "search",
    "add_to_cart",
    "cart",
    "orders",
    "stock",
    "recommendations",
    "checkout",
    "missing",
    "voucher",
)
"""The most visited first."""

_CATEGORIES = ("garden-tools", "kitchen", "lamps", "bicycles", "books", "paints", "toys", "tea")
_WORDS = ("lantern", "spade", "blue kettle", "oak", "winter", "pump", "atlas", "nothing like this")
_MISSING = ("/wp-login.php", "/favicon.ico", "/product/99999", "/old/catalogue.pdf")
_BROWSERS = (
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 "
    "Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
)


@attrs.frozen
class Visit:
    """One request of one visitor."""

    method: str
    uri: str
    visitor: int
    form: Mapping[str, str] = attrs.field(factory=dict)

    @property
    def client(self) -> str:
        """The visitor's address, out of the blocks that are reserved for examples."""
        block = ("192.0.2", "198.51.100", "203.0.113")[self.visitor % 3]
        return f"{block}.{self.visitor + 10}"

    def headers(self) -> dict[str, str]:
        """What a browser would send."""
        return {
            "Host": "shop.example",
            "User-Agent": _BROWSERS[self.visitor % len(_BROWSERS)],
            "Accept": "text/html,application/xhtml+xml",
            "Cookie": f"visitor=v{self.visitor}",
        }


def zipf(count: int) -> list[float]:
    """Cumulative weights of ranks 1 to `count`: the n-th is visited 1/n as often as the first."""
    return list(itertools.accumulate(1 / rank for rank in range(1, count + 1)))


@attrs.define
class Visits:
    """An endless line of visitors. The same `chance` gives the same visits."""

    chance: random.Random
    _pages: Sequence[float] = attrs.field(factory=lambda: zipf(len(_PAGES)))
    _products: Sequence[float] = attrs.field(factory=lambda: zipf(PRODUCTS))

    def next(self) -> Visit:
        """The next visit."""
        page = self.chance.choices(_PAGES, cum_weights=self._pages)[0]
        visitor = self.chance.randrange(CUSTOMERS)
        if page == "add_to_cart":
            form = {"product": str(self._product()), "quantity": str(self.chance.randint(1, 3))}
            return Visit("POST", "/cart", visitor, form)
        if page == "checkout":
            return Visit("POST", "/checkout", visitor)
        if page == "voucher":
            return Visit("POST", "/voucher", visitor, {"code": f"SPRING-{self.chance.randint(1000, 9999)}"})
        return Visit("GET", self._address(page, visitor), visitor)

    def rush(self) -> Visit:
        """One visitor more of the page everybody wants at once."""
        return Visit("GET", RUSH_PAGE, self.chance.randrange(CUSTOMERS))

    def _product(self) -> int:
        return self.chance.choices(range(1, PRODUCTS + 1), cum_weights=self._products)[0]

    def _address(self, page: str, visitor: int) -> str:
        return {
            "home": "/",
            "product": f"/product/{self._product()}",
            "category": f"/category/{self.chance.choice(_CATEGORIES)}",
            "search": "/search?q=" + self.chance.choice(_WORDS).replace(" ", "+"),
            "cart": "/cart",
            "orders": f"/orders/{visitor + 1}",
            "stock": "/api/stock",
            "recommendations": RUSH_PAGE,
            "missing": self.chance.choice(_MISSING),
        }[page]
