"""Networks, proxies and pace, asked of a real collector; a real nginx is the proxy."""

from __future__ import annotations

import html
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from treq.testing import StubTreq
from twisted.internet.task import Clock
from twisted.web.resource import Resource
from twisted.web.static import Data

from bitville_apm import limits
from bitville_apm.collector.gate import Gate
from bitville_apm.peers import Peers, networks
from bitville_apm.rates import Rates
from tests.collector.rig import Rig, free_port, running
from tests.store.make import end_body, new_id
from tests.tools import require

ELSEWHERE = {"X_Forwarded_For": "203.0.113.9"}


def collector(directory: Path, extra: str) -> Iterator[Rig]:
    """A collector that believes this machine's word about others."""
    with running(directory, extra=extra) as rig:
        yield rig


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Rig]:
    """One that lets in a single network."""
    yield from collector(tmp_path, "allow = 192.0.2.0/24\ntrusted_proxies = 127.0.0.1\n")


@pytest.fixture
def believing(tmp_path: Path) -> Iterator[Rig]:
    """One behind proxies."""
    yield from collector(tmp_path, "trusted_proxies = 127.0.0.0/8\n")


@pytest.mark.parametrize(
    "path", ["/", "/health", "/ready", "/api/search", "/static/bitville.css", "/login", "/nothing"]
)
def test_allow(closed: Rig, path: str) -> None:
    """LIST-03: from outside the networks of `allow` nothing is answered but 403; from inside and from here, all is."""
    refused = closed.ask("GET", path, **ELSEWHERE)
    assert refused.status == 403
    assert refused.json["message"] == "203.0.113.9 is in none of the networks of [collector] allow"
    assert closed.ask("GET", path, X_Forwarded_For="192.0.2.77").status != 403
    assert closed.ask("GET", path).status != 403


def test_allow_counts_for_keys_too(closed: Rig) -> None:
    """LIST-03: a good key from elsewhere stores nothing."""
    assert closed.post(closed.local_key, end_body(new_id(), time.time()), **ELSEWHERE).status == 403


def test_pace() -> None:
    """LIST-06: who asks without end is told 429 and when to come again, and nobody else is."""
    clock, inside = Clock(), Resource()
    inside.putChild(b"page", Data(b"inside", "text/plain"))
    stub = StubTreq(Gate(inside, Peers(proxies=networks("0.0.0.0/0")), Rates(per_second=0.5, burst=3), clock))

    def ask(address: str) -> Any:
        got: list[Any] = []
        stub.get("http://collector.invalid/page", headers={"X-Forwarded-For": address}).addCallback(got.append)
        stub.flush()
        return got[0]

    assert [ask("203.0.113.9").code for _ in range(5)] == [200, 200, 200, 429, 429]
    refused = ask("203.0.113.9").headers
    assert [refused.getRawHeaders(name) for name in ("Retry-After", "X-RateLimit-Limit", "X-RateLimit-Remaining")] == [
        ["2"], ["3"], ["0"]
    ]  # fmt: skip
    assert ask("198.51.100.7").code == 200
    clock.advance(2)
    assert ask("203.0.113.9").code == 200


def test_ingest_tells_the_pace(believing: Rig) -> None:
    """LIST-06: every answer to a sender says how much is left."""
    answer = believing.post(believing.local_key, end_body(new_id(), time.time()))
    assert answer.status == 200, answer.body
    assert int(answer.headers["x-ratelimit-limit"]) == limits.REQUESTS_BURST
    assert int(answer.headers["x-ratelimit-remaining"]) == limits.REQUESTS_BURST - 1


def test_behind_nginx(tmp_path: Path, believing: Rig) -> None:
    """LIST-08: below a path of a proxy that does TLS people log in, stay below it, and get a cookie for TLS only."""
    require("nginx")
    port = free_port()
    conf = tmp_path / "nginx.conf"
    conf.write_text(
        f"""daemon off; pid {tmp_path}/nginx.pid; error_log {tmp_path}/nginx.err; worker_processes 1;
        events {{}}
        http {{ access_log off; client_body_temp_path {tmp_path}/b; proxy_temp_path {tmp_path}/p;
          fastcgi_temp_path {tmp_path}/f; uwsgi_temp_path {tmp_path}/u; scgi_temp_path {tmp_path}/s;
          server {{ listen 127.0.0.1:{port};
            location /apm/ {{ proxy_pass {believing.url}/; proxy_set_header Host $host:$server_port;
              proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Proto https;
              proxy_set_header X-Forwarded-Prefix /apm; }}
        }} }}"""
    )
    nginx = subprocess.Popen(["nginx", "-p", str(tmp_path), "-c", str(conf)], env={"PATH": "/usr/sbin:/usr/bin:/bin"})
    try:
        through = Rig(tmp_path / "unused", port=port)
        until = time.monotonic() + 10
        while time.monotonic() < until:
            try:
                through.ask("GET", "/apm/health")
                break
            except OSError:
                time.sleep(0.05)
        link = (believing.data / "login.url").read_text().strip()
        path = "/apm/login/" + link.rsplit("/", 1)[1]
        done = through.ask("POST", path, b"form_token=", Content_Type="application/x-www-form-urlencoded")
        assert (done.status, done.headers["location"]) == (303, "/apm/"), done.body
        cookie = done.headers["set-cookie"]
        assert "secure" in cookie.lower()
        page = through.ask("GET", "/apm/", Cookie=cookie.split(";")[0])
        addresses = set(re.findall(rb'(?:href|src|action)="(/[^"]*)"', page.body))
        assert len(addresses) > 5
        for address in addresses - {b"/apm/logout"}:
            answer = through.ask("GET", html.unescape(address.decode()), Cookie=cookie.split(";")[0])
            assert answer.status == 200, address
    finally:
        nginx.terminate()
        nginx.wait(10)
