"""profiling.ini: every spelling, every mistake."""

from __future__ import annotations

import os

import pytest

from tests.php.peer import Site

BROKEN = {
    "empty": b"",
    "broken": b'profiling_enabled = 1\n[[[ = "\n)(',
    "binary": os.urandom(64).replace(b"\n", b"") + b"\0\xff",
    "a page": b"<html><body>not found</body></html>",
    "off": b"profiling_enabled = off\n",
    "senseless": b"profiling_enabled = perhaps\n",
    "list": b"profiling_enabled[] = 1\n",
}


@pytest.mark.parametrize("name", [*BROKEN, "missing", "a directory"])
def test_off_unless_switched_on(site: Site, name: str) -> None:
    """PHP-07: a missing or broken file means off, silently: no connection, no file, no output."""
    site.ini.unlink()
    if name == "a directory":
        site.ini.mkdir()
    elif name != "missing":
        site.ini.write_bytes(BROKEN[name])
    with site.agent() as agent:
        done = site.run("echo bitville_apm_is_active() ? 'on' : 'off';")
    assert (done.stdout, done.stderr, done.returncode) == (b"off", b"", 0)
    assert agent.connections == []
    assert list(site.spool.iterdir()) == []


def test_memory_tracking(site: Site) -> None:
    """PHP-07, PHP-05: `memory_tracking`."""
    site.configure(memory_tracking="off")
    with site.agent() as agent:
        site.run("")
        assert "memory" not in agent.one("end")


def test_changes_act_at_once(site: Site) -> None:
    """PHP-17: the file is read by each request: `off` and `on` need no reload."""
    with site.agent() as agent:
        site.run("")
        site.configure(profiling_enabled=0)
        site.run("")
        site.configure()
        site.run("")
        assert len(agent.all("end", 2)) == 2


def test_a_socket_path_that_is_too_long(site: Site) -> None:
    """PHP-13: PHP would cut such a path with a notice and connect elsewhere: it is an absent agent."""
    site.configure(daemon_socket_path="/" + "x" * 200)
    done = site.run("echo 'page';")
    assert (done.stdout, done.stderr) == (b"page", b"")
    assert len(site.spooled_short()) == 1
