"""The stub: what was there before it still runs, and the client can be switched off, broken or exchanged beneath it."""

from __future__ import annotations

import re
import shutil
import time
from pathlib import Path

import pytest

from bitville_apm.cli.php_files import copy_to
from tests.php.peer import LISTENER, PHP, Fpm, Site, base_options, eventually
from tests.tools import lacking

FOREIGN = """
$from_foreign = 'its variable'; $GLOBALS['n'] = ($GLOBALS['n'] ?? 0) + 1;
function from_foreign() { return 'its function'; }
register_shutdown_function(function () { echo '[its shutdown]'; });
echo $undefined_in_foreign;
"""
PAGE = "echo $from_foreign, $n, from_foreign(), ' ', implode(',', array_keys(get_defined_vars()));"


def installed(site: Site, foreign: Path | str | None = None) -> Path:
    """A client of its own for this test, as `bitville php install` makes it; its stub."""
    folder = site.root / "installed"
    copy_to(folder, stub=False)
    if foreign is not None:
        (folder / "chain.php").write_text(f"<?php\nrequire '{foreign}';\n")
    return folder / "prepend.php"


def break_it(stub: Path, how: str) -> None:
    """The client beneath a stub as a bad day may leave it."""
    listener = stub.with_name("listener.php")
    (client,) = stub.parent.glob("client-*.php")
    if how == "off":
        stub.with_name("off").touch()
    elif how == "no listener":
        listener.unlink()
    elif how == "no client":
        client.unlink()
    elif how == "torn listener":
        listener.write_text(listener.read_text()[:700])
    elif how == "torn client":
        client.write_text(client.read_text()[:50_000])
    elif how == "throwing":
        listener.write_text("<?php throw new Exception('x');")
    elif how == "warning":
        listener.write_text("<?php trigger_error('never seen');")


@pytest.mark.parametrize(
    "how", ["whole", "off", "no listener", "no client", "torn listener", "torn client", "throwing"]
)
def test_a_foreign_prepend_file_runs_as_without_us(site: Site, how: str) -> None:
    """PHP-17: what auto_prepend_file named before runs in global scope, once, its warnings its own, in any state."""
    foreign = site.script(FOREIGN, "foreign.php")
    stub = installed(site, foreign)
    break_it(stub, how)
    shown = {"display_errors": 1, "html_errors": 0}
    plain = site.run(PAGE, php=shown | {"auto_prepend_file": foreign}, client=False)
    done = site.run(PAGE, php=shown, prepend=stub)
    assert b"Undefined variable $undefined_in_foreign in " + bytes(foreign) in plain.stdout
    assert (done.stdout, done.stderr, done.returncode) == (plain.stdout, plain.stderr, plain.returncode)


@pytest.mark.parametrize(
    "code", ["exit(4);", "throw new LogicException('its own');", "return 1; echo 'not reached';", "$x = ;"]
)
def test_a_foreign_prepend_file_that_ends_things(site: Site, code: str) -> None:
    """PHP-17: exit, exceptions and parse errors of the foreign file are neither caught nor softened."""
    foreign = site.script(code, "foreign.php")
    stub = installed(site, foreign)
    plain = site.run("echo 'page';", php={"auto_prepend_file": foreign}, client=False)
    done = site.run("echo 'page';", prepend=stub)
    # The trace of an exception names one file more that required it.
    assert done.stdout.split(b"Stack trace")[0] == plain.stdout.split(b"Stack trace")[0]
    assert done.returncode == plain.returncode


def test_a_foreign_prepend_file_that_is_missing(site: Site) -> None:
    """PHP-17: it is reported as PHP would: a fatal error, no page, the same exit code."""
    stub = installed(site, "/nowhere/foreign.php")
    plain = site.run("echo 'page';", php={"auto_prepend_file": "/nowhere/foreign.php"}, client=False)
    done = site.run("echo 'page';", prepend=stub)
    assert done.returncode == plain.returncode == 255
    for said in (done.stdout, plain.stdout):
        assert b"Failed opening required '/nowhere/foreign.php'" in said
        assert b"page" not in said


def test_the_foreign_files_time_is_the_requests(site: Site) -> None:
    """PHP-17: the client begins first, so that what the foreign file takes is measured."""
    stub = installed(site, site.script("usleep(30000);", "foreign.php"))
    with site.agent() as agent:
        site.run("", prepend=stub)
        assert agent.one("end")["ms"] >= 30


@pytest.mark.parametrize("how", ["no listener", "torn listener", "no client", "torn client", "warning"])
def test_a_broken_client_leaves_no_trace(site: Site, how: str) -> None:
    """PHP-17: whatever is wrong beneath the stub, there is no output and no last error of it."""
    stub = installed(site)
    break_it(stub, how)
    code = "echo 'page'; var_dump(error_get_last(), set_error_handler(null));"
    plain = site.run(code, client=False)
    done = site.run(code, prepend=stub, php={"display_errors": 1, "error_reporting": -1})
    assert (done.stdout, done.stderr, done.returncode) == (plain.stdout, b"", 0)


def test_open_basedir_that_knows_only_the_stub(site: Site) -> None:
    """PHP-13: an open_basedir without the client's other files costs the measurement, not the page."""
    stub = installed(site)
    done = site.run("echo 'page';", prepend=stub, php={"open_basedir": f"{stub}:{site.root}/app.php"})
    assert (done.stdout, done.stderr, done.returncode) == (b"page", b"", 0)


def test_an_installed_client_measures_as_the_source_does(site: Site, fpm: Fpm) -> None:
    """PHP-17: the one file that install writes is the whole client: profile, statements, helpers."""
    code = "$d = new BitvilleApm\\Pdo('sqlite::memory:'); $d->query('select 42'); usleep(50000);"
    code += "bitville_apm_add_context('a', 1);"
    site.configure(profiling_threshold_ms=0)
    with site.agent() as agent:
        site.run(code)
        site.run(code, prepend=installed(site))
        one, two = agent.all("end", 2)
    assert one.keys() == two.keys()
    assert [query["sql"] for query in two["sql"]["queries"]] == ["select ?"]
    assert two["profile"]["stacks"]


def test_off_and_on_within_a_second_without_a_reload(site: Site, tmp_path: Path) -> None:
    """PHP-17: a file beside the client switches every worker of a running pool off and on, whatever OPcache holds.

    With the realpath and stat caches at their longest, and OPcache never looking at a file again.
    """
    stub = installed(site)
    cached = {"opcache.validate_timestamps": 0, "realpath_cache_ttl": 3600, "opcache.enable_file_override": 1}
    server = Fpm(tmp_path, stub=stub, php=cached)
    page = "echo bitville_apm_is_active() ? 'on' : 'off', class_exists('BitvilleApm\\\\Pdo') ? '' : 'gone';"
    try:
        with site.agent():
            for state in ("on", "off", "on", "off"):
                switch = stub.with_name("off")
                switch.touch() if state == "off" else switch.unlink(missing_ok=True)
                changed = time.monotonic()
                assert {server.get(site, page).body for _ in range(9)} == {state.encode()}
                assert time.monotonic() - changed < 1 or state == "on", "nine pages of three workers"
    finally:
        server.stop()


def test_a_worker_that_runs_for_days_is_switched_too(site: Site) -> None:
    """PHP-17: a worker looks at the switch before each job, off or on when it began; what runs is finished."""
    stub = installed(site)
    switch = stub.with_name("off")
    code = f"""
    foreach (['touch', 'rm', 'touch', 'rm'] as $i => $do) {{
        is_file({str(switch)!r});
        exec("$do {switch}");
        bitville_apm_begin("job $i"); echo bitville_apm_is_active() ? 'on ' : 'off ';
        bitville_apm_end();
    }}
    bitville_apm_begin('never ended by hand');
    """
    with site.agent() as agent:
        assert site.run(code, prepend=stub).stdout == b"off on off on "
        ends = [end["request"]["uri"] for end in agent.all("end", 4)]
        assert ends[1:] == ["job 1", "job 3", "never ended by hand"]
    switch.touch()
    with site.agent() as agent:
        assert site.run(code, prepend=stub).stdout == b"off on off on "
        ends = [end["request"]["uri"] for end in agent.all("end", 3)]
        assert ends == ["job 1", "job 3", "never ended by hand"]


def test_off_is_no_request_at_all(site: Site) -> None:
    """PHP-17, PHP-10: switched off there is no connection and no file; helpers and classes are still there."""
    stub = installed(site)
    break_it(stub, "off")
    code = "bitville_apm_add_context('a', 1); echo bitville_apm_correlation_id(), 'page';"
    code += "new BitvilleApm\\Pdo('sqlite::memory:');"
    with site.agent() as agent:
        done = site.run(code, prepend=stub)
    assert (done.stdout, done.stderr, done.returncode) == (b"page", b"", 0)
    assert agent.connections == []
    assert list(site.spool.iterdir()) == []


BESIDE = {
    "tideways": ({"tideways_xhprof.clock_use_rdtsc": 0}, ("pdo", "pdo_sqlite", "excimer", "tideways_xhprof")),
    "jit": ({"opcache.enable_cli": 1, "opcache.jit_buffer_size": "16M", "opcache.jit": "tracing"}, None),
    "function jit": ({"opcache.enable_cli": 1, "opcache.jit_buffer_size": "16M", "opcache.jit": "function"}, None),
    "strict opcache": ({"opcache.enable_cli": 1, "opcache.enable_file_override": 1, "opcache.save_comments": 0}, None),
    "xdebug": ({"zend_extension": "xdebug", "xdebug.mode": "develop,coverage"}, None),
}
BUSY = """
function fib($n) { return $n < 2 ? $n : fib($n - 1) + fib($n - 2); }
if (function_exists('tideways_xhprof_enable')) tideways_xhprof_enable();
echo fib(17), ini_get('opcache.jit');
$d = new PDO('sqlite::memory:'); foreach ($d->query('select 1') as $r) echo $r[0];
if (function_exists('tideways_xhprof_disable')) echo isset(tideways_xhprof_disable()['fib==>fib@1']) ? 'p' : '';
class D { function __destruct() { echo 'gone'; } } $o = [new D]; trigger_error('mine'); exit(3);
"""


@pytest.mark.parametrize("name", BESIDE)
@pytest.mark.parametrize("agent", [True, False])
def test_beside_other_extensions(site: Site, name: str, agent: bool) -> None:
    """PHP-13: beside another profiler, a debugger and the JIT, output and exit code are those without us."""
    php, extensions = BESIDE[name]
    extensions = extensions or ("pdo", "pdo_sqlite", "excimer")
    directory = Path(base_options(extensions)[1].split("=", 1)[1])
    needed = {"tideways": "tideways_xhprof.so", "xdebug": "xdebug.so"}.get(name, "opcache.so")
    if not (directory / needed).exists():
        lacking(f"PHP's {needed} is missing on this machine")
    php = {"display_errors": 1} | ({} if name == "xdebug" else {"zend_extension": "opcache"}) | php
    plain = site.run(BUSY, php=php, extensions=extensions, client=False)
    assert plain.returncode == 3
    if agent:
        with site.agent() as peer:
            done = site.run(BUSY, php=php, extensions=extensions)
            peer.one("end")
    else:
        done = site.run(BUSY, php=php, extensions=extensions)
    # Xdebug's messages tell the time and the memory at each line of their stack.
    said, wanted = (re.sub(rb"\d+\.\d{4} +\d+ ", b"", output) for output in (done.stdout, plain.stdout))
    assert (said, done.stderr, done.returncode) == (wanted, plain.stderr, plain.returncode)


@pytest.mark.parametrize("preloads", ["the application", "the client"])
def test_preload(site: Site, tmp_path: Path, preloads: str) -> None:
    """PHP-13: preloading is no request; preloaded classes are used, and each page is measured."""
    library = site.script("final class Preloaded { static function say() { return 'preloaded'; } }", "library.php")
    preload = LISTENER if preloads == "the client" else library
    page = "echo Preloaded::say();" if preloads == "the application" else "echo 'page';"
    server = Fpm(tmp_path, php={"opcache.preload": preload, "opcache.preload_user": "root"})
    try:
        with site.agent() as agent:
            for _ in range(4):
                answer = server.get(site, page)
                assert answer.body in (b"preloaded", b"page")
                assert answer.errors == b""
            assert len(agent.all("end", 4)) == 4
    finally:
        server.stop()
    assert site.spooled_short() == []


def test_a_flood_says_each_thing_once(site: Site, tmp_path: Path) -> None:
    """PHP-14: many pages of a pool that cannot hand over or spool: one line of each kind, and none of its content."""
    server = Fpm(tmp_path)
    try:
        with site.agent(answer=None):
            for i in range(30):
                server.get(site, "bitville_apm_add_context('who', 'joe-secret');", f"/page/{i}?token=joe-secret")
        shutil.rmtree(site.spool)
        for _ in range(30):
            server.get(site, "bitville_apm_add_context('who', 'joe-secret');")
        log = server.log
        eventually(lambda: "Bitville APM" in log.read_text())
    finally:
        server.stop()
    said = [line for line in server.log.read_text().splitlines() if "Bitville APM:" in line]
    kinds = [line.split("Bitville APM:")[1].split(" took")[0] for line in said]
    assert len(kinds) == len(set(kinds)) >= 1, said
    assert "joe" not in server.log.read_text()
    assert PHP.name not in "".join(kinds)
