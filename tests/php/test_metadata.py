"""What a whole record says of the request, and what never leaves the process."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.php.peer import Fpm, Site

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def end_of(site: Site, fpm: Fpm, code: str = "", uri: str = "/", **how: Any) -> dict[str, Any]:
    """The whole record of one page."""
    with site.agent() as agent:
        fpm.get(site, code, uri, **how)
        return agent.one("end")


@pytest.fixture(autouse=True)
def _whole(site: Site) -> None:
    site.configure(profiling_threshold_ms=0)


def test_bounds_of_strings_and_nesting(site: Site) -> None:
    """PHP-09: strings end at 1000 bytes, nesting at 5; markers say so."""
    code = "bitville_apm_add_context('long', str_repeat('é', 5000));"
    code += "$d = 'x'; for ($i = 0; $i < 600; $i++) $d = [$d]; bitville_apm_add_context('deep', $d);"
    code += "$r = ['a' => 1]; $r['self'] = &$r; bitville_apm_add_context('loop', $r);"
    with site.agent() as agent:
        site.run(code)
        context = agent.one("end")["context"]
    assert context["long"].endswith("...[truncated]")
    assert len(context["long"].encode()) <= 1000 + len("...[truncated]") + 3
    assert context["deep"] == [[[["[MAX_DEPTH_EXCEEDED]"]]]] or json.dumps(context["deep"]).count("[") <= 6
    assert "[MAX_DEPTH_EXCEEDED]" in json.dumps(context["deep"])
    assert "[MAX_DEPTH_EXCEEDED]" in json.dumps(context["loop"])


def test_headers(site: Site, fpm: Fpm) -> None:
    """PHP-09: telling headers lose their value, Referer its query; others are bounded; answers likewise."""
    headers = {
        "Authorization": "Basic am9lOnB3",
        "Cookie": "a=b",
        "X-Api-Key": "k",
        "X-Auth-Token": "k",
        "Proxy-Authorization": "k",
        "X-CSRF-Token": "k",
        "Referer": "https://example.org/a?mail=joe@example.org",
        "Accept-Language": "de",
        "X-Long": "x" * 900,
    }
    end = end_of(site, fpm, "setcookie('sid', 'geheim'); header('Location: /next?code=geheim');", headers=headers)
    sent = end["request"]["headers"]
    for name in list(headers)[:6]:
        assert {key.lower(): value for key, value in sent.items()}[name.lower()] == "[REDACTED]"
    assert sent["Referer"] == "https://example.org/a?[REDACTED]"
    assert sent["Accept-Language"] == "de"
    assert sent["X-Long"] == "x" * 500 + "...[truncated]"
    assert end["response"]["headers"]["Set-Cookie"] == "[REDACTED]"
    assert "geheim" not in json.dumps(end)


def test_no_secret_leaves(site: Site, fpm: Fpm) -> None:
    """PHP-09: a secret put into every field a visitor controls is in none of the lines."""
    secret = "geheim77"
    with site.agent() as agent:
        fpm.get(
            site,
            f"bitville_apm_add_context('x', ['api_key' => '{secret}', 'n' => ['otp' => '{secret}']]);"
            f"bitville_apm_set_endpoint('a?token={secret}'); bitville_apm_external('https://u:{secret}@h', 1);"
            f"trigger_error('password={secret}', E_USER_WARNING);",
            f"/a?password={secret}&x[secret]={secret}&q={secret}-in-a-value-only-whole-records-show",
            method="POST",
            body=f"pwd={secret}&card[cvv]={secret}&csrf={secret}".encode(),
            headers={**FORM, "Authorization": f"Bearer {secret}", "Cookie": f"s={secret}"},
            REMOTE_USER=secret,
            PHP_AUTH_PW=secret,
        )
        agent.one("end")
        lines = json.dumps(agent.lines).replace(f"{secret}-in-a-value", "")
    assert secret not in lines


def test_post_as_it_arrived(site: Site, fpm: Fpm) -> None:
    """PHP-04: what was sent is taken before the application rewrites it."""
    end = end_of(site, fpm, "$_POST = ['changed' => 1]; $_GET = [];", "/?a=1", method="POST", body=b"b=2", headers=FORM)
    assert end["request"]["post"] == {"b": "2"}
    assert end["request"]["query"] == {"a": "1"}


def test_uploads(site: Site, fpm: Fpm) -> None:
    """PHP-04: a file is name, type and size; several of one name are a count."""
    parts = [("one", "a.txt"), ("many[]", "b.txt"), ("many[]", "c.txt")]
    body = "".join(
        f'--B\r\nContent-Disposition: form-data; name="{name}"; filename="{file}"\r\n'
        f"Content-Type: text/plain\r\n\r\nhello\r\n"
        for name, file in parts
    )
    headers = {"Content-Type": "multipart/form-data; boundary=B"}
    end = end_of(site, fpm, "", method="POST", body=(body + "--B--\r\n").encode(), headers=headers)
    assert end["request"]["files"] == {
        "one": {"name": "a.txt", "type": "text/plain", "size": 5},
        "many": {"count": 2, "size": 10},
    }


def test_capture_modes(site: Site, fpm: Fpm) -> None:
    """PHP-09: `capture_get`, `capture_post`, `capture_headers` = names send no value, off sends nothing."""

    def request(mode: str) -> dict[str, Any]:
        site.configure(profiling_threshold_ms=0, capture_get=mode, capture_post=mode, capture_headers=mode)
        end = end_of(site, fpm, "", "/?a=1", method="POST", body=b"b=2", headers={**FORM, "Accept": "x"})
        request: dict[str, Any] = end["request"]
        return request

    names = request("names")
    assert (names["query"], names["post"]) == ({"a": "[REDACTED]"}, {"b": "[REDACTED]"})
    assert set(names["headers"].values()) == {"[REDACTED]"}
    assert request("off") == {"method": "POST", "uri": "/"}


def test_metadata_off(site: Site, fpm: Fpm) -> None:
    """PHP-07: `request_metadata_enabled = 0` leaves method and URI."""
    site.configure(profiling_threshold_ms=0, request_metadata_enabled=0)
    end = end_of(site, fpm, "", "/?a=1")
    assert set(end["request"]) == {"method", "uri"}
    assert "headers" not in end["response"]


@pytest.mark.parametrize(
    ("mode", "address", "sent"),
    [
        ("full", "203.0.113.77", "203.0.113.77"),
        ("network", "203.0.113.77", "203.0.113.0"),
        ("network", "2001:db8:1:2:3::9", "2001:db8:1::"),
        ("off", "203.0.113.77", None),
    ],
)
def test_client_ip(site: Site, fpm: Fpm, mode: str, address: str, sent: str | None) -> None:
    """PHP-09: `client_ip` = full, network (/24, /48), off."""
    site.configure(client_ip=mode)
    with site.agent() as agent:
        fpm.get(site, "", REMOTE_ADDR=address)
        end = agent.one("end")
        assert agent.one("begin").get("client") == end.get("client") == sent


def test_a_large_record_is_pruned(site: Site, fpm: Fpm) -> None:
    """COMM-09: above 200 KB the statements are cut to the 100 slowest, and marked; totals stay."""
    # The pause widens the budget: on a busy machine details would be left out for its sake.
    code = "usleep(500000); $d = new BitvilleApm\\Pdo('sqlite::memory:');"
    code += "for ($i = 0; $i < 450; $i++) {"
    code += " $d->query('select ' . implode(',', array_fill(0, 99, 'null as column_' . $i))); }"
    site.configure(profiling_threshold_ms=0, profiler="none")
    with site.agent() as agent:
        fpm.get(site, code)
        end = agent.one("end")
    assert end["sql"]["n"] == 450
    assert len(end["sql"]["queries"]) == 100
    assert end["sql"]["truncated"] is True
    assert end["sql_truncated"] is True
    assert len(json.dumps(end)) < 210_000


def test_many_values_are_bounded(site: Site, fpm: Fpm) -> None:
    """COMM-09: whatever a visitor sends, the record stays below 200 KB and says what is missing."""
    body = "&".join(f"k{i}={'x' * 900}" for i in range(900)).encode()
    end = end_of(site, fpm, "", method="POST", body=body, headers=FORM)
    assert len(json.dumps(end)) < 201_000
    assert end["truncated"] is True
