"""WordPress on MariaDB and MediaWiki on PostgreSQL: not a byte of a page differs, and what is told of it is right.

The judges are the application without the client, and the log of the database.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from bitville_apm import sqltext
from tests.php.applications import Application, Page, crawl
from tests.php.mediawiki import WITH_MEDIAWIKI, MediaWiki
from tests.php.peer import STUB, base_options
from tests.php.wordpress import WITH_WORDPRESS, WordPress

STATIC = re.compile(r"\.(?:css|js|png|svg|gif|ico|woff2?|jpe?g|txt|map)(?:\?|$)")
CHANGES = re.compile(r"logout|_wpnonce|[?&]action=(?!edit\b|history\b|info\b|raw\b)|update-core|post-new|export\.php\?")
"""Links that do something, or ask others."""

CONNECTING = re.compile(r"SET NAMES |SELECT @@SESSION\.sql_mode|SET SESSION sql_mode=")
"""What WordPress says to a connection before it is its own to query with, past `$wpdb->query()`."""


def wanted(uri: str) -> bool:
    return not STATIC.search(uri) and not CHANGES.search(uri)


def differs(app: Application, uri: str, cookies: Mapping[str, str] | None = None) -> str | None:
    """What is wrong with a page with the client; None where it is the page without, byte for byte.

    A page that the application itself does not answer twice alike is no judge; it is asked for again.
    """
    for _ in range(4):
        first, measured, last = (app.get(side, uri, None, cookies) for side in ("bare", "measured", "bare"))
        wanted, found = app.settled(first), app.settled(measured)
        if wanted == app.settled(last):
            pairs = [(a, b) for a, b in zip(wanted, found, strict=False) if a != b]
            return None if wanted == found else f"{uri}: {pairs[:1]!r:.600}"
    return f"{uri}: not twice alike without us"


def mysql_log(database: str) -> Path:
    return Path(database).with_name("log")


def asked_of_mysql(log: bytes) -> list[str]:
    """The statements of a MariaDB's general log."""
    entries = re.split(rb"(?m)^(?:\d{6} [ \d]\d:\d\d:\d\d)?\t+ *\d+ (?=[A-Z][a-z]+)", log)
    parts = (entry.decode("utf-8", "replace").partition("\t") for entry in entries)
    return [text.rstrip("\n") for command, _, text in parts if command in ("Query", "Execute")]


def asked_of_postgres(log: bytes, name: str) -> list[str]:
    """The statements of one session name in a Postgres' log; their further lines begin with a tab."""
    entries = re.split(r"(?m)^(?=[^\t\n|]*\|[A-Z]+: )", log.decode("utf-8", "replace"))
    head = f"{name}|LOG:  statement: "
    return [entry.removeprefix(head).rstrip("\n").replace("\n\t", "\n") for entry in entries if entry.startswith(head)]


def shapes(statements: list[str], dialect: str) -> Counter[str]:
    return Counter(sqltext.statement(text, dialect) for text in statements)


def told(end: dict[str, Any]) -> Counter[str]:
    """How often each statement ran, as a record has it."""
    found: Counter[str] = Counter()
    for query in end["sql"]["queries"]:
        found[query["sql"]] += query.get("n", 1)
    assert end["sql"]["n"] == sum(found.values()), "none is only counted"
    return found


def milliseconds(end: dict[str, Any], function: str) -> int:
    """The time in one function itself, by the profile."""
    samples = 0
    for line in end["profile"]["stacks"].splitlines():
        stack, _, count = line.rpartition(" ")
        samples += int(count) if stack.split(";")[-1] == function else 0
    return samples * int(end["profile"]["period_us"]) // 1000


# --- WordPress on MariaDB --------------------------------------------------------------------------------------

PAGES = {
    "/": "front-page",
    "/post-5/": "single-post",
    "/product/p/": "single-product",
    "/tag/tag1/": "tag",
    "/not/there": "404",
    "/feed/": "feed",
    "/wp-json/wp/v2/posts/1?_embed": "GET /wp-json/wp/v2/posts/{id}",
}


@pytest.mark.parametrize("uri", PAGES)
def test_wordpress(blog: WordPress, mysql: str, uri: str) -> None:
    """PHP-13, PHP-15, PHP-06: the page is the same to the byte; its name is right, and MariaDB was asked no more."""
    assert differs(blog, uri) is None
    log = mysql_log(mysql)
    before = log.stat().st_size
    page, lines = blog.told(uri)
    asked = [text for text in asked_of_mysql(log.read_bytes()[before:]) if not CONNECTING.match(text)]
    end = lines[-1]
    assert (end["request"]["route"], end["response"]["status"]) == (PAGES[uri], page.status)
    assert told(end) == shapes(asked, "mysql")
    assert len(asked) > 3


def test_functions_of_wordpress(blog: WordPress) -> None:
    """PHP-03: where the time went is named by the function that took it, below those of WordPress that led there."""
    _, lines = blog.told("/?price=1")
    assert 50 <= milliseconds(lines[-1], "Shop\\price") <= 400, "it takes 150"
    (stack,) = {
        line.rpartition(" ")[0] for line in lines[-1]["profile"]["stacks"].splitlines() if "Shop\\price" in line
    }
    frames = stack.split(";")
    assert frames.index("do_action") < frames.index("WP_Hook::do_action") < frames.index("Shop\\price")


def form_of(number: int) -> bytes:
    return f"comment=No+{number}&author=Bob&email=bob%40example.org&comment_post_ID=1&comment_parent=0".encode()


def test_a_comment_on_wordpress(blog: WordPress) -> None:
    """PHP-13: a form that is sent changes the same as without us: where it leads, its cookies, its statements."""
    answers = [blog.get(side, "/wp-comments-post.php", form_of(n)) for n, side in enumerate(blog.SIDES)]
    pages = [(p.status, re.sub(r"comment-\d+|unapproved=\d+|hash=\w+|expires=[^;]*", "", repr(p.headers)), p.body)
             for p in answers]  # fmt: skip
    assert pages[0] == pages[1]
    assert answers[0].status == 302
    again = [blog.get(side, "/wp-comments-post.php", form_of(1)) for side in blog.SIDES]
    assert [page.status for page in again] == [409, 409]
    assert again[0].body == again[1].body


# --- MediaWiki on PostgreSQL -----------------------------------------------------------------------------------

WIKI = {
    "/index.php/Main_Page": "view",
    "/index.php?title=Main_Page&action=history": "history",
    "/api.php?action=query&format=json&prop=revisions&titles=Main_Page": "api query",
}


@pytest.mark.parametrize("uri", WIKI)
def test_mediawiki(wiki: MediaWiki, postgres: str, uri: str) -> None:
    """PHP-13, PHP-15, PHP-06, PHP-12: the same page, its name, and each statement of its session in Postgres' log."""
    assert differs(wiki, uri) is None
    page, lines = wiki.told(uri)
    end = lines[-1]
    asked = asked_of_postgres(Path(postgres, "log").read_bytes(), f"bitville-{end['id']}")
    assert (end["request"]["route"], end["response"]["status"]) == (WIKI[uri], page.status)
    assert told(end) == shapes(asked, "pg")
    assert len(asked) > 3


def test_functions_of_mediawiki(wiki: MediaWiki) -> None:
    """PHP-03: likewise, by a hook of its settings."""
    _, lines = wiki.told("/index.php/Main_Page?slow=1")
    assert 50 <= milliseconds(lines[-1], "slowSkin") <= 400, "it takes 150"


def test_an_edit_of_mediawiki(wiki: MediaWiki, postgres: str) -> None:
    """PHP-06, PHP-13: an edit, with its transaction: the answer is the same, and all that Postgres did is told."""
    token = "token=%2B%5C"

    def form(side: str) -> bytes:
        return f"action=edit&format=json&title=Page_of_{side}&text=It%27s&{token}".encode()

    said = {side: wiki.get(side, "/api.php", form(side)) for side in ("bare",)}
    page, lines = wiki.told("/api.php", form("measured"))
    said["measured"] = page
    plain = {
        side: re.sub(rb"\d+", b"", page.body.replace(f"of {side}".encode(), b"of x")) for side, page in said.items()
    }
    assert plain["bare"] == plain["measured"]
    assert b'"result":"Success"' in page.body
    end = lines[-1]
    asked = asked_of_postgres(Path(postgres, "log").read_bytes(), f"bitville-{end['id']}")
    assert told(end) == shapes(asked, "pg")
    assert any(text.startswith("COMMIT") for text in asked)


# --- The command line ------------------------------------------------------------------------------------------

COMMANDS: dict[str, tuple[str, list[str]]] = {
    "wordpress": ("blog", ["wp-cron.php"]),
    "mediawiki": ("wiki", ["maintenance/showSiteStats.php"]),
    "mediawiki that fails": ("wiki", ["maintenance/getText.php", "No_such_page"]),
    "mediawiki that is called wrongly": ("wiki", ["maintenance/getText.php", "--nonsense"]),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_their_commands(request: pytest.FixtureRequest, name: str) -> None:
    """PHP-13: what their commands print, to both outputs, and their exit codes are the same."""
    fixture, (script, *arguments) = COMMANDS[name]
    app: Application = request.getfixturevalue(fixture)
    extensions = WITH_WORDPRESS if fixture == "blog" else WITH_MEDIAWIKI

    def run(*options: str) -> tuple[bytes, bytes, int]:
        command = ["php", *base_options(extensions), *options, script, *arguments]
        environment = {"BITVILLE_APM_INI": str(app.site.ini), "MW_CONFIG_FILE": f"{app.root}/LocalSettings.php"}
        done = subprocess.run(command, cwd=app.home, env=environment, capture_output=True, check=False)
        return done.stdout, done.stderr, done.returncode

    plain = run()
    with app.site.agent() as agent:
        measured = run(f"-dauto_prepend_file={STUB}")
        end = agent.one("end")
    assert measured == plain
    assert end["request"]["uri"].startswith(script)
    assert plain[2] == (0 if name in ("wordpress", "mediawiki") else 1)


# --- All of it -------------------------------------------------------------------------------------------------


def whole(
    app: Application, start: list[str], most: int, cookies: Mapping[str, str] | None = None
) -> tuple[list[str], int]:
    """What is wrong with the pages that a crawl finds, and how many there were."""
    seen: list[str] = []
    wrong: list[str] = []

    def get(uri: str) -> Page:
        return app.get("bare", uri, None, cookies)

    for uri, _ in crawl(start, get, wanted, most):
        seen.append(uri)
        found = differs(app, uri, cookies)
        if found is not None:
            wrong.append(found)
    sys.stdout.write(f"{len(seen)} pages, {len(wrong)} wrong\n")
    return wrong, len(seen)


CRAWLS: dict[str, tuple[str, list[str], int]] = {
    "wordpress": ("blog", ["/", "/wp-login.php", "/robots.txt?", "/wp-sitemap.xml", "/wp-json/wp/v2/posts"], 400),
    "wordpress for its administrator": ("blog", ["/wp-admin/", "/"], 150),
    "mediawiki": ("wiki", ["/index.php/Main_Page", "/index.php?title=Special:SpecialPages",
                           "/index.php?title=Special:Version", "/rest.php/v1/page/Main_Page",
                           "/api.php?action=query&meta=siteinfo&format=json", "/api.php",
                           "/load.php?modules=startup&only=scripts&raw=1"], 150),
}  # fmt: skip


@pytest.mark.full
@pytest.mark.parametrize("name", CRAWLS)
def test_a_whole_crawl(request: pytest.FixtureRequest, name: str) -> None:
    """PHP-13: every page that a link leads to is the same with the client, to the byte, headers included."""
    fixture, start, most = CRAWLS[name]
    app = request.getfixturevalue(fixture)
    cookies = app.log_in() if "administrator" in name else None
    wrong, pages = whole(app, start, most, cookies)
    assert pages > 50
    assert not wrong, f"{len(wrong)} of {pages}: " + "\n".join(wrong[:5])
