"""Places in which a secret may stand, for PHP-09: every promised name, spelling, header and marker.

A vector is a text with `SECRET` in it. None of them may leave the process with the secret.
"""

from __future__ import annotations

from urllib.parse import quote

NAMES = [
    *("password", "passwd", "pwd", "pass", "token", "auth_token", "access_token", "refresh_token", "api_key", "apikey"),
    *("secret", "private_key", "credit_card", "card_number", "cvv", "cvc", "ssn", "social_security", "otp", "session"),
    *("authorization", "csrf"),
]
HEADERS = ["Authorization", "Cookie", "X-Api-Key", "X-Auth-Token", "Proxy-Authorization", "X-CSRF-Token"]
CARDS = ["4111111111111111", "4111 1111 1111 1111", "5500-0000-0000-0004", "3400.0000.0000.0009"]


def spellings(name: str) -> list[str]:
    """One name as people write it."""
    parts = name.split("_")
    camel = parts[0] + "".join(part.capitalize() for part in parts[1:])
    return [
        name,
        name.upper(),
        name.replace("_", "-"),
        camel,
        f"user_{name}",
        f"{name}2",
        f"{name}s",
        "x" * 99 + f"_{name}",
    ]


def texts(name: str) -> list[str]:
    """One name and its value within a longer text: URLs, JSON, PHP's own notations, prose."""
    json = f'{{"a":{{"{name}":"SECRET"}},"b":1}}'
    url = f"https://example.org/x?a=1&{name}=SECRET&b=2"
    return [
        f"{name}=SECRET",
        f"{name}: SECRET",
        f"_{name}=SECRET",
        f"{'x' * 300}_{name} = SECRET",
        f"note: {name}: SECRET",
        f"{name} => SECRET",
        f"'{name}' => 'SECRET',",
        f"[{name}] => SECRET",
        f"it was {name}='x y SECRET' there",
        f'{{"{name}": "SECRET"}}',
        f'{{"{name}":["a","SECRET"]}}',
        f'{{"{name}":{{"a":{{"b":[1,"SECRET"]}}}}}}',
        f"'{name}' => array (0 => 'a', 1 => 'SECRET')",
        f'"{name}":"a \\" SECRET"',
        json,
        json.replace('"', '\\"'),
        quote(json),
        url,
        f"/x?user[{name}]=SECRET",
        f"/x?{name}[]=SECRET&{name}[a]=SECRET",
        f"/x?{quote(name + '[0]')}=SECRET",
        quote(url, safe=""),
        quote(quote(url, safe=""), safe=""),
        f"/go?next={quote(url, safe='')}",
        "word " * 190 + f"{name}=SECRET",
        f"{name}={'y' * 900}" + " a" * 110 + f" {name}=SECRET",
    ]


USERS = ["https://joe:SECRET@example.org/x", "mysql://root:a@SECRET@db/shop", quote("ftp://joe:SECRET@h/", safe="")]
TOKENS = ["Bearer SECRETabc", "Basic SECRETabc=", "it said: bearer  SECRETabc", "Authorization: Digest user=SECRET"]
LINES = [f"{header}: a SECRET; b=SECRET" for header in HEADERS]


def everything() -> list[str]:
    """All vectors that are texts."""
    return [text for name in NAMES for text in texts(name)] + USERS + TOKENS + LINES
