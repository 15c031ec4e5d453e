"""The lines of a request on the wire: begin, route, end."""

from __future__ import annotations

import json
import os
import re
import socket
import time
from typing import Any

import pytest

from bitville_apm import reading
from tests.php.peer import Fpm, Site

UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\Z")


def test_begin_before_the_application(site: Site, fpm: Fpm) -> None:
    """COMM-02, PHP-02: the begin line is with the agent before the application's first line runs."""
    with site.agent() as agent:
        with fpm.open(site, "while (!is_file(__DIR__ . '/go')) usleep(1000);", "/x?id=5&token=abc") as connection:
            begin = agent.one("begin")
            assert [line["t"] for line in agent.lines] == ["begin"]
            (site.root / "go").touch()
            connection.recv(1 << 16)
        agent.one("end")
    assert UUID4.match(begin["id"])
    assert begin["v"] == 2
    assert begin["method"] == "GET"
    assert begin["uri"] == "/x?id=&token="
    assert begin["client"] == "203.0.113.77"
    assert abs(begin["at"] - time.time()) < 60
    assert isinstance(begin["pid"], int)
    assert all(isinstance(ns, int) for ns in begin["ss"])


def test_end_follows_on_the_same_connection(site: Site) -> None:
    """COMM-02: begin and end of a request travel on one connection, under one id, each a line of JSON."""
    with site.agent() as agent:
        site.run("echo 1;")
        agent.drained()
    (lines,) = agent.connections
    assert [line["t"] for line in lines] == ["begin", "end"]
    assert lines[0]["id"] == lines[1]["id"]
    assert lines[0]["at"] == lines[1]["at"]
    assert agent.torn == []


@pytest.mark.parametrize("answer", [b"+", b"-"])
def test_an_answer_is_final(site: Site, answer: bytes) -> None:
    """COMM-03: `+` (journal) and `-` (quarantine) both end the matter: nothing in the spool."""
    site.configure(profiling_threshold_ms=0)
    with site.agent(answer=answer):
        # On a busy machine the stand-in may be later than the deadline; then the record is rightly spooled.
        for _ in range(20):
            site.run("echo 1;")
            if not site.spooled():
                return
            for path in site.spool.iterdir():
                path.unlink()
    raise AssertionError("an answered record was spooled each time")


def test_fast_requests_are_short(site: Site, fpm: Fpm) -> None:
    """PHP-01: under the threshold a record has no headers, post, files or server, and is marked `short`."""
    with site.agent() as agent:
        fpm.get(site, "echo 1;", "/p?a=1", method="POST", body=b"b=2", headers={"Content-Type": "text/plain"})
        end = agent.one("end")
    assert end["short"] is True
    assert end["request"] == {"method": "POST", "uri": "/p?a="}
    assert end["response"] == {"status": 200}
    assert "server" not in end
    assert end["memory"]["peak_bytes"] >= end["memory"]["current_bytes"] > 0


def test_slow_requests_are_whole(site: Site, fpm: Fpm) -> None:
    """PHP-01, PHP-04: from the threshold on everything is in the record."""
    site.configure(profiling_threshold_ms=50)
    with site.agent() as agent:
        fpm.get(
            site,
            "header('X-Shop: 1'); http_response_code(404); usleep(60000);",
            "/p?a=1&b[]=2",
            method="POST",
            body=b"c=3",
            headers={"Content-Type": "application/x-www-form-urlencoded", "Accept": "text/html"},
        )
        end = agent.one("end")
    assert end["short"] is False
    assert end["ms"] >= 60
    assert end["request"]["query"] == {"a": "1", "b": ["2"]}
    assert end["request"]["post"] == {"c": "3"}
    assert end["request"]["files"] == {}
    assert end["request"]["headers"]["Accept"] == "text/html"
    assert end["response"]["status"] == 404
    assert end["response"]["headers"]["X-Shop"] == "1"
    server = end["server"]
    assert server["sapi"] == "fpm-fcgi"
    assert server["pool"] == "shop"
    assert server["software"] == "test/1"
    assert server["script"].endswith("app.php")
    assert server["hostname"] == socket.gethostname()


def test_the_agent_understands_every_line(site: Site, fpm: Fpm) -> None:
    """COMM-02: what the client writes passes the agent's own check."""
    site.configure(profiling_threshold_ms=0)
    seen: list[dict[str, Any]] = []
    with site.agent() as agent:
        fpm.get(
            site,
            "$d = new BitvilleApm\\Pdo('sqlite::memory:'); $d->exec('create table t(a)');"
            "bitville_apm_set_endpoint('shop/{id}'); bitville_apm_external('api.example.org', 3);"
            "bitville_apm_add_context('cart', ['n' => INF, 'o' => new stdClass, 'bad' => \"\\xff\\xfe\"]);"
            "usleep(50000);",
            "/\xff?q=\xfe",
        )
        agent.one("end")
        seen = list(agent.lines)
    for line in seen:
        reading.read_line(json.dumps(line).encode(), 0)
    assert [line["t"] for line in seen] == ["begin", "route", "end"]
    assert seen[2]["context"]["cart"] == {"n": "INF", "o": "object stdClass", "bad": "��"}
    assert seen[2]["calls"][0]["target"] == "api.example.org"
    assert seen[2]["request"]["route"] == seen[1]["route"] == "shop/{id}"


def test_cpu_is_that_of_the_request(site: Site) -> None:
    """PHP-03: `ss` is what this request used; a sleeping one uses nearly nothing of its wall time."""
    with site.agent() as agent:
        site.run("$e = hrtime(true) + 1e8; while (hrtime(true) < $e) {}")
        busy = agent.one("end")
        site.run("usleep(300000);")
        asleep = agent.all("end", 2)[1]
    assert busy["ss"][0] + busy["ss"][1] > 50_000_000
    assert asleep["ss"][0] < 100_000_000
    assert asleep["ms"] >= 300


def test_wall_time_without_the_clients_own(site: Site) -> None:
    """PHP-01: `ms` counts from the start of the request, without the client's own work, which is told apart."""
    with site.agent() as agent:
        site.run("usleep(20000);")
        end = agent.one("end")
    assert end["ms"] >= 20
    assert end["client_us"] > 0


@pytest.mark.parametrize(
    ("arguments", "word"),
    [(("queue:work", "--x"), " queue:work"), (("4711",), ""), (("--force",), ""), ((), "")],
)
def test_command_lines(site: Site, arguments: tuple[str, ...], word: str) -> None:
    """PHP-15: a command line is named by its script and its command, never by a value."""
    with site.agent() as agent:
        site.run("", *arguments)
        end = agent.one("end")
    assert end["request"]["method"] == "CLI"
    assert end["request"]["uri"] == f"{site.root}/app.php{word}"
    assert "response" not in end


def test_jobs_of_a_worker(site: Site) -> None:
    """PHP-10: begin and end by hand make each job a request of its own; the time between belongs to none."""
    code = """
    bitville_apm_end();
    $ids = [bitville_apm_correlation_id()];
    foreach (['mail', 'report'] as $job) {
        bitville_apm_begin($job);
        $ids[] = bitville_apm_correlation_id();
        bitville_apm_add_context('job', $job);
        bitville_apm_end();
    }
    echo json_encode($ids);
    """
    with site.agent() as agent:
        out = site.run(code).stdout
        agent.drained(3)
        ends = agent.all("end", 3)
    assert [end["request"].get("route") for end in ends] == [None, "mail", "report"]
    assert [end.get("context") for end in ends] == [None, {"job": "mail"}, {"job": "report"}]
    assert json.loads(out) == ["", ends[1]["id"], ends[2]["id"]]


def test_a_forked_child_says_nothing(site: Site) -> None:
    """PHP-13: a child process ends without ending its parent's request."""
    code = "$p = pcntl_fork(); if ($p === 0) { exit(3); } pcntl_waitpid($p, $s); echo pcntl_wexitstatus($s);"
    with site.agent() as agent:
        out = site.run(code)
        agent.drained()
    assert out.stdout == b"3"
    assert [line["t"] for line in agent.lines] == ["begin", "end"]


def test_trace_and_queue(site: Site, fpm: Fpm) -> None:
    """ADV-04, PHP-18: a traceparent is kept, and the wait in front of PHP is taken from X-Request-Start."""
    trace = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"
    with site.agent() as agent:
        headers = {"Traceparent": trace, "X-Request-Start": f"t={time.time() - 2:.3f}", "User-Agent": "Googlebot/2.1"}
        fpm.get(site, "", headers=headers)
        end = agent.one("end")
    assert end["trace"] == {"traceparent": trace}
    assert 1900 < end["queue_ms"] < 60_000
    assert end["agent"] == "googlebot"


def test_release_from_a_linked_document_root(site: Site, fpm: Fpm) -> None:
    """PHP-18: without a setting the release is the directory that the document root's link leads to."""
    (site.root / "releases" / "42" / "public").mkdir(parents=True)
    (site.root / "current").symlink_to("releases/42")
    with site.agent() as agent:
        fpm.get(site, "", DOCUMENT_ROOT=f"{site.root}/current/public")
        assert agent.all("begin")[0]["release"] == "42"
        fpm.get(site, "", DOCUMENT_ROOT=f"{site.root}/current/public", BITVILLE_APM_RELEASE="v7")
        assert agent.all("begin", 2)[1]["release"] == "v7"


def test_release_from_a_resolved_document_root(site: Site, fpm: Fpm) -> None:
    """PHP-18: where the web server resolves the link (`$realpath_root`), the next request tells the new release."""
    with site.agent() as agent:
        for n, release in enumerate(("42", "43", "42"), 1):
            (site.root / "releases" / release / "public").mkdir(parents=True, exist_ok=True)
            fpm.get(site, "", DOCUMENT_ROOT=f"{site.root}/releases/{release}/public")
            assert agent.all("begin", n)[-1]["release"] == release


def test_opcache_every_ten_seconds(site: Site, fpm: Fpm) -> None:
    """PHP-18: one record of the pool in ten seconds tells OPcache's memory, hit rate and restarts."""
    with site.agent() as agent:
        for _ in range(3):
            fpm.get(site, "")
        assert sum("php" in end for end in agent.all("end", 3)) == 1
        mark = site.spool / ".opcache"
        os.utime(mark, (time.time() - 11, time.time() - 11))
        fpm.get(site, "")
        again = agent.all("end", 4)[3]
    told = again["php"]["opcache"]
    assert told["used_bytes"] > 0
    assert 0 <= told["hit_rate"] <= 100
    assert told["restarts"] == 0
