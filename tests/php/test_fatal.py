"""Requests that end badly are told of, with their cause."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bitville_apm.cli import php_files
from tests.php.peer import Fpm, Site

FATALS = {
    "uncaught": ("throw new RuntimeException('boom');", 1, "Uncaught RuntimeException: boom"),
    "undefined": ("undefined_function();", 1, "Call to undefined function undefined_function()"),
    "memory": ("$a = str_repeat('x', 1 << 30);", 1, "Allowed memory size"),
    "memory in small pieces": ("$a = []; while (true) $a[] = str_repeat('x', 100);", 1, "Allowed memory size"),
    "compile": ("file_put_contents(__DIR__.'/b.php', '<?php class A { function f(); }'); include 'b.php';", 64, "body"),
    "parse": ("file_put_contents(__DIR__.'/b.php', '<?php $x = ;'); include __DIR__.'/b.php';", 4, "syntax error"),
    "time": ("set_time_limit(1); while (true) {}", 1, "Maximum execution time"),
}


@pytest.mark.parametrize("name", FATALS)
def test_fatal_errors(site: Site, fpm: Fpm, name: str) -> None:
    """PHP-11: type, message, file and line of a fatal error, however fast it came, and a status of 500."""
    code, kind, message = FATALS[name]
    with site.agent() as agent:
        page = fpm.get(site, "ini_set('display_errors', '0');" + code)
        end = agent.one("end")
    assert page.status == 500
    fatal = end["fatal"]
    assert fatal["type"] == kind
    assert message in fatal["message"]
    assert "Stack trace" not in fatal["message"]
    assert fatal["file"].startswith(str(site.root))
    assert fatal["line"] >= 1
    assert end["response"]["status"] == 500
    assert end["short"] is False


def test_fatal_after_output(site: Site, fpm: Fpm) -> None:
    """PHP-04: a fatal error that followed a 200 is a 500 in the record."""
    with site.agent() as agent:
        page = fpm.get(site, "ini_set('display_errors', '1'); echo 'x'; flush(); undefined_function();")
        end = agent.one("end")
    assert page.status == 200
    assert end["response"]["status"] == 500


def test_warnings_are_not_fatal(site: Site) -> None:
    """PHP-11: only what ended the request is a fatal error."""
    with site.agent() as agent:
        site.run("error_reporting(0); echo $u; trigger_error('x', E_USER_ERROR);")
        assert "fatal" not in agent.one("end")


def test_fatal_that_a_shutdown_function_hides(site: Site) -> None:
    """PHP-11: a later warning in a shutdown function of the application does not hide the fatal error."""
    code = "register_shutdown_function(function () { @file_get_contents('/none'); error_clear_last(); }); nope();"
    with site.agent() as agent:
        site.run(code)
        assert "nope()" in agent.one("end")["fatal"]["message"]


@pytest.mark.parametrize("profiler", ["excimer", "none"])
@pytest.mark.parametrize("fixed", [False, True])
def test_out_of_memory_in_small_pieces(site: Site, profiler: str, fixed: bool) -> None:
    """PHP-11: memory used up to the last byte still leaves a record, also where the limit cannot be raised."""
    site.configure(profiler=profiler)
    code = "$d = new BitvilleApm\\Pdo('sqlite::memory:'); for ($i = 0; $i < 400; $i++) $d->query('select ' . $i);"
    code += "$a = []; while (true) $a[] = new ArrayObject([str_repeat('x', mt_rand(1, 3000))]);"
    php: dict[str, object] = {"memory_limit": "16M"}
    if fixed:
        php["disable_functions"] = "ini_set"
    with site.agent() as agent:
        done = site.run(code, php=php)
        end = agent.one("end")
    assert done.stdout.count(b"Fatal error") == 1
    assert "Allowed memory size" in end["fatal"]["message"]
    assert end["sql"]["n"] == 400
    assert ("memory" in end.get("sampled_down", [])) is fixed


@pytest.mark.parametrize("left", range(100_000, 3_000_000, 290_000))
def test_the_client_is_not_what_exhausts_memory(site: Site, left: int) -> None:
    """PHP-13: a request that ends just below its limit ends well, whatever of it is left for us."""
    code = f"$a = str_repeat('x', 16777216 - 2097152 - {left}); echo 'page';"
    php = {"memory_limit": "16M", "disable_functions": "ini_set"}
    with site.agent() as agent:
        done = site.run(code, php=php)
        agent.one("begin")
        assert (done.stdout, done.returncode) == (b"page", 0)
        agent.one("end")


def test_killed(site: Site) -> None:
    """PHP-11: a process that is killed leaves its begin line and no end: the agent calls it died."""
    with site.agent() as agent:
        site.run("posix_kill(getmypid(), 9);", extensions=("posix",))
        agent.drained()
    assert [line["t"] for line in agent.lines] == ["begin"]


def test_exit_within_a_shutdown_function(site: Site, fpm: Fpm) -> None:
    """PHP-11: exit() in a shutdown function ends all later ones; the end line arrives all the same."""
    with site.agent() as agent:
        page = fpm.get(site, "register_shutdown_function(function () { echo 'sorry'; exit(1); }); nope();")
        end = agent.one("end")
    assert page.body.endswith(b"sorry")
    assert "nope()" in end["fatal"]["message"]


def test_messages_are_redacted(site: Site) -> None:
    """PHP-09: neither an argument in a trace nor a secret in a message leaves."""
    code = "ini_set('zend.exception_ignore_args', '0');"
    code += "function f($p) { throw new Exception('token=geheim'); } f('geheim');"
    with site.agent() as agent:
        site.run(code)
        end: dict[str, Any] = agent.one("end")
    assert "Uncaught Exception: token=[REDACTED]" in end["fatal"]["message"]
    assert "geheim" not in json.dumps(agent.lines)


@pytest.mark.parametrize("size", [1000, 100_000])
def test_out_of_memory_before_the_client_is_in_opcache(site: Site, bare_fpm: Fpm, tmp_path: Path, size: int) -> None:
    """PHP-11, PHP-17: what is loaded at the end is compiled then: a page without memory for it shows no error of ours.

    OPcache does not keep files younger than `opcache.file_update_protection`.
    """
    home = site.root / "home"
    php_files.copy_to(home, stub=False)
    code = f"ini_set('memory_limit', '128M'); echo 'page'; $a = []; while (true) $a[] = str_repeat('x', {size});"
    plain = bare_fpm.get(site, code)
    server = Fpm(tmp_path, stub=home / "prepend.php", php={"opcache.file_update_protection": 3600})
    try:
        with site.agent() as agent:
            page = server.get(site, code)
            fatal = agent.one("end")["fatal"]
    finally:
        server.stop()
    assert (page.body, page.errors) == (plain.body, plain.errors)
    assert fatal["message"].startswith("Allowed memory size")
