"""profiling.ini: every spelling, every mistake."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from tests.php.peer import PHP, Site


def config(site: Site, text: str, code: str = "", env: dict[str, str] | None = None) -> dict[str, Any]:
    """What the client makes of a settings file."""
    site.configure(text)
    program = "".join(f"require {json.dumps(str(PHP / 'src' / name))};" for name in ("Limits.php", "Config.php"))
    program += code + "echo json_encode(get_object_vars(BitvilleApm\\Config::load()));"
    read: dict[str, Any] = json.loads(site.run(program, client=False, env=env).stdout)
    return read


@pytest.mark.parametrize(
    "text",
    [
        "profiling_enabled = 1\nprofiling_threshold_ms = 250\ndaemon_socket_path = /s",
        "enabled = on\nthreshold_ms = 250\nlistener_socket = /s",
        "[profiling]\nenabled = yes\nthreshold_ms = 250\n[listener]\nlistener_socket_path = /s",
        '[bitville_apm]\nenabled = true\nthreshold_ms=250\nsocket_path="/s"',
        "; a note\n[xhprof]\nenabled = 0\nthreshold_ms = 9\n"
        "[profiling]\nenabled = '1' ; a note\nthreshold_ms = 250\nsocket_path='/s'",
        "ENABLED = ON\nProfiling_Threshold_MS = 250\nDAEMON_SOCKET_PATH = /s",
        "enabled = 0\nprofiling_enabled = 1\n"
        "threshold_ms = 1\nprofiling_threshold_ms = 250\nsocket_path = /x\ndaemon_socket_path=/s",
    ],
)
def test_spellings(site: Site, text: str) -> None:
    """PHP-07: the first version's spellings are accepted, with and without sections; the full names win."""
    read = config(site, text)
    assert (read["enabled"], read["thresholdMs"], read["socket"]) == (True, 250, "/s")


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


@pytest.mark.parametrize(
    ("line", "key", "value"),
    [
        ("profiling_threshold_ms = soon", "thresholdMs", 500),
        ("profiling_threshold_ms = -5", "thresholdMs", 0),
        ("profiling_threshold_ms = 1e400", "thresholdMs", 500),
        ("listener_timeout_ms = 900", "deadlineMs", 50),
        ("listener_timeout_ms = 0", "deadlineMs", 1),
        ("profiler_period_ms = 0", "periodMs", 1),
        ("profiler = rocket", "profiler", "auto"),
        ("capture_post = all", "post", "values"),
        ("daemon_socket_path = relative/path", "socket", "/var/run/bitville-apm/daemon.sock"),
        ("disk_buffer_path =", "spool", "/var/lib/bitville-apm/buffer/php"),
        ("disk_buffer_max_age = 99999999", "spoolAgeS", 604800),
        ("sql_stack_trace_limit = 5000", "sqlStackFrames", 20),
        ("redact_keys = iban, kundennummer", "redactKeys", ["iban", "kundennummer"]),
        ("unknown_key = 1", "thresholdMs", 500),
    ],
)
def test_senseless_values(site: Site, line: str, key: str, value: object) -> None:
    """PHP-07: a value that makes no sense is the default, one out of bounds the nearest bound."""
    read = config(site, "profiling_enabled = 1\n" + line)
    assert read["enabled"] is True
    assert read[key] == value


def test_projects(site: Site) -> None:
    """PHP-08: `{project}` is the constant, the environment's or `project_name`, in socket and spool; never a path."""
    text = "profiling_enabled = 1\nproject_name = shop\ndaemon_socket_path = /run/{project}.sock\n"
    read = config(site, text)
    assert (read["socket"], read["spool"]) == ("/run/shop.sock", "/var/lib/bitville-apm/buffer/shop")
    read = config(site, text, env={"BITVILLE_APM_PROJECT": "blog"})
    assert read["socket"] == "/run/blog.sock"
    read = config(site, text, "define('BITVILLE_APM_PROJECT', 'wiki');", env={"BITVILLE_APM_PROJECT": "blog"})
    assert read["socket"] == "/run/wiki.sock"
    read = config(site, text, env={"BITVILLE_APM_PROJECT": "../../tmp/evil"})
    assert read["socket"] == "/run/php.sock"
    read = config(site, text + "disk_buffer_path = /spool/{project}/")
    assert read["spool"] == "/spool/shop"
    # One socket for all projects is the section without a name, whatever the project is called.
    read = config(site, "profiling_enabled = 1\nproject_name = shop")
    assert read["spool"] == "/var/lib/bitville-apm/buffer/php"


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
