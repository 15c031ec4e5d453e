"""The shop under real PHP, with the client on and an agent to hear it."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from bitville_apm.demo import trouble
from bitville_apm.demo.carrier import Carrier
from bitville_apm.demo.children import Children
from bitville_apm.demo.interpreter import NoPhp, Php
from bitville_apm.demo.place import Place
from bitville_apm.demo.run import free_port
from bitville_apm.demo.shop import Shop
from bitville_apm.demo.visits import Visit
from tests.demo.standin import Standin
from tests.tools import require


@attrs.frozen
class Running:
    shop: Shop
    agent: Standin
    carrier: Carrier

    def record(self, visit: Visit) -> tuple[int, str, dict[str, Any]]:
        """Status, body and the end record of one visit."""
        path = visit.uri.partition("?")[0]
        before = len(self.agent.ends(path))
        status, body = self.shop.ask(visit)
        deadline = time.monotonic() + 5
        while len(self.agent.ends(path)) == before:
            assert time.monotonic() < deadline, "no record of it came"
            time.sleep(0.01)
        return status, body.decode(errors="replace"), self.agent.ends(path)[-1]


def php(flavour: str, directory: Path) -> Php:
    """php-fpm, or PHP's own server as on a machine without php-fpm."""
    if flavour == "fpm":
        require("php-fpm8.2")
        return Php.find()
    require("php")
    (directory / "bin").mkdir()
    (directory / "bin" / "php").symlink_to(str(shutil.which("php")))
    return Php.find(str(directory / "bin"))


@pytest.fixture(scope="module", params=["fpm", "cli"])
def running(request: pytest.FixtureRequest) -> Iterator[Running]:
    directory = Path(tempfile.mkdtemp(prefix="bv-"))
    try:
        with Place.taken(directory / "d", {}) as place, Standin(place.socket) as agent:
            place.write_settings(1, 2)
            carrier = Carrier()
            carrier.start()
            binary = php(request.param, directory)
            shop = Shop(binary, place.home, place.profiling_ini, free_port(18480), carrier.url)
            shop.prepare()
            children = Children(place.state / "logs", place.state / "processes")
            child = children.start("shop", shop.command(), shop.environment())
            try:
                deadline = time.monotonic() + 15
                while not _answers(shop):
                    child.check()
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
                yield Running(shop, agent, carrier)
            finally:
                children.stop()
                carrier.stop()
    finally:
        shutil.rmtree(directory)


def _answers(shop: Shop) -> bool:
    try:
        return shop.ask(Visit("GET", "/", 0))[0] == 200
    except (OSError, http.client.HTTPException):
        return False


@pytest.mark.parametrize(
    ("visit", "status", "text"),
    [
        (Visit("GET", "/", 1), 200, "Best sellers"),
        (Visit("GET", "/category/garden-tools", 1), 200, "/product/"),
        (Visit("GET", "/product/42", 1), 200, "Add to cart"),
        (Visit("GET", "/search?q=oak", 1), 200, "Search: oak"),
        (Visit("POST", "/cart", 1, {"product": "42", "quantity": "2"}), 303, ""),
        (Visit("GET", "/cart", 1), 200, "No. 42<"),
        (Visit("GET", "/api/stock", 1), 200, '"low":[{'),
        (Visit("GET", "/api/prices?ids=1,2", 1), 200, '"prices":[{'),
        (Visit("GET", "/api/delivery/3", 1), 200, '"delivery":490'),
        (Visit("GET", "/feed", 1), 200, "<rss version"),
        (Visit("POST", "/login", 1, {"name": "v1", "password": "secret"}), 200, "Welcome back"),
        (Visit("POST", "/login", 1, {"name": "v1", "password": "guess"}), 403, "not it"),
        (Visit("GET", "/admin/report?months=2", 1), 200, "<tr><td>2</td>"),
        (Visit("GET", "/product/99999", 1), 404, "Not found"),
        (Visit("GET", "/nowhere", 1), 404, "Not found"),
    ],
)
def test_pages(running: Running, visit: Visit, status: int, text: str) -> None:
    """COMM-06: each page answers as it should with the client loaded through auto_prepend_file, and leaves a record."""
    answered, body, record = running.record(visit)
    assert (answered, text in body) == (status, True)
    assert record["response"]["status"] == status


def test_markup_of_visitors_is_text(running: Running) -> None:
    """What a visitor types is shown, not run."""
    body = running.record(Visit("GET", "/search?q=%3Cscript%3E", 1))[1]
    assert "&lt;script&gt;" in body
    assert "<script>" not in body


def test_the_slow_page(running: Running) -> None:
    """PHP-01, PHP-03, PHP-06: the checkout is kept whole, with the slow statement and both slow functions by name."""
    status, _, record = running.record(Visit("POST", "/checkout", 1))
    assert status == 200
    assert record["ms"] > 500
    assert not record.get("short")
    slow = [query for query in record["sql"]["queries"] if query.get("slow")]
    assert len(slow) == 1
    assert "FROM order_line b WHERE b.price * b.quantity" in slow[0]["sql"]
    assert "Reports->slow_totals" in slow[0]["stack"][0]
    if running.shop.php.has("excimer"):
        assert "Shop\\Reports::slow_totals " in record["profile"]["stacks"]
        assert "Shop\\Invoice::render_pdf " in record["profile"]["stacks"]


def test_the_page_with_too_many_statements(running: Running) -> None:
    """PHP-06: the order history asks once for every line of every order, and all of it is counted."""
    _, body, record = running.record(Visit("GET", "/orders/7", 1))
    lines = body.count("<tr>")
    assert lines > 100
    assert record["sql"]["n"] > lines


def test_the_burner(running: Running) -> None:
    """PHP-03: recommendations are nothing but CPU (or waiting for one), in one function."""
    _, _, record = running.record(Visit("GET", "/recommendations", 1))
    executed_ms, delayed_ms = (ns / 1e6 for ns in record["ss"])
    assert executed_ms > 50
    assert executed_ms + delayed_ms > 0.8 * record["ms"]
    assert record["sql"]["ms"] < 0.2 * record["ms"]


def test_the_error(running: Running) -> None:
    """PHP-11: an exception that nobody catches is a fatal error of the request, with its message and place."""
    status, body, record = running.record(Visit("POST", "/voucher", 1, {"code": "X"}))
    assert status == 500
    assert "Stack trace" not in body
    assert "voucher service" in record["fatal"]["message"]
    assert record["fatal"]["file"].endswith("Pages.php")


def test_the_route_names_the_endpoint(running: Running) -> None:
    """PHP-15: the one line in the front controller gives the route, whatever the address is."""
    assert running.record(Visit("GET", "/category/tea", 1))[2]["request"]["route"] == "GET /category/{slug}"


def test_only_the_modules_it_needs(running: Running) -> None:
    """A machine's php.ini may load tideways or Xdebug, which slow every request down: the shop's does not."""
    command = [running.shop.php.binary, "-c", str(running.shop.home / "php.ini"), "-m"]
    modules = subprocess.run(
        command, capture_output=True, text=True, env=dict(os.environ) | {"PHP_INI_SCAN_DIR": ""}, check=True
    ).stdout.lower()
    assert "pdo_sqlite" in modules
    assert "tideways" not in modules
    assert "xdebug" not in modules


def test_the_database_is_made_once_by_many(tmp_path: Path) -> None:
    """Several first requests at once make one whole database: nobody sees half a shop."""
    require("php")
    found = Php.find()
    (tmp_path / "php.ini").write_text(found.ini())
    code = (
        "require getenv('SRC') . '/Database.php';"
        "echo Shop\\Database::open()->query('SELECT count(*) FROM order_line')->fetchColumn();"
    )
    source = str(Path(__file__).parent.parent.parent / "bitville_apm" / "demo" / "shop" / "src")
    environment = dict(os.environ) | {"PHP_INI_SCAN_DIR": "", "SRC": source, "SHOP_DATA": str(tmp_path)}
    command = ["php", "-c", str(tmp_path / "php.ini"), "-r", code]
    asked = [subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) for _ in range(6)]
    answers = {process.communicate()[0] for process in asked}
    assert len(answers) == 1
    assert int(answers.pop()) > 1000


def test_the_picture(running: Running) -> None:
    """A picture is a whole bitmap."""
    body = running.shop.ask(Visit("GET", "/image/7", 1))[1]
    assert body[:2] == b"BM"
    assert len(body) == int.from_bytes(body[2:6], "little")


def test_the_carrier(running: Running) -> None:
    """PHP-16: what another host took is told by its name, and is no CPU; one that is slow makes its page slow."""
    usual = running.record(Visit("GET", "/api/delivery/3", 1))[2]
    running.carrier.delay, before = 0.4, running.carrier.delay
    try:
        slow = running.record(Visit("GET", "/api/delivery/3", 1))[2]
    finally:
        running.carrier.delay = before
    for record in (usual, slow):
        assert [call["target"] for call in record["calls"]] == ["carrier.example"]
    assert slow["calls"][0]["ms"] > 390 > usual["calls"][0]["ms"]
    assert slow["ss"][0] / 1e6 < 200


def test_troubles_are_switched_by_a_file(running: Running) -> None:
    """Each trouble is met by the page it is meant for, by no other, not after its time, and not without its file."""
    product, home = Visit("GET", "/product/42", 1), Visit("GET", "/", 1)
    soon = time.time() + 60
    usual = running.record(product)[2]
    with trouble.switched(running.shop.data, {"n+1": {"until": soon, "page": "GET /product/{id}", "rounds": 3}}):
        several = running.record(product)[2]
        other = running.record(home)[2]
    assert several["sql"]["n"] == usual["sql"]["n"] + 18
    assert other["sql"]["n"] <= 2
    burner = {"until": soon, "page": "GET /", "ms": 300}
    with trouble.switched(running.shop.data, {"burner": burner}):
        assert running.record(home)[2]["ss"][0] / 1e6 > 290
    with trouble.switched(running.shop.data, {"burner": burner | {"until": time.time() - 1}}):
        assert running.record(home)[2]["ss"][0] / 1e6 < 290
    with trouble.switched(running.shop.data, {"stampede": {"until": soon}}):
        menus = [running.record(product)[2]["sql"]["n"] for _ in range(2)]
    assert menus == [usual["sql"]["n"] + 1] * 2 or menus == [usual["sql"]["n"]] * 2  # the first of all made it too
    assert running.record(product)[2]["sql"]["n"] == min(usual["sql"]["n"], 3)


def test_a_deployed_release_serves(running: Running) -> None:
    """PHP-18: after a deployment the next request runs the new release's files, and says so by itself."""
    if running.shop.releases is None:
        pytest.skip("PHP's own server resolves its document root once")
    before = running.record(Visit("GET", "/", 1))[2]["release"]
    name = running.shop.releases.deploy()
    record = running.record(Visit("GET", "/", 1))[2]
    assert before != record["release"] == name
    error = running.record(Visit("POST", "/voucher", 1, {"code": "X"}))[2]["fatal"]["file"]
    assert f"/releases/{name}/" in error


def test_the_night_work(running: Running) -> None:
    """PHP-15: a job of the command line is a request of its own, named by its script and first word."""
    command = running.shop.job()
    if command is None:
        pytest.skip("no PHP for the command line")
    done = subprocess.run(command, env=running.shop.environment(), capture_output=True, text=True, check=True)
    assert done.stdout == "300000 words\n"
    jobs = [line for line in running.agent.lines if line.get("t") == "end" and line["request"]["method"] == "CLI"]
    assert jobs
    assert jobs[-1]["request"]["uri"].endswith("cron.php reindex")


def test_it_goes_with_a_killed_demo(running: Running, tmp_path: Path) -> None:
    """When the demo is killed with SIGKILL, PHP and every worker of it ends."""
    shop = attrs.evolve(running.shop, home=tmp_path, port=free_port(18600))
    shop.prepare()
    (tmp_path / "logs").mkdir()
    code = (
        "import time; from pathlib import Path; from bitville_apm.demo.children import Children\n"
        f"c = Children(Path('logs'), Path('processes'))\n"
        f"print(c.start('shop', {shop.command()!r}, {shop.environment()!r}).process.pid, flush=True)\ntime.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=tmp_path) as demo:
        assert demo.stdout is not None
        group = int(demo.stdout.readline())
        while not _answers(shop):
            time.sleep(0.05)
        assert len(_group(group)) > 8
        demo.kill()
    deadline = time.monotonic() + 10
    while _group(group):
        assert time.monotonic() < deadline, _group(group)
        time.sleep(0.1)


def _group(group: int) -> list[str]:
    """The processes of a group that still run."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, its_group = stat.read_text().rpartition(")")[2].split()[:3]
            if int(its_group) == group and state not in "ZX":
                found.append(stat.parent.name)
    return found


def test_without_php_it_says_what_is_missing(tmp_path: Path) -> None:
    """No PHP, or one without SQLite, is a sentence that says what to install."""
    with pytest.raises(NoPhp, match="no php"):
        Php.find(str(tmp_path))
    binary = tmp_path / "php"
    binary.write_text("#!/bin/sh\necho 'PHP Version => 8.2.1'\n")
    binary.chmod(0o755)
    with pytest.raises(NoPhp, match=r"no pdo and no pdo_sqlite.*apt install php-sqlite3"):
        Php.find(str(tmp_path))
