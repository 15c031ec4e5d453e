"""What visitors of the shop ask for: a Zipf law over its pages, and over its products."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence

import attrs

PRODUCTS = 480
CUSTOMERS = 40
"""As many as `shop/src/Database.php` makes."""

PAGES = (
    "product",
    "home",
    "category",
    "image",
    "search",
    "prices",
    "add_to_cart",
    "cart",
    "delivery",
    "orders",
    "stock",
    "feed",
    "recommendations",
    "login",
    "checkout",
    "report",
    "missing",
    "voucher",
)
"""The most visited first."""

ROUTES = {
    "product": "GET /product/{id}",
    "home": "GET /",
    "category": "GET /category/{slug}",
    "image": "GET /image/{id}",
    "search": "GET /search",
    "prices": "GET /api/prices",
    "add_to_cart": "POST /cart",
    "cart": "GET /cart",
    "delivery": "GET /api/delivery/{id}",
    "orders": "GET /orders/{id}",
    "stock": "GET /api/stock",
    "feed": "GET /feed",
    "recommendations": "GET /recommendations",
    "login": "POST /login",
    "checkout": "POST /checkout",
    "report": "GET /admin/report",
    "voucher": "POST /voucher",
}
"""The route of each page, as `shop/index.php` names it: its endpoint. `missing` has none."""

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
_CRAWLED = ("product", "category", "search", "image", "prices", "stock", "feed", "home")
_CRAWLER = "198.18.200.7"
_CRAWLER_AGENT = "Mozilla/5.0 (compatible; GreedyBot/3.1; +https://greedybot.example/)"


@attrs.frozen
class Visit:
    """One request of one visitor; `address` and `browser` where they are not the visitor's usual ones."""

    method: str
    uri: str
    visitor: int
    form: Mapping[str, str] = attrs.field(factory=dict)
    address: str = ""
    browser: str = ""

    @property
    def client(self) -> str:
        """The visitor's address, out of a block reserved for tests: a network of its own for each."""
        return self.address or f"198.18.{self.visitor}.10"

    def headers(self) -> dict[str, str]:
        """What a browser would send."""
        return {
            "Host": "shop.example",
            "User-Agent": self.browser or _BROWSERS[self.visitor % len(_BROWSERS)],
            "Accept": "text/html,application/xhtml+xml",
            "Cookie": f"visitor=v{self.visitor}",
        }


def zipf(count: int) -> list[float]:
    """Weights of ranks 1 to `count`: the n-th is visited 1/n as often as the first."""
    return [1 / rank for rank in range(1, count + 1)]


@attrs.define
class Visits:
    """An endless line of visitors. The same `chance` gives the same visits. `weights` are those of `PAGES`."""

    chance: random.Random
    weights: Sequence[float] = attrs.field(factory=lambda: zipf(len(PAGES)))
    _products: Sequence[float] = attrs.field(factory=lambda: list(itertools.accumulate(zipf(PRODUCTS))))

    def next(self) -> Visit:
        """The next visit."""
        return self.of(self.chance.choices(PAGES, self.weights)[0])

    def of(self, page: str) -> Visit:
        """The next visit of one page."""
        visitor = self.chance.randrange(CUSTOMERS)
        if page == "add_to_cart":
            form = {"product": str(self._product()), "quantity": str(self.chance.randint(1, 3))}
            return Visit("POST", "/cart", visitor, form)
        if page == "checkout":
            return Visit("POST", "/checkout", visitor)
        if page == "login":
            return Visit("POST", "/login", visitor, {"name": f"v{visitor}", "password": "secret"})
        if page == "voucher":
            return Visit("POST", "/voucher", visitor, {"code": f"SPRING-{self.chance.randint(1000, 9999)}"})
        return Visit("GET", self._address(page, visitor), visitor)

    def crawl(self) -> Visit:
        """The next page that a greedy robot reads: anything, always from the same address."""
        visit = self.of(self.chance.choice(_CRAWLED))
        return attrs.evolve(visit, address=_CRAWLER, browser=_CRAWLER_AGENT)

    def _product(self) -> int:
        return self.chance.choices(range(1, PRODUCTS + 1), cum_weights=self._products)[0]

    def _address(self, page: str, visitor: int) -> str:
        product = self._product()
        return {
            "home": "/",
            "product": f"/product/{product}",
            "category": f"/category/{self.chance.choice(_CATEGORIES)}",
            "image": f"/image/{product}",
            "search": "/search?q=" + self.chance.choice(_WORDS).replace(" ", "+"),
            "prices": f"/api/prices?ids={product},{product % PRODUCTS + 1},7",
            "cart": "/cart",
            "delivery": f"/api/delivery/{product}",
            "orders": f"/orders/{visitor + 1}",
            "stock": "/api/stock",
            "feed": "/feed",
            "recommendations": "/recommendations",
            "report": f"/admin/report?months={self.chance.randint(1, 3)}",
            "missing": self.chance.choice(_MISSING),
        }[page]
