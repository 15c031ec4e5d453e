"""Calls to other hosts: Guzzle, Laravel's and Symfony's clients with one line, anything else by a helper.

WordPress' own are in test_routes.py.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.php.peer import Site
from tests.tools import require

EXTENSIONS = ("mbstring", "ctype", "iconv", "curl")
SHARE = Path("/usr/share/php")


class Handler(BaseHTTPRequestHandler):
    """Answers after 30 ms; `/away` leads to `/there`."""

    def do_GET(self) -> None:
        time.sleep(0.03)
        self.send_response(302 if self.path == "/away" else 500 if self.path == "/broken" else 200)
        self.send_header("Location", "/there")
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"there")

    def log_message(self, *_: object) -> None: ...


@pytest.fixture(scope="module")
def other() -> Iterator[str]:
    """The URL of another host."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def run(site: Site, code: str, **settings: object) -> tuple[str, dict[str, Any]]:
    """What a script prints, and its record."""
    site.configure(None, **settings)
    with site.agent() as agent:
        done = site.run(code, extensions=EXTENSIONS)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.decode(), agent.one("end") if settings.get("profiling_enabled", 1) else {}


def debian(name: str, package: str) -> str:
    path = SHARE / name / "autoload.php"
    if not path.exists():
        require(package)
    return f"require '{path}';"


GUZZLE = """
$stack = GuzzleHttp\\HandlerStack::create();
var_dump(bitville_apm_attach_http($stack) === $stack, bitville_apm_attach_http($stack) === $stack);
$client = new GuzzleHttp\\Client(['handler' => $stack, 'timeout' => 5]);
echo $client->get('URL/')->getBody(), $client->get('URL/away')->getBody();
try { $client->get('URL/broken'); } catch (GuzzleHttp\\Exception\\ServerException $e) { echo ' 500'; }
try { $client->get('http://127.0.0.1:9/'); } catch (GuzzleHttp\\Exception\\ConnectException $e) { echo ' refused'; }
$both = GuzzleHttp\\Promise\\Utils::unwrap([$client->getAsync('http://localhost:PORT/'), $client->getAsync('URL/')]);
echo ' ', count($both);
"""

SYMFONY = """
$plain = Symfony\\Component\\HttpClient\\HttpClient::create();
$client = bitville_apm_attach_http($plain);
var_dump($client instanceof Symfony\\Contracts\\HttpClient\\HttpClientInterface);
var_dump(bitville_apm_attach_http($client) === $client);
echo $client->request('GET', 'URL/')->getContent(), $client->request('GET', 'URL/broken')->getStatusCode();
try { $client->request('GET', 'http://127.0.0.1:9/')->getContent(); }
catch (Symfony\\Contracts\\HttpClient\\Exception\\TransportExceptionInterface $e) { echo ' refused'; }
$two = [$client->request('GET', 'http://localhost:PORT/'), $client->request('GET', 'URL/')];
foreach ($client->stream($two) as $response => $chunk) {
    if ($chunk->isLast()) { echo ' ', $response->getStatusCode(); }
}
"""

LARAVEL = """
error_reporting(E_ALL & ~E_DEPRECATED);
use Illuminate\\Http\\Client\\ConnectionException;
$events = new Illuminate\\Events\\Dispatcher;
var_dump(bitville_apm_attach_http($events) === $events);
$client = new Illuminate\\Http\\Client\\Factory($events);
echo $client->get('URL/')->body(), $client->get('URL/broken')->status();
try { $client->get('http://127.0.0.1:9/'); } catch (ConnectionException $e) { echo ' refused'; }
echo $client->get('http://localhost:PORT/')->body();
"""


def prepared(code: str, other: str) -> str:
    return code.replace("URL", other).replace("PORT", other.rpartition(":")[2])


def by_host(end: dict[str, Any]) -> dict[str, int]:
    return {call["target"]: call["n"] for call in end["calls"]}


def test_guzzle_with_one_line(site: Site, other: str) -> None:
    """PHP-16, PHP-10: every call by its host with its time: redirects, failures, several at once; never its path."""
    code = debian("GuzzleHttp", "php-guzzlehttp-guzzle") + prepared(GUZZLE, other)
    out, end = run(site, code)
    assert out == "bool(true)\nbool(true)\ntherethere 500 refused 2"
    assert by_host(end) == {"127.0.0.1": 6, "localhost": 1}
    assert 120 <= end["calls"][0]["ms"] < end["ms"] * 6
    assert "away" not in str(end["calls"])
    assert run(site, code, profiling_enabled=0)[0] == out


def test_symfony_with_one_line(site: Site, other: str) -> None:
    """PHP-16, PHP-10: the same for Symfony's client, whose answers come later; off it stays the client it was."""
    code = debian("Symfony/Component/HttpClient", "php-symfony-http-client") + prepared(SYMFONY, other)
    out, end = run(site, code)
    assert out == "bool(true)\nbool(true)\nthere500 refused 200 200"
    assert by_host(end) == {"127.0.0.1": 4, "localhost": 1}
    assert end["calls"][0]["ms"] >= 80
    # By itself, and without ext-curl, version 5.4 leaves out the second of a stream.
    assert run(site, code, profiling_enabled=0)[0].startswith("bool(true)\nbool(true)\nthere500 refused 200")
    assert "Bitville" not in run(site, code + "echo get_class($client);", profiling_enabled=0)[0]


def test_laravel_with_one_line(site: Site, other: str) -> None:
    """PHP-16, PHP-10: the same for Laravel's client, by its events."""
    code = debian("GuzzleHttp", "php-guzzlehttp-guzzle") + debian("Illuminate/Events", "php-illuminate-events")
    code += debian("Illuminate/Http", "php-illuminate-http") + prepared(LARAVEL, other)
    out, end = run(site, code)
    assert out == "bool(true)\nthere500 refusedthere"
    assert by_host(end) == {"127.0.0.1": 3, "localhost": 1}
    assert end["calls"][0]["ms"] >= 60
    assert run(site, code, profiling_enabled=0)[0] == out


def test_what_is_no_client_comes_back(site: Site) -> None:
    """PHP-13: anything else handed over is returned as it is."""
    out, _ = run(
        site, "foreach ([null, 1, 'x', [], new stdClass] as $x) { var_dump(bitville_apm_attach_http($x) === $x); }"
    )
    assert out == "bool(true)\n" * 5


def test_a_hundred_hosts_and_no_more(site: Site) -> None:
    """PHP-16: at most 100 hosts by name; every further call is counted, with its time."""
    code = "for ($i = 0; $i < 250; $i++) bitville_apm_external('h' . $i, 2); bitville_apm_external('h0', 3.5);"
    code += "foreach ([NAN, INF, -5, '1.5', 'x', null] as $ms) bitville_apm_external('odd', $ms);"
    code += "bitville_apm_external([], 1); bitville_apm_external(new stdClass, 1);"
    _, end = run(site, code)
    calls = {call["target"]: call for call in end["calls"]}
    assert len(calls) == 101
    assert (calls["h0"]["n"], calls["h0"]["ms"]) == (2, 5.5)
    assert (calls["~other"]["n"], calls["~other"]["ms"]) == (150 + 4, 301.5)
