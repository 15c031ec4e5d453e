"""No secret leaves the process: the bytes that do are searched for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from tests.php import secrets
from tests.php.peer import Agent, Fpm, Site

SECRET = "geheimXq77"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
ALL = [text.replace("SECRET", SECRET) for text in secrets.everything()]


@pytest.fixture(autouse=True)
def _whole(site: Site) -> None:
    site.configure(profiling_threshold_ms=0)


def leaks(agent: Agent, *needles: str) -> list[str]:
    """Where a secret is in what was received: in the bytes, or in them as a reader of JSON sees them."""
    read = json.dumps(agent.lines, ensure_ascii=False)
    sent = agent.received.decode()
    found = []
    for needle in needles or (SECRET,):
        for text in (sent, read):
            at = text.find(needle)
            if at >= 0:
                found.append(text[max(0, at - 120) : at + 40])
    return found


def chunks(values: list[Any], size: int) -> Iterator[list[Any]]:
    return (values[at : at + size] for at in range(0, len(values), size))


def asked(site: Site, fpm: Fpm, code: str = "", uri: str = "/", **how: Any) -> Agent:
    with site.agent() as agent:
        fpm.get(site, code, uri, **how)
        end = agent.one("end")
        assert end["short"] is False
        assert "truncated" not in end
        return agent


def test_values_under_telling_names(site: Site, fpm: Fpm) -> None:
    """PHP-09: every name in every spelling, in query, form, cookies, headers and context, at every depth."""
    spelt = [spelling for name in secrets.NAMES for spelling in secrets.spellings(name)]
    for some in chunks(spelt, 60):
        values = [(name, SECRET) for name in some] + [(f"a[{name}]", SECRET) for name in some]
        values += [(f"{name}[]", SECRET) for name in some] + [(f"{name}[a][b][c][d][e][f]", SECRET) for name in some]
        values += [("a[b][c][d][e][f][g]", SECRET)]
        context = json.dumps(dict.fromkeys(some, SECRET) | {"n": [{name: {"x": SECRET}} for name in some]})
        code = f"bitville_apm_add_context('c', json_decode('{context}', true));"
        headers = {f"X-{name.replace('_', '-')}": SECRET for name in some} | {"Cookie": urlencode(values[:20])}
        agent = asked(
            site,
            fpm,
            code,
            "/?" + urlencode(values),
            method="POST",
            body=urlencode(values).encode(),
            headers=headers | FORM,
        )
        assert leaks(agent) == []


@pytest.mark.parametrize("place", ["query", "form", "names", "header", "context", "answer", "fatal", "helpers", "path"])
def test_secrets_within_texts(site: Site, fpm: Fpm, place: str) -> None:
    """PHP-09: pairs in JSON, URLs (encoded once and twice), PHP's notations and prose; users in URLs; bearers."""
    sizes = {"query": 90, "form": 90, "names": 90, "context": 90, "header": 30, "answer": 30}
    few = [ALL[at] for at in range(0, len(ALL), 7)]
    found: list[str] = []
    for some in chunks(ALL if place in sizes else few, sizes.get(place, 1)):
        how: dict[str, Any] = {}
        code, uri = "", "/"
        quoted = json.dumps(some).replace("\\", "\\\\").replace("'", "\\'")
        if place == "query":
            uri = "/?" + urlencode([(f"k{i}", text) for i, text in enumerate(some)])
        elif place == "form":
            how = {"method": "POST", "headers": FORM, "body": urlencode([("k[]", text) for text in some]).encode()}
        elif place == "names":
            # A bearer token is no name of a field, and `basic_settings` is one.
            some = [text for text in some if "earer" not in text and "Basic" not in text]
            how = {"method": "POST", "headers": FORM, "body": "&".join(quote(t) + "=1" for t in some).encode()}
            uri = "/?" + "&".join(quote(text) + "=1" for text in some)
        elif place == "header":
            how = {
                "headers": {f"X-Field-{i}": text for i, text in enumerate(some)}
                | {"Referer": some[0], "User-Agent": some[1]}
            }
        elif place == "path":
            uri = "/x/" + quote(some[0], safe="/=&:")
        elif place == "context":
            code = f"bitville_apm_add_context('c', json_decode('{quoted}'));"
        elif place == "answer":
            code = f"foreach (json_decode('{quoted}') as $i => $t) {{ header('X-Answer-' . $i . ': ' . $t); }}"
            code += f"header('Location: /next?code={SECRET}'); setcookie('sid', '{SECRET}');"
        elif place == "fatal":
            code = f"throw new Exception(json_decode('{quoted}')[0]);"
        else:
            code = f"$t = json_decode('{quoted}')[0]; bitville_apm_set_endpoint($t); bitville_apm_external($t, 1);"
            code += "bitville_apm_add_context($t, $t); bitville_apm_end(); bitville_apm_begin($t);"
            with site.agent() as agent:
                fpm.get(site, code, uri)
                agent.all("end", 2)
                assert leaks(agent) == [], some
            continue
        found += leaks(asked(site, fpm, code, uri, **how))
    assert found == []


def test_headers_that_tell(site: Site, fpm: Fpm) -> None:
    """PHP-09: the named headers lose their value, Referer and Location their query."""
    headers = dict.fromkeys(secrets.HEADERS, f"{SECRET} a={SECRET}") | {"Referer": f"https://h/a?mail={SECRET}"}
    agent = asked(site, fpm, f"header('Location: /b?mail={SECRET}'); setcookie('a', '{SECRET}');", headers=headers)
    assert leaks(agent) == []
    sent = {name.lower(): value for name, value in agent.lines[-1]["request"]["headers"].items()}
    assert [sent[name.lower()] for name in secrets.HEADERS] == ["[REDACTED]"] * len(secrets.HEADERS)


def test_cards(site: Site, fpm: Fpm) -> None:
    """PHP-09: cards of 16 digits in values, numbers, names of fields, paths and messages."""
    plain = secrets.CARDS[0]
    for card in secrets.CARDS:
        code = (
            f"bitville_apm_add_context('n', [{plain}, -{plain}, {plain}.0, '{card}', {plain} => 1, 'a {card} b' => 1]);"
        )
        code += f"bitville_apm_set_endpoint('pay {card}'); throw new Exception('card {card} refused');"
        uri = f"/pay/{quote(card)}?n={quote(card)}&{quote(card)}=1&x[{quote(card)}]={quote(card)}"
        headers = FORM | {"X-Note": f"card {card}", "Referer": f"https://h/{quote(card)}"}
        agent = asked(site, fpm, code, uri, method="POST", body=f"{card}=1&a={card}".encode(), headers=headers)
        assert leaks(agent, card, quote(card), plain, "4.111111111111111") == []
    assert "[CARD-REDACTED]" in agent.received.decode()


def test_bodies_that_are_no_forms(site: Site, fpm: Fpm) -> None:
    """PHP-09: a body of JSON is not sent at all."""
    agent = asked(
        site, fpm, method="POST", body=json.dumps({"x": SECRET}).encode(), headers={"Content-Type": "application/json"}
    )
    assert leaks(agent) == []


def test_keys_of_ones_own(site: Site, fpm: Fpm) -> None:
    """PHP-07, PHP-09: `redact_keys` adds names, in every spelling and place."""
    site.configure(profiling_threshold_ms=0, redact_keys="iban, kunden_nummer")
    query = f"iban={SECRET}&KundenNummer={SECRET}&a[my-iban]={SECRET}&b=" + quote(f'{{"kundenNummer":"{SECRET}"}}')
    agent = asked(site, fpm, f"throw new Exception('iban: {SECRET}');", "/?" + query, headers={"X-Iban": SECRET})
    assert leaks(agent) == []


@pytest.mark.parametrize("mode", ["names", "off"])
def test_modes(site: Site, fpm: Fpm, mode: str) -> None:
    """PHP-09: with `names` or `off` no value at all is sent, however harmless its name."""
    site.configure(profiling_threshold_ms=0, capture_get=mode, capture_post=mode, capture_headers=mode, client_ip="off")
    agent = asked(
        site,
        fpm,
        f"header('X-Mine: {SECRET}');",
        f"/?colour={SECRET}&a[b][]={SECRET}",
        method="POST",
        body=f"size={SECRET}&n[]={SECRET}".encode(),
        headers=FORM | {"X-Other": SECRET, "Referer": SECRET},
        REMOTE_ADDR="203.0.113.99",
    )
    assert leaks(agent, SECRET, "203.0.113.99") == []


def test_a_redaction_that_fails(site: Site, tmp_path: Any) -> None:
    """PHP-09: where PHP's pattern matching gives up, the value is not sent."""
    code = "ini_set('pcre.jit', '0'); ini_set('pcre.backtrack_limit', '0'); ini_set('pcre.recursion_limit', '0');"
    code += (
        f"bitville_apm_add_context('plain', '{SECRET}'); bitville_apm_add_context('a', ['x=1 {SECRET}', '{SECRET}']);"
    )
    code += f"bitville_apm_set_endpoint('/x/{SECRET}'); bitville_apm_external('{SECRET}', 1);"
    code += f"throw new Exception('{SECRET}');"
    with site.agent() as agent:
        site.run(code)
        end = agent.one("end")
    assert leaks(agent) == []
    assert "[REDACTED]" in json.dumps(end)
