"""The agent is absent, hung, torn off or slow: nothing is lost, and nobody waits twice for nothing."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import socket
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.php.peer import PHP, Fpm, Site, eventually, reset

TIMED = "class T { public $t; function __destruct() { echo (int) ((hrtime(true) - $this->t) / 1e6); } }"
TIMED += "$x = new T; register_shutdown_function(function () use ($x) { $x->t = hrtime(true); });"
"""Prints how long everything after the application's shutdown functions took, in ms."""


def visible(site: Site) -> list[str]:
    return sorted(path.name for path in site.spool.iterdir() if not path.name.startswith("."))


def in_time(site: Site, before: Callable[[], None], holds: Callable[[], bool]) -> None:
    """Run a request until what depends on an answer within 50 ms holds: a busy machine may need several."""
    for _ in range(20):
        for path in site.spool.iterdir():
            path.unlink()
        before()
        site.run("echo 1;")
        if holds():
            return
    raise AssertionError("it never came to hold")


def unsent(site: Site) -> list[dict[str, Any]]:
    """What the spool holds of records that had not reached the agent.

    The stand-in may answer later than the deadline on a busy machine; then what was sent is spooled as sent, rightly.
    """
    whole = [record for record in site.spooled() if not record["sent"]]
    return whole + [line for line in site.spooled_short() if line["t"] == "end"]


def test_absent_agent_whole_record(site: Site) -> None:
    """COMM-03, COMM-08: without an agent a whole record is a file of its own: named, 0640, complete, `sent` false."""
    site.configure(profiling_threshold_ms=0)
    assert site.run("echo 'page';").stdout == b"page"
    (name,) = visible(site)
    assert re.fullmatch(r"profile_\d{8}_\d{6}_[0-9a-f]{8}\.json", name)
    assert stat.S_IMODE((site.spool / name).stat().st_mode) == 0o640
    (record,) = site.spooled()
    assert (record["v"], record["sent"]) == (2, False)
    assert record["line"]["t"] == "end"
    assert record["line"]["request"]["method"] == "CLI"


def test_absent_agent_short_records(site: Site, fpm: Fpm) -> None:
    """COMM-03: short records of one worker are lines of one file."""
    for _ in range(6):
        fpm.get(site, "echo 1;")
    eventually(lambda: len(site.spooled_short()) == 6)
    names = visible(site)
    assert 1 <= len(names) <= 3
    assert all(re.fullmatch(r"short_\d+_[0-9a-f]{4}\.ndjson", name) for name in names)
    assert [line["t"] for line in site.spooled_short()] == ["end"] * 6


def test_agent_that_comes_while_the_request_runs(site: Site, fpm: Fpm) -> None:
    """COMM-03: an agent that was away at the beginning gets begin and end together."""
    with fpm.open(site, "while (!is_file(__DIR__ . '/go')) usleep(1000);") as connection:
        time.sleep(0.2)
        with site.agent() as agent:
            (site.root / "go").touch()
            connection.recv(1 << 16)
            # PHP-FPM waits for the web server to close before it lets a worker go on.
            connection.close()
            agent.drained()
    assert [line["t"] for line in agent.lines] == ["begin", "end"]
    assert unsent(site) == []


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_broken_connection_is_opened_once_more(site: Site, how: str) -> None:
    """COMM-03: a held connection that broke is opened once more, begin first, under the same id."""

    def misbehave(connection: socket.socket, record: dict[str, Any]) -> None:
        if record["t"] == "begin" and len(agent.connections) == 1:
            reset(connection) if how == "reset" else connection.shutdown(socket.SHUT_RDWR)

    with site.agent(on_line=misbehave) as agent:
        site.run("usleep(100000);")
        end = agent.one("end")
        agent.drained(2)
    assert [[line["t"] for line in lines] for lines in agent.connections] == [["begin"], ["begin", "end"]]
    assert {line["id"] for line in agent.lines} == {end["id"]}
    assert unsent(site) == []


def test_agent_that_dies_before_its_answer(site: Site) -> None:
    """COMM-03: an end that was sent whole but not answered goes out again, same id, and then into the spool."""
    site.configure(profiling_threshold_ms=0)

    def misbehave(connection: socket.socket, record: dict[str, Any]) -> None:
        if record["t"] == "end":
            connection.shutdown(socket.SHUT_RDWR)

    with site.agent(on_line=misbehave, answer=None) as agent:
        site.run("echo 1;")
        agent.drained(2)
    ends = [line for line in agent.lines if line["t"] == "end"]
    (record,) = site.spooled()
    assert [end["id"] for end in ends] == [record["line"]["id"]] * 2
    assert record["sent"] is True


def test_no_answer_whole(site: Site) -> None:
    """COMM-01: no answer within the deadline: a spool file marked `sent`, and a `spooled` line to the agent."""
    site.configure(profiling_threshold_ms=0)
    with site.agent(answer=None) as agent:
        waited = int(site.run(TIMED).stdout)
        agent.drained()
    assert [line["t"] for line in agent.lines] == ["begin", "end", "spooled"]
    (record,) = site.spooled()
    assert record["sent"] is True
    assert record["line"]["id"] == agent.lines[2]["id"]
    assert 45 <= waited < 1000


def test_no_answer_short(site: Site) -> None:
    """COMM-03: a short record sent whole but not answered is only counted, so that it is not counted twice."""
    with site.agent(answer=None) as agent:
        site.run("echo 1;")
        agent.drained()
    assert site.spooled_short() == [{"t": "count", "unconfirmed": 1}]
    assert [line["t"] for line in agent.lines] == ["begin", "end"]


def test_a_slow_answer_counts(site: Site) -> None:
    """COMM-03: an answer that comes late but within the deadline is waited for; nothing goes into the spool."""

    def late(connection: socket.socket, record: dict[str, Any]) -> None:
        if record["t"] == "end":
            time.sleep(0.02)

    with site.agent(on_line=late):
        in_time(site, lambda: None, lambda: visible(site) == [])


def test_listener_timeout_is_at_most_the_deadline(site: Site) -> None:
    """PHP-07, COMM-01: `listener_timeout_ms` can shorten the wait and never lengthen it."""
    site.configure(listener_timeout_ms=5000)
    with site.agent(answer=None):
        assert 45 <= int(site.run(TIMED).stdout) < 1000
    site.configure(listener_timeout_ms=1)
    with site.agent(answer=None):
        assert int(site.run(TIMED).stdout) < 50


def test_hung_agent_gets_what_it_does_not_read(site: Site) -> None:
    """COMM-01: an agent that hangs is still sent begin and end; its kernel keeps them until it is back."""
    with site.agent(accepting=False) as agent:
        for _ in range(5):
            site.run("echo 1;")
        agent._start(agent._accept)
        agent.drained(5)
    assert [line["t"] for line in agent.lines].count("end") == 5


def test_three_misses_mark_a_hung_agent(site: Site, fpm: Fpm) -> None:
    """COMM-11: after three deadlines missed within a second nobody waits any more, and all is still sent."""
    with site.agent(answer=None) as agent:
        while not (site.spool / ".hung").exists():
            fpm.get(site, "")
            assert len(agent.lines) < 60
        waited = int(site.run(TIMED).stdout)
        assert waited < 50
        agent.all("end", 4)


def test_misses_that_are_apart_mark_nothing(site: Site) -> None:
    """COMM-11: `.miss` counts by its size within a second; older ones are forgotten."""
    miss = site.spool / ".miss"
    miss.write_text("..")
    os.utime(miss, (time.time() - 30, time.time() - 30))
    with site.agent(answer=None):
        # On a busy machine the worker's own run delay explains a miss, and it is not counted.
        for _ in range(20):
            if miss.read_text() == "..":
                site.run("")
    assert not (site.spool / ".hung").exists()
    assert miss.read_text() == "."


def test_stale_heartbeat_marks_a_hung_agent(site: Site) -> None:
    """COMM-11: a heartbeat older than three seconds is a hung agent at once: no wait, but everything is sent."""
    alive = site.socket.parent / "alive"
    alive.touch()
    os.utime(alive, (time.time() - 10, time.time() - 10))
    with site.agent(answer=None) as agent:
        assert int(site.run(TIMED).stdout) < 50
        agent.all("begin")
        agent.all("end")
    assert (site.spool / ".hung").exists()


def test_young_heartbeat_clears_the_mark(site: Site) -> None:
    """COMM-11: a heartbeat younger than the mark clears it, and the client waits again."""
    hung, alive = site.spool / ".hung", site.socket.parent / "alive"
    hung.touch()
    os.utime(hung, (time.time() - 5, time.time() - 5))
    alive.touch()
    with site.agent() as agent:
        site.run("")
        agent.one("end")
    assert not hung.exists()


def test_an_answer_clears_the_mark(site: Site) -> None:
    """COMM-11: without a heartbeat a mark of some seconds lets one worker try, and its answer clears the mark."""
    hung = site.spool / ".hung"

    def mark() -> None:
        hung.touch()
        os.utime(hung, (time.time() - 60, time.time() - 60))

    with site.agent():
        in_time(site, mark, lambda: not hung.exists())


def test_a_torn_line_is_spooled_as_not_sent(site: Site) -> None:
    """COMM-09: where the socket takes only a part, the record is in the spool as not sent, and nothing follows it."""
    site.configure(profiling_threshold_ms=0)
    # Fills the buffer of a peer that does not read.
    code = "for ($i = 0; $i < 2000; $i++) { bitville_apm_set_endpoint(str_repeat('x', 150) . $i); }"
    code += "bitville_apm_add_context('big', array_fill(0, 400, str_repeat('y', 400)));"
    with site.agent(accepting=False) as agent:
        site.run(code)
        agent._start(agent._accept)
        agent.drained()
    (record,) = site.spooled()
    assert record["sent"] is False
    assert {line["t"] for line in agent.lines} == {"begin", "route"}


def test_spool_switched_off(site: Site) -> None:
    """PHP-07: `disk_buffer_enabled = 0`: nothing is written."""
    site.configure(disk_buffer_enabled=0, profiling_threshold_ms=0)
    assert site.run("echo 1;").returncode == 0
    assert list(site.spool.iterdir()) == []


@pytest.mark.parametrize("where", ["missing", "a file"])
def test_unusable_spool(site: Site, where: str) -> None:
    """COMM-03, PHP-13: a spool that cannot be written loses the record, and the page never knows."""
    site.spool.rmdir()
    if where == "a file":
        site.spool.write_text("")
    done = site.run("echo 'page';")
    assert (done.stdout, done.stderr, done.returncode) == (b"page", b"", 0)


def test_a_workers_file_of_short_records_is_bounded(site: Site) -> None:
    """COMM-08: beyond 1 MiB a worker's short records are only counted, in one last line that does not grow."""
    code = """
    bitville_apm_end();
    $name = glob($argv[1] . '/short_*')[0];
    $line = file_get_contents($name);
    file_put_contents($name, str_repeat($line, intdiv((1 << 20) - 64, strlen($line))));
    for ($i = 0; $i < 3; $i++) {
        bitville_apm_begin(str_repeat('a long name ', 10));
        bitville_apm_end();
        clearstatcache();
        echo filesize($name), ' ';
    }
    """
    name = site.run(code, str(site.spool)).stdout.split()
    sizes = [int(size) for size in name]
    assert sizes[0] == sizes[1] == sizes[2] <= 1 << 20
    assert site.spooled_short()[-1] == {"t": "count", "unconfirmed": 0, "left_out": 3}


def bounded_client(site: Site, **numbers: int) -> Path:
    """A copy of the client with smaller bounds: 50,000 real files would prove nothing more."""
    copy = site.root / "client"
    shutil.copytree(PHP, copy)
    limits = copy / "src" / "Limits.php"
    text = limits.read_text()
    for name, value in numbers.items():
        text, found = re.subn(rf"const {name} = [^;]+;", f"const {name} = {value};", text)
        assert found == 1, name
    limits.write_text(text)
    return copy / "prepend.php"


def test_the_spool_is_bounded_in_files(site: Site) -> None:
    """COMM-08: the oldest files go first, and their removal is logged with its number."""
    site.configure(profiling_threshold_ms=0)
    stub = bounded_client(site, SPOOL_FILES=10)
    for i in range(12):
        old = site.spool / f"profile_20200101_0000{i:02}_00000000.json"
        old.write_text("{}")
        os.utime(old, (time.time() - 1000 + i, time.time() - 1000 + i))
    log = site.root / "php.log"
    site.run("", prepend=stub, php={"error_log": log})
    names = visible(site)
    assert len(names) <= 10
    assert "profile_20200101_000000_00000000.json" not in names
    assert "profile_20200101_000011_00000000.json" in names
    assert re.search(r"Bitville APM: the spool .* removed 4 ", log.read_text())


def test_the_spool_is_bounded_in_bytes(site: Site) -> None:
    """COMM-08: bytes are bounded too, counted from write to write without reading the directory each time."""
    site.configure(profiling_threshold_ms=0)
    stub = bounded_client(site, SPOOL_BYTES=20_000)
    code = "bitville_apm_add_context('x', str_repeat('y', 900));"
    for _ in range(3):
        jobs = f"for ($i = 0; $i < 20; $i++) {{ bitville_apm_begin('j'); {code} bitville_apm_end(); }}"
        site.run(jobs, prepend=stub)
        assert sum(path.stat().st_size for path in site.spool.iterdir()) <= 20_000
    assert len(visible(site)) > 5


def test_the_spool_forgets_after_a_week(site: Site) -> None:
    """COMM-08: files older than the bound go, and so does a temporary file that was left behind."""
    week = time.time() - 8 * 86_400
    for name in ("profile_20200101_000000_00000000.json", "short_1_0000.ndjson", "profile_x.json.tmp"):
        (site.spool / name).write_text("{}")
        os.utime(site.spool / name, (week, week))
    site.configure(profiling_threshold_ms=0)
    site.run("")
    assert len(visible(site)) == 1


def test_messages_once_a_minute_for_all(site: Site) -> None:
    """PHP-14: each kind of message is logged at most once a minute for the pool, with the prefix, without content."""
    log = site.root / "php.log"
    with site.agent(answer=None):
        for _ in range(3):
            site.run("bitville_apm_add_context('who', 'joe');", php={"error_log": log})
    lines = log.read_text().splitlines()
    assert len(lines) == 1
    assert "Bitville APM: handing a request over took" in lines[0]
    assert "joe" not in lines[0]


def test_of_two_workers_one_says_it(site: Site) -> None:
    """PHP-14: a message that another worker is about to log is that worker's: at the same moment one of them does."""
    log, mark = site.root / "php.log", site.spool / ".said-handover"
    mark.touch()
    os.utime(mark, (time.time() - 100, time.time() - 100))
    with site.agent(answer=None):
        with mark.open() as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            site.run("", php={"error_log": log})
        assert not log.exists()
        site.run("", php={"error_log": log})
    assert log.read_text().count("Bitville APM") == 1


def test_nothing_on_stderr_of_a_command(site: Site) -> None:
    """PHP-13: without an error log PHP's would be the command's own stderr: then nothing is said."""
    with site.agent(answer=None):
        assert site.run("").stderr == b""


def test_visitor_that_left(site: Site, fpm: Fpm) -> None:
    """PHP-11: a visitor who closed the connection does not keep the end from the agent."""
    with site.agent() as agent:
        with fpm.open(site, "usleep(200000); echo str_repeat('x', 1000000);"):
            agent.one("begin")
        agent.one("end")
