"""Configuration: defaults, files, the environment, and errors that say what to do."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bitville_apm.agent.config import read_agent
from bitville_apm.collector.config import read_collector
from bitville_apm.ini import Address, ConfigError


def written(text: str, mode: int = 0o640) -> Path:
    path = Path("some.ini").absolute()
    path.write_text(text)
    path.chmod(mode)
    return path


def error_of(text: str, environment: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        read_agent(written(text), environment or {})
    return str(caught.value)


def test_an_empty_file_is_the_defaults() -> None:
    """An empty file means one PHP socket and the collector on this machine, at the paths of the documents."""
    read = read_agent(written(""), {})
    assert read == read_agent(None, {})
    assert str(read.php[0].socket) == "/var/run/bitville-apm/daemon.sock"
    assert str(read.php[0].spool) == "/var/lib/bitville-apm/buffer/php"
    assert str(read.agent.health) == "127.0.0.1:9191"
    assert (read.collector.url, read.collector.flush_seconds) == ("http://127.0.0.1:8443", 5.0)


def test_several_pools_each_with_its_own() -> None:
    """COMM-12: `[php NAME]` sections have socket, mode, group and key of their own."""
    read = read_agent(
        written("[php shop]\nsocket = /run/a.sock\nmode = 0600\nkey = bv_a_b\n[php blog]\nsocket = /run/b.sock\n"),
        {},
    )
    shop, blog = read.php
    assert (shop.name, shop.mode, shop.key) == ("shop", 0o600, "bv_a_b")
    assert (blog.name, blog.mode, str(blog.spool)) == ("blog", 0o660, "/var/lib/bitville-apm/buffer/blog")


def test_a_host_without_php() -> None:
    """CFG-05: a machine without PHP says so in one line, and the rest goes on; the host is on unless it is said."""
    read = read_agent(written("[php]\nenabled = no\n[host]\nproc = /host/proc\n"), {})
    assert read.php == ()
    assert (read.host.enabled, str(read.host.proc)) == (True, "/host/proc")
    assert not read_agent(written(""), {"BITVILLE_HOST_ENABLED": "no"}).host.enabled


def test_environment_over_file_over_default() -> None:
    """DAEMON-16: every key also as BITVILLE_<SECTION>[_<NAME>]_<KEY>, secrets also from a file."""
    Path("secret").write_text("bv_from_file\n")
    path = written("[collector]\nurl = https://a.example\nflush_seconds = 2\n[php my-shop]\n")
    read = read_agent(
        path,
        {
            "BITVILLE_COLLECTOR_URL": "https://b.example:1",
            "BITVILLE_COLLECTOR_KEY_FILE": str(Path("secret").absolute()),
            "BITVILLE_PHP_MY_SHOP_GROUP": "web",
            "BITVILLE_AGENT_HOST": "web7",
        },
    )
    assert read.collector.url == "https://b.example:1"
    assert read.collector.flush_seconds == 2
    assert read.collector.key == "bv_from_file"
    assert read.php[0].group == "web"
    assert read.agent.host == "web7"


def test_secrets_are_not_shown() -> None:
    """A key never reaches a log through the configuration's own text."""
    assert "bv_secret" not in repr(read_agent(written("[collector]\nkey = bv_secret\n[php]\nkey = bv_secret\n"), {}))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[agents]\n", "unknown section [agents]"),
        ("[agent x]\n", "unknown section [agent x]"),
        ("[agent]\nstat = /x\n", "[agent] has no key 'stat'"),
        ("[agent]\nstate = relative\n", "[agent] state = 'relative': an absolute path"),
        ("[agent]\nhealth = 9191\n", "host:port is wanted"),
        ("[agent]\nhealth = h:99999\n", "host:port is wanted"),
        ("[php]\nmode = 0666\n", "everybody may write"),
        ("[php]\nmode = rw\n", "octal mode"),
        ("[php ../x]\n", "a name has letters"),
        ("[php host]\n", "choose another"),
        ("[host]\nproc = proc\n", "an absolute path is wanted"),
        ("[php a]\nsocket=/s\n[php b]\nsocket=/s\n", "the same socket"),
        ("[collector]\nurl = http://apm.example\n", "plain http is sent to this machine only"),
        ("[collector]\nurl = ftp://x\n", "a URL is wanted"),
        ("[collector]\nflush_seconds = 0\n", "above 0"),
        ("[collector]\nflush_seconds = nan\n", "above 0"),
        ("[limits]\nfsync = sometimes\n", "one of interval, always, never"),
        ("[limits]\nmax_requests = -1\n", "whole requests are wanted, 1 or more; 0 for never"),
        ("[limits]\nmin_lifetime = 1h\n", "whole seconds are wanted, 0 or more"),
        ("[limits]\nmemory_mb = 10\n", "megabytes are wanted, 80 or more; 0 for never"),
        ("no section\n", "line 1 stands before the first [section]"),
        ("[agent]\n[agent]\n", "line 2: [agent] is there already"),
        ("[agent]\nstate = /a\nstate = /b\n", "line 3: [agent] has a state already"),
        ("[collector]\nkey\n[agent]\nstate\n", "line 2, 4: name = value is wanted"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_it(text: str, expected: str) -> None:
    """Errors a person can mend: one line with the file, the section, the key, and what is wanted."""
    message = error_of(text)
    assert expected in message
    assert message.startswith(str(Path("some.ini").absolute()))
    assert "\n" not in message


def test_a_line_that_is_not_understood_is_not_repeated() -> None:
    """PHP-09, CFG-06: a key without its `=` stands in no log."""
    for text in ("key bv_7_hunter2\n", "[collector]\nkey bv_7_hunter2\n"):
        assert "hunter2" not in error_of(text)


def test_a_world_readable_file_is_refused() -> None:
    """agent.ini may hold keys: readable by everybody it is refused, with the command that mends it."""
    with pytest.raises(ConfigError, match="chmod 640"):
        read_agent(written("", 0o644), {})


def test_a_missing_file_is_named() -> None:
    """A path that is given must be there."""
    with pytest.raises(ConfigError, match=r"none\.ini: cannot be read: No such file"):
        read_agent(Path("none.ini").absolute(), {})


def test_values_are_taken_as_they_stand() -> None:
    """No interpolation and no comments behind a value: a key with `%` or ` #` in it survives."""
    assert read_agent(written("[collector]\nkey = a%40b ; c # d\n"), {}).collector.key == "a%40b ; c # d"


def test_a_collector_reachable_from_outside_needs_tls() -> None:
    """The collector refuses a non-loopback address without TLS unless told `insecure = yes`."""
    with pytest.raises(ConfigError, match="without TLS"):
        read_collector(written("[collector]\nlisten = 0.0.0.0:8443\n"), {})
    insecure = "[collector]\nlisten = 0.0.0.0:8443\ninsecure = yes\n"
    assert read_collector(written(insecure), {}).collector.insecure
    tls = "[collector]\nlisten = [::]:8443\ncertificate = /c\nprivate_key = /k\n"
    assert read_collector(written(tls), {}).collector.listen == Address("::", 8443)
    with pytest.raises(ConfigError, match="belong together"):
        read_collector(written("[collector]\ncertificate = /c\n"), {})


def test_ingest_keys_from_the_environment() -> None:
    """LIST-03: BITVILLE_API_KEY_<PROJECT> is an ingest key of that project."""
    assert read_collector(None, {"BITVILLE_API_KEY_MY_SHOP": "k", "BITVILLE_API_KEY_X": ""}).keys == {"my-shop": "k"}


def test_datagrams_stay_on_this_machine(tmp_path: Path) -> None:
    """LIST-01: datagrams are not encrypted, so another address than this machine's own must be asked for twice."""
    path = tmp_path / "collector.ini"
    path.touch(0o640)
    outside = {"BITVILLE_COLLECTOR_UDP": "0.0.0.0:8444"}
    with pytest.raises(ConfigError, match="not encrypted"):
        read_collector(path, outside)
    assert str(read_collector(path, {**outside, "BITVILLE_COLLECTOR_INSECURE": "yes"}).collector.udp) == "0.0.0.0:8444"
    assert read_collector(path, {}).collector.udp is None


@pytest.mark.parametrize("udp", ["0.0.0.0:9192", "192.0.2.1:9192", "localhost:9192", "127.0.0.1:0", "9192", "[::]:1"])
def test_udp_is_for_this_machine_alone(udp: str) -> None:
    """COMM-07: datagrams are neither signed nor encrypted: an address that others reach is refused, in one line."""
    assert "[php] udp" in error_of(f"[php]\nudp = {udp}\n")


def test_datagram_sockets_are_off_until_asked_for() -> None:
    """COMM-07: `datagram` and `udp`, per section, and no two the same."""
    (php,) = read_agent(written(""), {}).php
    assert (php.datagram, php.udp) == (None, None)
    (php,) = read_agent(written("[php]\ndatagram = /run/a.dgram\nudp = [::1]:9192\n"), {}).php
    assert (str(php.datagram), str(php.udp)) == ("/run/a.dgram", "[::1]:9192")
    assert "the same" in error_of("[php]\nsocket = /run/a\ndatagram = /run/a\n")
    two = "[php a]\nsocket = /run/a\nudp = 127.0.0.1:1\n[php b]\nsocket = /run/b\nudp = 127.0.0.1:1\n"
    assert "the same" in error_of(two)


def test_the_first_versions_names() -> None:
    """DAEMON-16: its variables that have a counterpart go over the file; our own names go over them."""
    Path("apm.ini").write_text("[collector]\nlisten = 127.0.0.2:1\ndata = /data\n")
    Path("apm.ini").chmod(0o600)
    old = {
        "BITVILLE_PORT": "9443",
        "BITVILLE_DB_PATH": "/srv/apm/bitville.db",
        "BITVILLE_TLS_CERT_PATH": "/tls/cert.pem",
        "BITVILLE_TLS_KEY_PATH": "/tls/key.pem",
        "BITVILLE_UDP_PORT": "9444",
        "BITVILLE_RATE_LIMIT": "5",
        "BITVILLE_LOG_LEVEL": "debug",
    }
    read = read_collector(Path("apm.ini"), old).collector
    assert (str(read.listen), str(read.udp), read.data) == ("127.0.0.2:9443", "127.0.0.1:9444", Path("/srv/apm"))
    assert (read.certificate, read.private_key) == (Path("/tls/cert.pem"), Path("/tls/key.pem"))
    ours = {"BITVILLE_COLLECTOR_LISTEN": "127.0.0.1:1", "BITVILLE_COLLECTOR_DATA": "/mine"}
    read = read_collector(Path("apm.ini"), old | ours | {"BITVILLE_UDP_PORT": "0"}).collector
    assert (str(read.listen), read.udp, read.data) == ("127.0.0.1:1", None, Path("/mine"))


def test_the_first_versions_names_of_graylog() -> None:
    """DAEMON-16, GELF-06: off and on this machine by default; GRAYLOG_* of the first version, and ours over them."""
    off = read_collector(None, {}).graylog
    assert (off.enabled, str(off.address), off.protocol) == (False, "127.0.0.1:12201", "tcp")
    old = {"GRAYLOG_ENABLED": "true", "GRAYLOG_HOST": "log1", "GRAYLOG_PORT": "12202", "GRAYLOG_FACILITY": "apm"}
    read = read_collector(None, old).graylog
    assert (read.enabled, str(read.address), read.facility) == (True, "log1:12202", "apm")
    ours = {"BITVILLE_GRAYLOG_HOST": "log2", "BITVILLE_GRAYLOG_PORT": "1"}
    assert str(read_collector(None, old | ours).graylog.address) == "log2:1"


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("GRAYLOG_PORT", "gelf", "a port is wanted"),
        ("BITVILLE_PORT", "https", "a port is wanted"),
        ("BITVILLE_UDP_PORT", "70000", "a port is wanted"),
        ("BITVILLE_DB_PATH", "apm.db", "an absolute path is wanted"),
        ("BITVILLE_TLS_KEY_PATH", "key.pem", "an absolute path is wanted"),
    ],
)
def test_the_first_versions_names_with_nonsense(name: str, value: str, why: str) -> None:
    """DAEMON-16: what cannot be used is one line that names the variable as it was given."""
    with pytest.raises(ConfigError, match=f"{name} = '{value}': {why}"):
        read_collector(None, {name: value})


def test_the_first_versions_database() -> None:
    """DAEMON-16: BITVILLE_PG_* is `[postgres] dsn`, also without a file; a dsn of our own goes over it."""
    pytest.importorskip("psycopg")
    old = {"BITVILLE_PG_HOST": "db1", "BITVILLE_PG_USER": "apm", "BITVILLE_PG_PASSWORD": "it's \\ x"}
    (server,) = read_agent(None, old).postgres
    assert server.dsn == r"host='db1' user='apm' password='it\'s \\ x'"
    assert read_agent(None, {}).postgres == ()
    (server,) = read_agent(None, old | {"BITVILLE_POSTGRES_DSN": "host=mine"}).postgres
    assert server.dsn == "host=mine"


def test_the_environment_of_a_process() -> None:
    """DAEMON-16: the real environment, which takes nothing but text for a name, is read like any other."""
    assert read_collector(None, os.environ).collector.listen
    assert read_agent(None, os.environ).agent.state
