"""Who may see what: every route against every kind of visitor."""

from __future__ import annotations

import re

import pytest

from bitville_apm import limits
from tests.web.made import NOW, end_record, top_row
from tests.web.world import World

ID = end_record()["id"]
API = ("/api/search", f"/api/requests/{ID}", "/api/top?dimension=endpoint", "/api/projects", "/api/hosts")
JSON = ("/index.json", "/top.json", f"/requests/{ID}.json")
PAGES = ("/", "/top", f"/requests/{ID}", "/?project=shop", "/top?dimension=function")
OPEN = ("/login", "/login/some-token", "/favicon.ico")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


def world() -> World:
    made = World()
    made.store.add("shop", end_record())
    made.store.tops["endpoint"] = [top_row("GET /list/{}")]
    return made


@pytest.mark.parametrize("path", [*API, *JSON])
def test_data_for_programs(path: str) -> None:
    """LIST-03: data goes to a read key or a session; 401 to strangers, old and unknown keys, 403 to ingest keys."""
    w = world()
    old = w.session()
    w.clock.advance(limits.SESSION_S)
    expired, sending = w.key("shop", expires=NOW), w.key("shop", scopes="ingest")
    answers = {
        "stranger": w.ask(path),
        "expired key": w.ask(path, key=expired),
        "wrong secret": w.ask(path, key=w.key("shop")[:-1] + "!"),
        "no key at all": w.ask(path, key="letmein"),
        "not bearer": w.ask(path, headers={"Authorization": f"Basic {w.key('shop')}"}),
        "expired session": w.ask(path, session=old),
        "ingest key": w.ask(path, key=sending),
        "a dead key beside a live session": w.ask(path, key=expired, session=w.session()),
    }
    for who, answer in answers.items():
        assert answer.status == (403 if who == "ingest key" else 401), who
        assert set(answer.json()) == {"error", "message", "details"}, who
        assert ID not in answer.text.replace(path, ""), who
    assert answers["stranger"].json()["message"] == "Missing Authorization header"
    assert answers["expired key"].json()["message"] == "Invalid API key"
    assert w.ask(path, key=w.key("shop")).status == 200
    assert w.ask(path, session=w.session()).status == 200
    assert w.ask(path, key=w.key("shop"), method="HEAD").body == b""


@pytest.mark.parametrize("path", PAGES)
def test_pages(path: str) -> None:
    """LIST-03, LIST-09: a page goes to a session; strangers are sent to the log-in, without a word of data."""
    w = world()
    session = w.session()
    assert w.ask(path, session=session).status == 200
    w.clock.advance(limits.SESSION_S)
    for answer in (w.ask(path), w.ask(path, session=session), w.ask(path, session="nonsense")):
        assert (answer.status, answer.header("location"), answer.body) == (303, "/login", b"")


@pytest.mark.parametrize("path", [*API, *JSON])
def test_projects_are_kept_apart(path: str) -> None:
    """STOR-04: another project's key sees nothing of this one, and cannot tell whether a request exists."""
    w = world()
    answer = w.ask(path, key=w.key("other"))
    if "/requests/" in path:
        assert answer.status == 404
        missing = w.ask(path.replace(ID, ID.replace("1", "2")), key=w.key("other"))
        assert answer.text.replace("1", "2") == missing.text.replace("1", "2")
    else:
        assert answer.status == 200
        assert answer.json()["items"] in ([], w.store.tops["endpoint"] and answer.json()["items"])
        for asked in w.store.asked:
            assert asked[1] == frozenset({"other"})


@pytest.mark.parametrize("path", ["/api/search?", "/api/top?dimension=endpoint&", "/api/hosts?", "/?", "/top?"])
def test_asking_for_another_project(path: str) -> None:
    """STOR-04: `project` chooses among the caller's own; any other is 403, whether it exists or not."""
    w = world()
    viewer = w.session("eve", "viewer", "shop,blog")
    assert w.ask(f"{path}project=blog", session=viewer).status == 200
    w.store.asked.clear()
    for other in ("secret", "nowhere"):
        assert w.ask(f"{path}project={other}", session=viewer).status == 403
    assert w.store.asked == []
    assert w.ask(f"{path}project=nowhere", session=w.session()).status == 200


@pytest.mark.parametrize(
    "path", [*API, *JSON, *PAGES, *OPEN, "/nothing", "/api/nothing", "/static/nothing.css", "/logout"]
)
def test_headers_of_every_answer(path: str) -> None:
    """Design 7: every answer, whatever its status, carries the policy that lets nothing foreign in."""
    w = world()
    for session in (None, w.session()):
        for method in ("GET", "HEAD", "POST", "DELETE"):
            answer = w.ask(path, session=session, method=method)
            assert answer.header("content-security-policy") == POLICY
            assert answer.header("x-content-type-options") == "nosniff"
            assert answer.header("referrer-policy") == "same-origin"
            assert answer.header("cache-control") == "no-store"
            assert "server error" not in answer.text.lower()


@pytest.mark.parametrize("path", [*API, *JSON, *PAGES])
def test_other_methods(path: str) -> None:
    """LIST-04: a route that only reads says 405 to anything that is not GET or HEAD."""
    w = world()
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        answer = w.ask(path, session=w.session(), method=method)
        assert answer.status == 405
        assert answer.header("allow") == "GET, HEAD"


@pytest.mark.parametrize("host", ["", "a b", "evil.example/x", "x@y", "a:b", "<script>", "a" * 300])
def test_wrong_hosts(host: str) -> None:
    """LIST-09: an answer is given only under something that can be the name of a host."""
    answer = world().ask("/login", headers={"Host": host})
    assert answer.status == 400


def test_logging_in_and_out() -> None:
    """LIST-09: looking at a link changes nothing; its button logs in once; no script or other site gets the cookie."""
    w = world()
    token = w.link()
    for _ in range(2):
        page = w.ask(f"/login/{token}")
        assert (page.status, page.header("set-cookie")) == (200, None)
        assert 'method="post"' in page.text
    done = w.ask(f"/login/{token}", method="POST", form={"form_token": ""})
    assert (done.status, done.header("location")) == (303, "/")
    cookie = done.header("set-cookie") or ""
    assert {part.strip().lower() for part in cookie.split(";")[1:]} == {
        "path=/", f"max-age={limits.SESSION_S}", "httponly", "secure", "samesite=lax"
    }  # fmt: skip
    session = cookie.split(";")[0].partition("=")[2]
    home = w.ask("/", session=session)
    assert home.status == 200
    again = w.ask(f"/login/{token}", method="POST", form={"form_token": ""})
    assert (again.status, again.header("set-cookie")) == (403, None)
    assert "bitville user link admin" in again.text

    form_token = re.search(r'name="form_token" value="([^"]+)"|value="([^"]+)" name="form_token"', home.text)
    assert form_token is not None
    out = w.ask(
        "/logout", session=session, method="POST", form={"form_token": form_token.group(1) or form_token.group(2)}
    )
    assert (out.status, out.header("location")) == (303, "/login")
    assert w.ask("/", session=session).status == 303


def test_links_that_do_not_work() -> None:
    """LIST-09: an unknown, used or old link says how to get another, and looks the same."""
    w = world()
    token = w.link()
    w.clock.advance(3601)
    pages = [w.ask(f"/login/{t}", method="POST", form={"form_token": ""}) for t in (token, "unknown")]
    assert pages[0].status == 403
    assert pages[0].body == pages[1].body


@pytest.mark.parametrize(
    ("origin", "token", "status"),
    [
        (None, "right", 303), ("https://apm.example:8443", "right", 303), ("https://APM.example:8443", "right", 303),
        (None, "wrong", 403), (None, "", 403), ("https://evil.example", "right", 403), ("null", "right", 403),
        ("https://apm.example:8443.evil.example", "right", 403), ("http://[", "right", 403),
        ("https://apm.example", "right", 403),
    ],
)  # fmt: skip
def test_forms_of_other_sites(origin: str | None, token: str, status: int) -> None:
    """LIST-09: a POST acts only with its session's token and from the same origin."""
    w = world()
    session = w.session()
    given = {"right": w.auth.form_token(session), "wrong": w.auth.form_token("other"), "": ""}[token]
    answer = w.ask(
        "/logout",
        session=session,
        method="POST",
        form={"form_token": given},
        headers={"Origin": origin} if origin else {},
    )
    assert answer.status == status
    assert w.ask("/", session=session).status == (303 if status == 303 else 200)


def test_cookie_without_tls() -> None:
    """LIST-09: over plain HTTP on one machine the cookie travels too; only then it is not marked Secure."""
    w = World(secure=False)
    done = w.ask(f"/login/{w.link()}", method="POST", form={"form_token": ""})
    assert "secure" not in (done.header("set-cookie") or "").lower()
